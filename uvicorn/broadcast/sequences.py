"""Sequence numbers of messages. A missing number shows that a message was lost."""

from __future__ import annotations

import time
from typing import Final, final

# The limits of stored senders, of 300 bytes each, in one group and in all. A forgotten sender causes no gap.
_MAX_SENDERS: Final = 256
_MAX_IN_ALL: Final = 50_000
# Names of our senders have twelve characters. Other publishers may use any name.
_MAX_CHARACTERS: Final = 64
_MAX_SEQUENCE: Final = 1 << 63

# The limit of groups whose last sent number is stored. A group that has been forgotten begins at 1 again.
_MAX_GROUPS: Final = 10_000


@final
class SentSequences:
    """The sequence number of the last message sent to each group."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def next(self, group: str) -> int:
        sequence = self._last.pop(group, 0) + 1
        self._last[group] = sequence
        if len(self._last) > _MAX_GROUPS:
            del self._last[next(iter(self._last))]
        return sequence


@final
class ReceivedSequences:
    """The last sequence number of each sender in each group, with its arrival time."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, tuple[int, float]]] = {}
        self.count = 0

    def missing(self, group: str, sender: str, sequence: int) -> tuple[int, float]:
        """Store `sequence`. Return the number of lost messages, and when the previous message arrived."""
        if len(sender) > _MAX_CHARACTERS or not 0 < sequence < _MAX_SEQUENCE:
            return 0, 0.0
        received = self._last.setdefault(group, {})
        now = time.time()
        known = received.pop(sender, None)
        received[sender] = (sequence, now)
        if known is None:
            self.count += 1
            if len(received) > _MAX_SENDERS:
                del received[next(iter(received))]
                self.count -= 1
            if self.count > _MAX_IN_ALL:
                # Forget the oldest group, but not the one that is receiving.
                self.forget(next((other for other in self._last if other != group), group))
            return 0, now
        last, since = known
        return max(0, sequence - last - 1), since

    def forget(self, group: str) -> None:
        """Forget all senders of a group."""
        self.count -= len(self._last.pop(group, ()))
