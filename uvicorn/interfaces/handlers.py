"""Starts handlers, and reacts when a handler or an exchange ends."""

from __future__ import annotations

import asyncio
import linecache
import logging
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar, copy_context
from functools import partial
from types import CoroutineType
from typing import Any, Final, final

from uvicorn.channel import shape
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import CLOSED, COMPLETE, ERROR_HEADERS, WAITING, HTTPExchange
from uvicorn.core.websocket_session import CONNECTING, WebSocketSession
from uvicorn.errors import (
    ApplicationError,
    BroadcastUnavailable,
    ClientDisconnected,
    InterfaceError,
    MessageTooLarge,
    ResponseAborted,
    UvicornError,
    exc_info_of,
)
from uvicorn.escape import escaped
from uvicorn.forks import end_fork
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")

# Exceptions by which frameworks report a disconnect, often without one of ours as the cause.
_DISCONNECTS: Final = frozenset(
    "ClientDisconnect ClientDisconnectedError MessageAborted RequestAborted WebSocketDisconnect "
    "WebSocketDisconnectError WebSocketDisconnected".split()
)

_FAILURE: Final = "exception in the application"
#: The same of an ASGI application: the public release's words, which monitors of logs look for.
ASGI_FAILURE: Final = "Exception in ASGI application"

# Hints for an application that fails with a KeyError of its argument `channels`.
_MISSING_CHANNELS: Final = {
    "groups": "channels['groups'] exists only in a BroadcastMiddleware: app = BroadcastMiddleware(app)",
    "body": "channels['body'] exists only if the request has content: use channels.get('body')",
}

#: The connection that a task serves. Tasks inherit it. Only tasks that serve a client wait while the client is slow.
OWNER: Final[ContextVar[object]] = ContextVar("uvicorn_owner", default=None)

# A constant, because comparing the version costs 50 ns for each request.
_STARTS_EAGERLY: Final = sys.version_info >= (3, 12)


@final
class HandlerTasks:
    """The running handlers of one interface."""

    def __init__(self, expected: str, alternative: str) -> None:
        self._expected = expected
        self._alternative = alternative
        self._has_refused = False
        #: The running handlers, each with the callback for its end.
        self.running: dict[asyncio.Task[Any], Callable[[asyncio.Task[Any]], object] | None] = {}
        #: Whether SystemExit and KeyboardInterrupt of a handler, which stop an event loop, become ApplicationError.
        self.contains_exits = False

    def start(self, handler: Coroutine[Any, Any, Any], endpoint: Endpoint) -> asyncio.Task[Any]:
        """Start a task for `handler`. From Python 3.12 on, the task starts eagerly."""
        context = endpoint.context
        if context is None:
            context = endpoint.context = copy_context()
            context.run(OWNER.set, endpoint)
        inner = None
        if self.contains_exits and (type(handler) is CoroutineType or asyncio.iscoroutine(handler)):
            inner, handler = handler, _contained(handler, endpoint)
        # Always the running loop: an eager start under another loop corrupts the current task.
        loop = asyncio.get_running_loop()
        try:
            if _STARTS_EAGERLY:
                task: asyncio.Task[Any] = asyncio.Task(
                    handler,
                    loop=loop,
                    eager_start=True,  # type: ignore[call-arg]
                    context=context.copy(),
                )
                if task.done():
                    return task
            else:  # pragma: no cover (Python 3.11, where coverage is not counted)
                task = loop.create_task(handler, context=context.copy())
        except TypeError:
            if asyncio.iscoroutine(handler):
                raise  # pragma: no cover (a fault of the event loop itself)
            return self.start(self.as_coroutine(handler), endpoint)
        except (SystemExit, KeyboardInterrupt) as error:
            if endpoint.is_parents:
                end_fork(error)
            raise
        self.running[task] = None
        task.add_done_callback(self._ended if inner is None else partial(self._contained_ended, inner))
        return task

    def on_end(self, task: asyncio.Task[Any], callback: Callable[[asyncio.Task[Any]], object]) -> None:
        """Call `callback(task)` after `task` has ended. Each task has one callback."""
        # Not a second done callback: the event loop takes 0.4 us for each.
        if task in self.running:
            self.running[task] = callback
        else:
            callback(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        callback = self.running.pop(task)
        if callback is not None:
            callback(task)

    def _contained_ended(self, handler: Coroutine[Any, Any, Any], task: asyncio.Task[Any]) -> None:
        # A task that is cancelled before its first step never awaits `handler`.
        handler.close()
        self._ended(task)

    def as_coroutine(self, called: Any) -> Coroutine[Any, Any, Any]:
        """Return the application's awaitable as a coroutine. Raises NoAwaitable for other objects."""
        if type(called) is CoroutineType or asyncio.iscoroutine(called):
            return called
        if hasattr(called, "__await__"):
            return _awaited(called)
        is_first, self._has_refused = not self._has_refused, True
        raise NoAwaitable(
            f"the application returned {type(called).__name__} {called!r:.100}, expected a coroutine: its requests are "
            f"answered with 500; write '{self._expected}', or {self._alternative}",
            is_first,
        )

    async def finish(self, seconds: float) -> int:
        """Cancel handlers that still run after `seconds`, and return their number."""
        if self.running:
            logging.getLogger("uvicorn.error").info("Waiting for background tasks to complete. (CTRL+C to force quit)")
            await asyncio.wait(self.running, timeout=max(seconds, 0))
        running = set(self.running)
        for task in running:
            task.cancel()
        if running:
            # One more second for handlers that clean up; a handler that swallows the cancellation is abandoned.
            await asyncio.wait(running, timeout=1)
        return len(running)


async def _contained(handler: Awaitable[Any], endpoint: Endpoint) -> Any:
    try:
        return await handler
    except (SystemExit, KeyboardInterrupt) as error:
        if endpoint.is_parents:
            end_fork(error)
        raise ApplicationError.of(error) from error


class NoAwaitable(InterfaceError):
    """The application returned an object that cannot be awaited."""

    def __init__(self, message: str, is_first: bool) -> None:
        super().__init__(message)
        #: Only the first error is logged.
        self.is_first = is_first


async def _awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def watch_handler(
    tasks: HandlerTasks, task: asyncio.Task[Any], exchange: HTTPExchange, reply: weakref.ref[Any], settings: Settings
) -> None:
    """End `exchange` if `task` fails. Cancel `task` if `exchange` ends early."""
    # Without keywords, which would cost a dict for each request.
    tasks.on_end(task, partial(_handler_ended, exchange, reply, settings))
    if not task.done():
        cancel_after_end(task, exchange, settings.disconnect_seconds)


def _handler_ended(
    exchange: HTTPExchange, reply: weakref.ref[Any], settings: Settings, task: asyncio.Task[Any]
) -> None:
    if task.cancelled():
        if exchange.state < COMPLETE:
            logger.error("%s: the handler was cancelled before its response was complete", exchange)
            exchange.app_failed("the handler was cancelled")
        return
    error = task.exception()
    if error is not None:
        answer_failure(exchange, error)
    elif exchange.state < COMPLETE:
        await_late_reply(exchange, reply, settings.reply_seconds, task.result())


def await_late_reply(exchange: HTTPExchange, reply: weakref.ref[Any], seconds: float, returned: object = None) -> None:
    """End the response as failed if no other task replies within `seconds`."""
    loop = asyncio.get_running_loop()
    # The log shows what the handler returned: it may be a response for another interface.
    what = "" if returned is None else f" {shape(returned)}"

    def give_up() -> None:
        if exchange.state < COMPLETE and exchange.half_closed:
            logger.debug("%s: the client half-closed the connection; the handler returned without a response", exchange)
            exchange.abort("client disconnected")
        elif exchange.state < COMPLETE:
            lacking, expected = (
                ("sent no reply", "a response sent to the reply channel")
                if exchange.state is WAITING
                else ("left the response unfinished", "a last message without more_content")
            )
            logger.error("%s: the handler returned%s and %s; expected %s", exchange, what, lacking, expected)
            exchange.app_failed(lacking)

    def abandoned(reference: object) -> None:
        # The garbage collector may run in any thread, and at any time.
        if not loop.is_closed():
            loop.call_soon_threadsafe(give_up)

    channel = reply()
    if channel is None:
        give_up()
        return
    # A stream that has begun may continue as long as its channel is referenced.
    timer = loop.call_later(seconds, lambda: give_up() if exchange.state is WAITING else None)
    watch = weakref.ref(channel, abandoned)
    # The callback keeps the weak reference alive until the exchange ends: a freed one would not call `abandoned`.
    exchange.on_end(lambda exchange, watch=watch: timer.cancel())  # type: ignore[misc]


def cancel_after_end(task: asyncio.Task[Any], exchange: HTTPExchange, seconds: float) -> None:
    """If `exchange` ends early, cancel `task` after `seconds` (rule R6)."""
    exchange.on_end(partial(_exchange_ended, task, seconds))


def _exchange_ended(task: asyncio.Task[Any], seconds: float, exchange: HTTPExchange) -> None:
    if task.done():
        return
    if exchange.state is CLOSED:
        cancel_later(task, seconds)
    elif exchange.ended_early:
        ended = exchange.gateway.handler_continues(exchange, task.cancel, seconds)
        task.add_done_callback(lambda task: ended())


def cancel_later(task: asyncio.Task[Any], seconds: float) -> None:
    if not task.done():
        timer = asyncio.get_running_loop().call_later(seconds, task.cancel)
        task.add_done_callback(lambda task: timer.cancel())


def watch_handshake(task: asyncio.Task[Any], session: WebSocketSession, settings: Settings) -> None:
    """Reject the handshake with 403 if `task` makes no decision in time."""

    def deny() -> None:
        if session.state is CONNECTING and session.request.state is WAITING:
            seconds = settings.ws_accept_seconds
            logger.error("%s: no decision on the handshake within %g seconds; rejected with 403", session, seconds)
            session.request.respond(403)

    if session.state is CONNECTING:
        timer = asyncio.get_running_loop().call_later(settings.ws_accept_seconds, deny)
        session.request.on_end(lambda request: timer.cancel())
    session.on_end(partial(cancel_later, task, settings.disconnect_seconds))


def is_disconnect(error: BaseException, seen: frozenset[int] = frozenset()) -> bool:
    """Return whether `error` reports that the client has disconnected."""
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if isinstance(link, ClientDisconnected) or type(link).__name__ in _DISCONNECTS:
            return True
        seen |= {id(link)}
        if isinstance(link, BaseExceptionGroup):
            # An exception that was raised again from a group may be its own cause.
            return all(is_disconnect(member, seen) for member in link.exceptions)
        # Not its context: an error while handling a disconnect is a failure.
        link = link.__cause__
    return False


def is_reported(error: BaseException) -> bool:
    """Return whether `error` reports a broadcast outage that was already logged."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_reported, error.exceptions))
    return isinstance(error, BroadcastUnavailable) and error.reported


def log_failure(where: object, error: BaseException, general: str = _FAILURE) -> None:
    """Log the application's exception `error`. The line begins with `where`."""
    if isinstance(error, MessageTooLarge):
        logger.warning("%s: %s", where, error)
    elif not isinstance(error, NoAwaitable):
        level = logging.DEBUG if is_reported(error) else logging.ERROR
        # An exception of ours that no line of the application has raised needs no more than its sentence.
        logger.log(level, "%s: %s", where, _sentence(error, general), exc_info=exc_info_of(error))
    elif error.is_first:
        logger.error("%s: %s", where, escaped(error, 1000))


def _sentence(error: BaseException, general: str) -> str:
    if isinstance(error, UvicornError):
        return escaped(error, 1000)
    key, trace = error.args[0] if type(error) is KeyError and error.args else "", error.__traceback__
    if isinstance(key, str) and key in _MISSING_CHANNELS and trace is not None:
        while trace.tb_next is not None:
            trace = trace.tb_next
        line = linecache.getline(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        for name, value in trace.tb_frame.f_locals.items():
            if f"{name}[" in line and type(value) is dict and "reply" in value and key not in value:
                return _MISSING_CHANNELS[key]
    return general


def answer_failure(exchange: HTTPExchange, error: BaseException, general: str = _FAILURE) -> None:
    """End the response of an application that has raised `error`."""
    if exchange.endpoint.is_parents:
        end_fork(error)
    if isinstance(error, NoAwaitable):
        log_failure(exchange, error, general)
    elif is_disconnect(error):
        logger.info("%s: client disconnected before the application finished", exchange)
        if exchange.state is WAITING:
            # A half-closed client may still read the response (RFC 9112, section 8).
            exchange.respond(400, ERROR_HEADERS, b"Bad Request\n")
    elif not isinstance(error, ResponseAborted):
        if exchange.gateway.pass_failure(exchange, error):
            exchange.disconnect()
            return
        log_failure(exchange, error, general)
    exchange.app_failed(_FAILURE)
