"""Calls from worker threads to an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import final


@final
class LoopCalls:
    """Calls that worker threads post to an event loop. They run in order, and share wake-ups of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._woken = False
        # Empty: the context of the worker thread belongs to the application.
        self._context = Context()

    def post(self, call: Callable[[], None]) -> bool:
        """Call `call()` on the loop's thread; may be called from any thread. Return False if the loop has been
        closed.
        """
        self._calls.append(call)
        if not self._woken:
            self._woken = True
            try:
                self.loop.call_soon_threadsafe(self._run, context=self._context)
            except RuntimeError:
                self._woken = False
                self._calls.clear()
                return False
        return True

    def flush(self) -> None:
        """Run the calls posted so far; on the loop's thread."""
        calls = self._calls
        for _ in range(len(calls)):
            # One of them may have flushed too.
            if not calls:
                break
            calls.popleft()()

    def _run(self) -> None:
        # Calls that are posted meanwhile wait for the next turn of the loop: worker threads may post without end.
        try:
            self.flush()
        finally:
            # Reset before the queue is checked: a call that is posted in between is seen here, or wakes the loop.
            self._woken = False
            if self._calls:
                self._woken = True
                self.loop.call_soon(self._run, context=self._context)
