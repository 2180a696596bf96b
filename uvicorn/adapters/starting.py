"""The startup of an adapted application."""

from __future__ import annotations

import asyncio
from typing import final

from uvicorn.errors import StartupError
from uvicorn.interfaces.base import Interface


@final
class Starting:
    """An interface's startup: begun by whoever needs it first, waited for by all."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._task: asyncio.Task[None] | None = None

    async def ended(self) -> None:
        """Wait until it has been. StartupError if it fails; who asks after that tries again."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._interface.startup())
        task = self._task
        if not task.done():
            # One of those who wait may be cancelled; the others wait on.
            await asyncio.wait((task,))
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._task = None
            raise StartupError("the application's startup failed") from error

    def forget(self) -> None:
        """There has been a shutdown: the next startup is another one."""
        self._task = None
