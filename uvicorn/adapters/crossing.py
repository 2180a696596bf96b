"""Passes responses and exceptions from an adapted application to the server."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Awaitable, Callable

from uvicorn.concurrency.flow_control import FlowControl
from uvicorn.core.exchange import COMPLETE, WAITING, HTTPExchange, HTTPGateway
from uvicorn.errors import ApplicationError, ResponseAborted
from uvicorn.interfaces.handlers import log_failure
from uvicorn.settings import Settings
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.app")


def crossing(error: BaseException) -> Exception:
    """Return an ApplicationError for exceptions such as SystemExit, otherwise `error`."""
    if isinstance(error, Exception) and not isinstance(error, (OSError, StopIteration)):
        return error
    return ApplicationError.of(error)


def log_uncaught(where: str, error: Exception) -> None:
    """Log `error`, unless it is a ResponseAborted."""
    if not isinstance(error, ResponseAborted):
        log_failure(where, error)


class AdapterGateway(HTTPGateway):
    """Base class of the gateways to another server."""

    #: The server, for warnings.
    server = "the server around the adapter"
    exchange: HTTPExchange | None
    # Class attributes, because most requests never change them: storing one costs 50 ns.
    # The application's exception, until it is raised in the server.
    _failure: Exception | None = None
    # An error that is raised in both the server and the application. Only for the event loop's thread.
    _fault: weakref.ref[Exception] | None = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._backlog = FlowControl()

    @property
    def write_paused(self) -> bool:  # type: ignore[override]
        return self._backlog.above_high_water

    def pass_failure(self, exchange: HTTPExchange, error: BaseException) -> bool:
        if exchange.state >= COMPLETE:
            return self._fault is not None and self._fault() is error
        self._fail(crossing(error))
        return True

    def take_failure(self) -> Exception:
        """Return and forget the stored exception. Do not assign it to a variable."""
        # A variable in a frame of the traceback would be a reference cycle.
        failure, self._failure = self._failure, None
        assert failure is not None
        return failure

    def has_ended(self) -> bool:
        return self.exchange is None or self.exchange.state >= COMPLETE

    async def drain(self) -> None:
        await self._backlog.wait(self.has_ended)

    def last_send(self) -> Callable[[], object] | None:
        return self._backlog.last_send()

    def _fail(self, failure: Exception) -> None:
        raise NotImplementedError

    def _has_room(self, exchange: HTTPExchange, size: int) -> bool:
        shortage = self._backlog.shortage(size, self._settings)
        if shortage:
            logger.warning(
                "%s: response aborted: %s reads from the adapter too slowly, %s", exchange, self.server, shortage
            )
            exchange.break_off("too much unsent")
        return not shortage


class MessageGateway(AdapterGateway):
    """Queues messages until `deliver` passes them to the server."""

    exchange: HTTPExchange
    _is_abandoned = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Each message with its original size: a middleware that compresses changes the message.
        self._messages: deque[tuple[Message, int]] = deque()
        # The future that `deliver` awaits. An asyncio.Event takes 1 us more for each request.
        self._waiter: asyncio.Future[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        # The task of `deliver`, while the host takes a message.
        self._sending: asyncio.Task[object] | None = None
        self._has_begun = False

    async def deliver(self, send: Callable[[Message], Awaitable[object]]) -> None:
        """Pass messages to `send` until the response ends. Raises the application's exception or ResponseAborted."""
        task = asyncio.current_task()
        while True:
            while self._messages:
                message, size = self._messages.popleft()
                self._has_begun = True
                self._sending = task
                try:
                    await send(message)
                except asyncio.CancelledError:
                    if not self._is_abandoned or task is None or task.uncancel() > 0:
                        raise
                finally:
                    self._sending = None
                if self._backlog.consumed(size):
                    self._backlog.wake()
            # After the messages, because without a head the host would send a 500.
            if self._failure is not None:
                raise self.take_failure()
            if self.has_ended():
                return
            self.all_sent()
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            await waiter

    def all_sent(self) -> None: ...

    def end(self) -> None:
        self.exchange.disconnect()
        if self._failure is not None:
            # The host abandoned the response before the exception was raised.
            log_uncaught(repr(self.exchange), self.take_failure())
        if self._reading is not None:
            self._reading.cancel()

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        self._wake()
        self._backlog.wake()

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        # If the client has closed its side before the response began, `deliver` returns normally.
        if exchange.state != WAITING or not exchange.half_closed:
            self._fail(ResponseAborted(reason))

    def abandon(self, exchange: HTTPExchange, reason: str) -> None:
        self.abort(exchange, reason)
        # Send at least the head: a response that has begun must not become a 500.
        while len(self._messages) > (0 if self._has_begun else 1):
            self._messages.pop()
        if self._sending is not None and not self._is_abandoned:
            self._is_abandoned = True
            self._sending.cancel()

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            self._wake()

    def _put(self, message: Message, size: int) -> None:
        self._messages.append((message, size))
        if size:
            self._backlog.add(size)
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _read_on(self) -> None:
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        raise NotImplementedError
