"""Sequence numbers of messages: a gap in those received means that messages were lost."""

from __future__ import annotations

import time
from typing import Final, final

# Limits for each group and for all groups together, some 300 bytes for each sender. A sender that has been forgotten
# starts anew, without a gap.
_MAX_SENDERS: Final = 256
_MAX_IN_ALL: Final = 50_000
# Ours have twelve characters. Any publisher can invent others.
_MAX_CHARACTERS: Final = 64
_MAX_SEQUENCE: Final = 1 << 63

# Groups whose last sent number is stored. A group that has been forgotten starts anew, without a gap.
_MAX_GROUPS: Final = 10_000


@final
class SentSequences:
    """The last number sent to each group."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._last)

    def next(self, group: str) -> int:
        """Return the number of the next message to a group."""
        sequence = self._last.pop(group, 0) + 1
        self._last[group] = sequence
        if len(self._last) > _MAX_GROUPS:
            del self._last[next(iter(self._last))]
        return sequence


@final
class ReceivedSequences:
    """The last number of each sender to each group, and when it arrived."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, tuple[int, float]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def missing(self, group: str, sender: str, sequence: int) -> tuple[int, float]:
        """Store the number of a message; return how many of its sender's were lost before it, and since when."""
        if len(sender) > _MAX_CHARACTERS or not 0 < sequence < _MAX_SEQUENCE:
            return 0, 0.0
        received = self._last.setdefault(group, {})
        now = time.time()
        known = received.pop(sender, None)
        received[sender] = (sequence, now)
        if known is None:
            self._count += 1
            self._make_room(group, received)
            return 0, now
        last, since = known
        return max(0, sequence - last - 1), since

    def forget(self, group: str) -> None:
        """Accept any next number of a group."""
        self._count -= len(self._last.pop(group, ()))

    def _make_room(self, group: str, received: dict[str, tuple[int, float]]) -> None:
        if len(received) > _MAX_SENDERS:
            del received[next(iter(received))]
            self._count -= 1
        if self._count > _MAX_IN_ALL:
            # Forget the oldest group, but not this one, whose senders would only be added again.
            self.forget(next((other for other in self._last if other != group), group))
