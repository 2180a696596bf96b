"""The numbers of messages that were heard: a hole in them is messages that were lost."""

from __future__ import annotations

import time
from typing import Final, final

# For so many senders to a group, and for so many in all groups together, some 300 bytes each. A sender that has been
# forgotten begins anew, which is no hole.
_MOST_SENDERS: Final = 256
_MOST_IN_ALL: Final = 50_000
# Ours have twelve characters. Anybody who may publish can name others.
_MOST_CHARACTERS: Final = 64
_MOST_SEQUENCE: Final = 1 << 63


@final
class Sequences:
    """The last number of each sender to each group, and when it came."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, tuple[int, float]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def missing(self, group: str, sender: str, sequence: int) -> tuple[int, float]:
        """Take note of a message; return how many of its sender's were lost before it, and since when."""
        if len(sender) > _MOST_CHARACTERS or not 0 < sequence < _MOST_SEQUENCE:
            return 0, 0.0
        heard = self._last.setdefault(group, {})
        now = time.time()
        known = heard.pop(sender, None)
        heard[sender] = (sequence, now)
        if known is None:
            self._count += 1
            self._make_room(group, heard)
            return 0, now
        last, since = known
        return max(0, sequence - last - 1), since

    def forget(self, group: str) -> None:
        """Whatever number of the group comes next follows on the last."""
        self._count -= len(self._last.pop(group, ()))

    def _make_room(self, group: str, heard: dict[str, tuple[int, float]]) -> None:
        if len(heard) > _MOST_SENDERS:
            del heard[next(iter(heard))]
            self._count -= 1
        if self._count > _MOST_IN_ALL:
            # Those of the group that has been known for longest; of this one they would be new at once.
            self.forget(next((other for other in self._last if other != group), group))
