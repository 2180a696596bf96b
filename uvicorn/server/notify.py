"""Awaits the coroutine function `callback_notify` at intervals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

# The time for a cancelled callback to end.
_LAST_SECONDS: Final = 0.1


@asynccontextmanager
async def notifying(
    callback: Callable[[], Awaitable[object]] | None, seconds: float, on_failure: Callable[[], object]
) -> AsyncIterator[None]:
    """Await `callback()` every `seconds` during the context. If a call raises, call `on_failure()`."""
    if callback is None:
        yield
        return
    task = asyncio.ensure_future(_call_repeatedly(callback, seconds))
    task.add_done_callback(lambda _: on_failure())
    try:
        yield
    finally:
        has_failed = task.done()
        task.cancel()
        await asyncio.wait((task,), timeout=_LAST_SECONDS)
    if has_failed:
        # Raises the callback's exception.
        await task


async def _call_repeatedly(callback: Callable[[], Awaitable[object]], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        await callback()
        await asyncio.sleep(max(0, began + seconds - loop.time()))
