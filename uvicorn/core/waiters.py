"""Coroutines that wait for a change."""

from __future__ import annotations

import asyncio
from typing import final


@final
class Waiters:
    """A set of waiting coroutines. For use on the event loop's thread."""

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
        """Wait for a future that `add` has returned."""
        try:
            await future
        except asyncio.CancelledError:
            self.remove(future)
            raise

    def remove(self, future: asyncio.Future[None]) -> None:
        """Remove a cancelled future."""
        self._futures = tuple(other for other in self._futures if other is not future)

    def wake(self) -> None:
        futures, self._futures = self._futures, ()
        for future in futures:
            if not future.done():
                future.set_result(None)
