"""Running handlers: started at once, kept alive, watched to their end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import ContextVar, copy_context
from types import CoroutineType
from typing import Any, Final, final

from uvicorn.errors import ApplicationError, InterfaceError
from uvicorn.exchange import Endpoint
from uvicorn.processes import end_fork

#: The connection on whose behalf code runs; inherited by the tasks that a handler starts.
#: It tells a client's own handlers, which wait for that client, from others that send to it in passing.
OWNER: Final[ContextVar[object]] = ContextVar("uvicorn_owner", default=None)


@final
class HandlerTasks:
    """The handlers of one interface that are running."""

    def __init__(self, expected: str = "async def") -> None:
        """`expected` is how an application is written, for errors."""
        self._expected = expected
        self._has_refused = False
        self._running: set[asyncio.Task[Any]] = set()
        #: Whether SystemExit and KeyboardInterrupt of a handler become ApplicationError. An adapter sets it: a task
        #: that raises one of them ends the run of its event loop, which belongs to a host or to other requests too.
        self.contains_exits = False

    def start(self, handler: Coroutine[Any, Any, Any], endpoint: Endpoint) -> asyncio.Task[Any]:
        """Run `handler` for a client; on 3.12+ up to its first suspension before this returns.

        Its context variables are a copy of those that the connection began with, and OWNER is `endpoint`. Must be
        called on the event loop's thread.
        """
        context = endpoint.context
        if context is None:
            context = endpoint.context = copy_context()
            context.run(OWNER.set, endpoint)
        if self.contains_exits and asyncio.iscoroutine(handler):
            handler = _Contained(handler, endpoint)
        # Always the running loop: an eager start under another one corrupts the current task.
        loop = asyncio.get_running_loop()
        try:
            if sys.version_info >= (3, 12):
                task: asyncio.Task[Any] = asyncio.Task(handler, loop=loop, eager_start=True, context=context.copy())
                if task.done():
                    return task
            else:
                task = loop.create_task(handler, context=context.copy())
        except TypeError:
            if asyncio.iscoroutine(handler):
                raise
            return self.start(self.as_coroutine(handler), endpoint)
        except (SystemExit, KeyboardInterrupt) as error:
            if endpoint.is_parents:
                end_fork(error)
            raise
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def as_coroutine(self, called: Any) -> Coroutine[Any, Any, Any]:
        """What a call of the application has returned, as a task takes it: any awaitable. Raises NoAwaitable."""
        if type(called) is CoroutineType or asyncio.iscoroutine(called):
            return called
        if hasattr(called, "__await__"):
            return _awaited(called)
        is_first, self._has_refused = not self._has_refused, True
        raise NoAwaitable(
            f"the application returned {type(called).__name__} {called!r:.100}, expected a coroutine: its requests are "
            f"answered with 500; write '{self._expected}', or return what another application has returned",
            is_first,
        )

    async def finish(self, seconds: float) -> int:
        """Wait up to `seconds` for all handlers to end, then cancel them; return how many had to be."""
        if self._running:
            await asyncio.wait(self._running, timeout=max(seconds, 0))
        running = set(self._running)
        for task in running:
            task.cancel()
        if running:
            # One more second for handlers that clean up; who swallows the cancellation is left behind.
            await asyncio.wait(running, timeout=1)
        return len(running)


@final
class _Contained(Coroutine[Any, Any, Any]):
    """A handler that raises ApplicationError instead of SystemExit and KeyboardInterrupt.

    Not a coroutine function: one that is cancelled before its first step would leave the handler without an await.
    """

    __slots__ = ("_endpoint", "_handler")

    def __init__(self, handler: Coroutine[Any, Any, Any], endpoint: Endpoint) -> None:
        self._handler = handler
        self._endpoint = endpoint

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._handler.__await__()

    def send(self, value: Any) -> Any:
        try:
            return self._handler.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise self._contained(error) from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._handler.throw(*error)
        except (SystemExit, KeyboardInterrupt) as exit:
            raise self._contained(exit) from exit

    def close(self) -> None:
        self._handler.close()

    def _contained(self, error: BaseException) -> ApplicationError:
        if self._endpoint.is_parents:
            end_fork(error)
        return ApplicationError.of(error)


class NoAwaitable(InterfaceError):
    """A call of the application has returned something that cannot be awaited, as a plain function does.

    `is_first` is whether to log it: every call of such an application ends like this.
    """

    def __init__(self, message: str, is_first: bool) -> None:
        super().__init__(message)
        self.is_first = is_first


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
