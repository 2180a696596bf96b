"""Flow control between producers and consumers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from uvicorn.core.unsent import UnsentSends
from uvicorn.core.waiters import Waiters
from uvicorn.settings import Settings

#: The high-water mark of a connection.
HIGH_WATER_BYTES: Final = 65536


@final
class FlowControl:
    """Counts unconsumed bytes. Only `consumed` may be called off the event loop's thread."""

    __slots__ = ("_consumed", "_unsent", "_waiters", "put")

    def __init__(self) -> None:
        #: Bytes that the producer has handed over.
        self.put = 0
        self._consumed = 0
        # The unconsumed sends, while above the high-water mark.
        self._unsent: UnsentSends | None = None
        # Made by the first producer that waits: most responses stay below the high-water mark.
        self._waiters: Waiters | None = None

    @property
    def above_high_water(self) -> bool:
        return self.put - self._consumed > HIGH_WATER_BYTES

    def add(self, size: int) -> None:
        self.put += size
        if self._unsent is not None:
            self._unsent.add(size)

    def shortage(self, size: int, settings: Settings, most_messages: int = 0) -> str:
        """Return a warning if a send of `size` bytes would exceed a limit, otherwise ""."""
        untaken = self.put - self._consumed
        if untaken <= HIGH_WATER_BYTES:
            self._unsent = None
            return ""
        most_unawaited, most = settings.max_unsent_bytes, settings.max_pending_bytes
        return self._unsent_sends().shortage(size, untaken, most_unawaited, most, most_messages)

    def last_send(self) -> Callable[[], object] | None:
        return self._unsent_sends().last_send() if self.above_high_water else None

    def _unsent_sends(self) -> UnsentSends:
        if self._unsent is None:
            self._unsent = UnsentSends(self.put - self._consumed)
        return self._unsent

    def consumed(self, count: int) -> bool:
        """Count consumed bytes. Return whether the caller must call `wake`."""
        self._consumed += count
        return bool(self._waiters) and not self.above_high_water

    def wake(self) -> None:
        """Wake the waiting producers."""
        if self._waiters is not None:
            self._waiters.wake()

    async def wait(self, is_over: Callable[[], bool]) -> None:
        """Wait until producers may continue, or `is_over()` is true."""
        while self.above_high_water and not is_over():
            waiters = self._waiters
            if waiters is None:
                waiters = self._waiters = Waiters()
            waiter = waiters.add()
            # Checked again: a consumer on another thread that saw no waiter does not call `wake`.
            if self.above_high_water:
                await waiters.wait(waiter)
