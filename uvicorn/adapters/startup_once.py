"""Runs the startup of an adapted application once, for all event loops."""

from __future__ import annotations

import asyncio
import threading
from typing import final

from uvicorn.errors import StartupError
from uvicorn.interfaces.base import Interface
from uvicorn.loop_calls import LoopCalls


@final
class StartupOnce:
    """The one startup of an interface, shared by all event loops."""

    def __init__(self, interface: Interface) -> None:
        self.interface = interface
        self.succeeded = False
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None

    async def ended(self) -> None:
        """Start the application once, and wait until it has started. Raises StartupError."""
        task = self._task
        if task is None:
            with self._lock:
                # Another thread may have started it.
                task = self._task = self._task or asyncio.get_running_loop().create_task(self.interface.startup())
        if not task.done():
            # A cancellation of the caller does not cancel the startup.
            loop = task.get_loop()
            if loop is asyncio.get_running_loop():
                await asyncio.wait((task,))
            else:
                ending = asyncio.wrap_future(LoopCalls.of(loop).start(lambda: asyncio.wait((task,))))
                try:
                    await asyncio.wait((ending,))
                finally:
                    ending.cancel()
        error = asyncio.CancelledError() if task.cancelled() or not task.done() else task.exception()
        if error is not None:
            # The next call starts the application again.
            if self._task is task:
                self._task = None
            raise StartupError("the application's startup failed") from error
        self.succeeded = True
