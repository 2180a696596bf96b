"""The base class of gateways to another server, with a queue of messages and a sending task."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections import deque
from collections.abc import Awaitable, Callable

from uvicorn.adapters.crossing import crossing, log_uncaught
from uvicorn.concurrency.flow_control import FlowControl
from uvicorn.core.exchange import COMPLETE, WAITING, HTTPExchange, HTTPGateway
from uvicorn.errors import ResponseAborted
from uvicorn.settings import Settings
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.app")


class MessageGateway(HTTPGateway):
    """Queues the response of one exchange as messages for the server."""

    __slots__ = (
        "_backlog", "_failure", "_fault", "_has_begun", "_is_abandoned", "_messages", "_reading", "_sending",
        "_settings", "_waiter", "exchange",
    )  # fmt: skip

    exchange: HTTPExchange

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Each message with its original size: a middleware that compresses changes the message.
        self._messages: deque[tuple[Message, int]] = deque()
        self._backlog = FlowControl()
        # The future that `deliver` awaits. An asyncio.Event takes 1 us more for each request.
        self._waiter: asyncio.Future[None] | None = None
        #: Raised by `deliver` after it has sent the queued messages.
        self._failure: Exception | None = None
        # A weak reference to an error that is raised by `deliver` and in the application.
        self._fault: weakref.ref[Exception] | None = None
        self._reading: asyncio.Task[None] | None = None
        # The task of `deliver`, while the host takes a message.
        self._sending: asyncio.Task[object] | None = None
        self._is_abandoned = False
        self._has_begun = False

    async def deliver(self, send: Callable[[Message], Awaitable[object]]) -> None:
        """Send each message when the server has taken the one before, until the response is complete.

        Raises the application's exception (see `crossing`), or ResponseAborted if the response is aborted.
        """
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
                failure, self._failure = self._failure, None
                try:
                    raise failure
                finally:
                    # Break the reference cycle through the traceback.
                    del failure
            if self.exchange.state >= COMPLETE:
                return
            self.all_sent()
            waiter = self._waiter = asyncio.get_running_loop().create_future()
            await waiter

    def all_sent(self) -> None: ...

    def end(self) -> None:
        self.exchange.disconnect()
        if self._failure is not None:
            # The host abandoned the response before the exception was raised.
            log_uncaught(repr(self.exchange), self._failure)
            self._failure = None
        if self._reading is not None:
            self._reading.cancel()

    @property
    def write_paused(self) -> bool:  # type: ignore[override]
        return self._backlog.above_high_water

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        self._wake()
        self._backlog.wake()

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        """Make `deliver` raise ResponseAborted after the queued messages."""
        # If the client has closed its side before the response began, `deliver` returns normally.
        if exchange.state != WAITING or not exchange.half_closed:
            self._fail(ResponseAborted(reason))

    def pass_failure(self, exchange: HTTPExchange, error: BaseException) -> bool:
        """Make `deliver` raise `error` unless the response has ended. Return whether `error` is raised."""
        if exchange.state >= COMPLETE:
            return self._fault is not None and self._fault() is error
        self._fail(crossing(error))
        return True

    def abandon(self, exchange: HTTPExchange, reason: str) -> None:
        """Make `deliver` raise now, even if the server never takes the current message."""
        self.abort(exchange, reason)
        # Send at least the head: a response that has begun must not become a 500.
        while len(self._messages) > (0 if self._has_begun else 1):
            self._messages.pop()
        if self._sending is not None and not self._is_abandoned:
            self._is_abandoned = True
            self._sending.cancel()

    async def drain(self) -> None:
        await self._backlog.wait(lambda: self.exchange.state >= COMPLETE)

    def last_send(self) -> Callable[[], object] | None:
        return self._backlog.last_send()

    def _has_room(self, size: int) -> bool:
        """Return whether `size` more bytes may be queued, and abort the response if not."""
        shortage = self._backlog.shortage(size, self._settings)
        if shortage:
            logger.warning(
                "%s: response aborted: the server around the adapter reads too slowly, %s", self.exchange, shortage
            )
            self.exchange.break_off("too much unsent")
        return not shortage

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            self._wake()

    def _put(self, message: Message, content: bytes) -> None:
        self._messages.append((message, len(content)))
        if content:
            self._backlog.add(len(content))
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
