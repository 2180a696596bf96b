"""Calls from worker threads to an event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context
from typing import TypeVar, final

from uvicorn.errors import ClientDisconnected

T = TypeVar("T")


@final
class LoopCalls:
    """Calls that worker threads post to an event loop. One wake-up of the loop runs many calls, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._woken = False
        # An empty context: the context of a worker thread belongs to the application.
        self._context = Context()

    def post(self, call: Callable[[], None]) -> bool:
        """Queue `call()` for the event loop's thread. Return False if the loop is closed. For use on any thread."""
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

    def call(self, function: Callable[[], T]) -> T:
        """Run `function()` on the event loop's thread, and return its result. For use on any other thread.

        Raises the exception of `function`, and ClientDisconnected if the loop is closed.
        """
        outcome: Future[T] = Future()

        def run() -> None:
            try:
                outcome.set_result(function())
            except BaseException as error:
                outcome.set_exception(error)

        if not self.post(run):
            raise ClientDisconnected("the event loop has stopped")
        return outcome.result()

    def flush(self) -> None:
        """Run the calls posted so far. For use on the event loop's thread."""
        calls = self._calls
        for _ in range(len(calls)):
            # A call that flushes runs the calls after it.
            if not calls:
                break
            calls.popleft()()

    def _run(self) -> None:
        # Calls that are posted meanwhile run in the loop's next iteration: worker threads may post without end.
        try:
            self.flush()
        finally:
            # Reset before the queue is checked: a call that is posted in between is found here, or wakes the loop.
            self._woken = False
            if self._calls:
                self._woken = True
                self.loop.call_soon(self._run, context=self._context)
