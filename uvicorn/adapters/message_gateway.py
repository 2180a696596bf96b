"""Base class of the gateways to servers that take messages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from uvicorn.adapters.crossing import AdapterGateway, log_uncaught
from uvicorn.core.exchange import WAITING, HTTPExchange
from uvicorn.errors import ResponseAborted
from uvicorn.settings import Settings
from uvicorn.types import Message


class MessageGateway(AdapterGateway):
    """Queues the messages of one response. The server's task takes the messages by `deliver`."""

    exchange: HTTPExchange
    # The future that `deliver` awaits. An asyncio.Event takes 1 us more for each request.
    _waiter: asyncio.Future[None] | None = None
    _reading: asyncio.Task[None] | None = None
    # The task of `deliver`, while the host takes a message.
    _sending: asyncio.Task[object] | None = None
    _is_abandoned = False
    _has_begun = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Each message with its original size: a middleware that compresses changes the message.
        self._messages: deque[tuple[Message, int]] = deque()

    async def deliver(self, send: Callable[[Message], Awaitable[object]]) -> None:
        """Pass the queued messages to `send`, one after another. Return when the response is complete.

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
        """Make `deliver` raise ResponseAborted after it has sent the queued messages."""
        # If the client has closed its side before the response began, `deliver` returns normally.
        if exchange.state != WAITING or not exchange.half_closed:
            self._fail(ResponseAborted(reason))

    def abandon(self, exchange: HTTPExchange, reason: str) -> None:
        """Make `deliver` raise ResponseAborted at once. Drop the queued messages, except the head of the response."""
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
