"""Limits on unsent bytes and messages for a slow client (interface rule R17)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Final, final

#: Most unawaited messages to a WebSocket client that does not read; their bytes are limited too.
UNAWAITED_MESSAGES: Final = 256


@final
class UnsentSends:
    """Records the sends to one slow client. `shortage` checks a send, and `add` records it."""

    def __init__(self, unsent: int) -> None:
        # `unsent`, here and below: the number of bytes that the connection buffers now.
        # Bytes leave in order, so the position at which a send ends in the output identifies the send.
        self._start = self._position = self._last_bytes = unsent
        self._ends: deque[int] = deque()
        # A heap of (end, bytes): senders may begin to wait in another order than that of their sends.
        self._awaited: list[tuple[int, int]] = []
        self._awaited_bytes = 0
        self._awaited_messages = 0
        # The largest send that the client has not taken: its end, its size, and whether it is awaited.
        self._large_end = self._large_bytes = unsent
        self._large_awaited = False

    def add(self, size: int) -> None:
        self._position += size
        self._last_bytes = size
        self._ends.append(self._position)
        if size > self._large_bytes:
            self._large_end, self._large_bytes, self._large_awaited = self._position, size, False

    def add_other(self, size: int) -> None:
        """Count bytes that the server itself has written, such as a ping."""
        self._position += size

    def last_send(self) -> Callable[[], None]:
        """Return a function to call when the application awaits its latest send."""
        return partial(self._on_await, self._position, self._last_bytes)

    def shortage(self, size: int, unsent: int, most_unawaited: int, most: int, most_messages: int = 0) -> str:
        """Return a warning if a send of `size` bytes would exceed a limit, otherwise ""."""
        return self.unawaited_shortage(size, unsent, most_unawaited, most_messages) or self.pending_shortage(
            size, unsent, most_unawaited, most
        )

    def unawaited_shortage(self, size: int, unsent: int, most: int, most_messages: int = 0) -> str:
        """As `shortage`, but only for sends that the application has not awaited."""
        self._forget_taken(unsent)
        if 0 < most_messages <= len(self._ends) - self._awaited_messages:
            return f"over {most_messages} unread messages that were not awaited"
        unawaited = unsent
        if self._awaited:
            unawaited -= self._untaken(self._awaited_bytes, *self._awaited[0], unsent)
        if self._large_bytes > most and not self._large_awaited:
            unawaited -= self._untaken(self._large_bytes, self._large_end, self._large_bytes, unsent)
        if unawaited + (size if size <= most else 0) > most:
            return f"over {most} unread bytes that were not awaited"
        return ""

    def pending_shortage(self, size: int, unsent: int, most_unawaited: int, most: int) -> str:
        """As `shortage`, for all unsent bytes together. A single send may be larger than `most`."""
        self._forget_taken(unsent)
        # A single send may be larger than `most`.
        if unsent + size > max(most, max(size, self._large_bytes) + most_unawaited):
            return f"over {most} unread bytes"
        return ""

    def _on_await(self, end: int, size: int) -> None:
        heappush(self._awaited, (end, size))
        self._awaited_bytes += size
        if end > self._start:
            self._awaited_messages += 1
        if end == self._large_end:
            self._large_awaited = True

    def _forget_taken(self, unsent: int) -> None:
        taken = self._position - unsent
        while self._ends and self._ends[0] <= taken:
            self._ends.popleft()
        while self._awaited and self._awaited[0][0] <= taken:
            end, size = heappop(self._awaited)
            self._awaited_bytes -= size
            if end > self._start:
                self._awaited_messages -= 1
        if self._large_end <= taken:
            self._large_end = self._large_bytes = 0

    def _untaken(self, total: int, end: int, size: int, unsent: int) -> int:
        return total - max(0, self._position - unsent - (end - size))
