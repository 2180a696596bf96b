"""Content between who makes it and who takes it, on one thread or on two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from uvicorn.core.unsent import UnsentSends
from uvicorn.core.waiters import Waiters
from uvicorn.settings import Settings

# As much as a connection may have unsent; above it the application waits.
_HIGH_WATER_BYTES: Final = 65536


@final
class FlowControl:
    """Counts what has been handed over and what of it was taken, and holds who waits for the difference to shrink.

    `take` is for the taker's thread, everything else for the event loop's.
    """

    __slots__ = ("_high_water_bytes", "_consumed", "_unsent", "_waiters", "put")

    def __init__(self, high_water_bytes: int = _HIGH_WATER_BYTES) -> None:
        self._high_water_bytes = high_water_bytes
        #: Bytes handed over, taken or not.
        self.put = 0
        self._consumed = 0
        # While the taker is behind: what it has yet to take.
        self._unsent: UnsentSends | None = None
        self._waiters = Waiters()

    @property
    def above_high_water(self) -> bool:
        """Whether the taker is behind."""
        return self.untaken > self._high_water_bytes

    @property
    def untaken(self) -> int:
        """Bytes that have been handed over and not taken."""
        return self.put - self._consumed

    def add(self, size: int) -> None:
        """`size` bytes of one send have been handed over."""
        self.put += size
        if self._unsent is not None:
            self._unsent.add(size)

    def shortage(self, size: int, settings: Settings, most_messages: int = 0) -> str:
        """Why a send of `size` bytes cannot follow: more is untaken than may be (interface rule R17). Empty if it can.

        `most_messages` bounds those that nothing awaits; 0: any number.
        """
        untaken = self.untaken
        if untaken <= self._high_water_bytes:
            self._unsent = None
            return ""
        unsent = self._unsent
        if unsent is None:
            unsent = self._unsent = UnsentSends(untaken)
        return unsent.shortage(size, untaken, settings.max_unsent_bytes, settings.max_pending_bytes, most_messages)

    def last_send(self) -> Callable[[], object] | None:
        """What is to be called when something awaits the last send; None while the taker keeps up."""
        untaken = self.untaken
        if untaken <= self._high_water_bytes:
            return None
        if self._unsent is None:
            self._unsent = UnsentSends(untaken)
        return self._unsent.last_send()

    def consumed(self, count: int) -> bool:
        """`count` bytes have been taken. Whether `wake` is to be called, because somebody has waited for it."""
        self._consumed += count
        return bool(self._waiters) and not self.above_high_water

    def wake(self) -> None:
        """The taker has caught up, or will take no more."""
        self._waiters.wake()

    async def wait(self, is_over: Callable[[], bool]) -> None:
        """Wait until the taker has caught up, or there is no use in it; `wake` after that comes true."""
        while self.above_high_water and not is_over():
            waiter = self._waiters.add()
            # Looked at again: a taker in another thread that saw nobody wait does not call.
            if self.above_high_water:
                await self._waiters.wait(waiter)
