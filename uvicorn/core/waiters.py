"""Coroutines that wait until something has changed."""

from __future__ import annotations

import asyncio
from typing import final


@final
class Waiters:
    """True while a coroutine waits. For the event loop's thread."""

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: tuple[asyncio.Future[None], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._futures)

    def add(self) -> asyncio.Future[None]:
        """Return a future that the next `wake` completes."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures = (*self._futures, future)
        return future

    async def wait(self, future: asyncio.Future[None]) -> None:
        """Wait for a future that `add` has returned, and forget it if the wait is cancelled."""
        try:
            await future
        except asyncio.CancelledError:
            # An application that polls with a timeout must not leave a future behind each time.
            self._futures = tuple(other for other in self._futures if other is not future)
            raise

    def wake(self) -> None:
        """Wake all coroutines that wait."""
        futures, self._futures = self._futures, ()
        for future in futures:
            if not future.done():
                future.set_result(None)
