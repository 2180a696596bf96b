"""A handler that continues after its response, until a time limit or the shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import final


@final
class ContinuingHandler:
    """Calls `cancel()` after `seconds`, or earlier when the server stops, unless the handler has ended by itself."""

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
