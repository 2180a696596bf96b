"""Handlers that continue after their response, until a time limit or the shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import final


@final
class ContinuingHandler:
    """A handler that continues after its response."""

    __slots__ = ("_cancel", "_running", "_timer")

    def __init__(self, running: set[ContinuingHandler], cancel: Callable[[], object], seconds: float) -> None:
        running.add(self)
        self._running = running
        self._cancel: Callable[[], object] | None = cancel
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cancel)

    def cancel(self) -> None:
        """Cancel the handler. May be called at any time, and more than once."""
        self._timer.cancel()
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()

    def ended(self) -> None:
        self._timer.cancel()
        self._cancel = None
        self._running.discard(self)


@final
class ContinuingHandlers:
    """The handlers that continue after their responses, in one server."""

    def __init__(self) -> None:
        self._running: set[ContinuingHandler] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._running)

    def add(self, cancel: Callable[[], object], seconds: float) -> ContinuingHandler:
        """Add a handler. `cancel()` is called after `seconds`, or earlier when the server stops."""
        return ContinuingHandler(self._running, cancel, 0 if self._stopping else seconds)

    def stop(self) -> None:
        """Cancel all handlers. A handler that is added later is cancelled when it is added."""
        self._stopping = True
        for handler in tuple(self._running):
            handler.cancel()
