"""What the gateways of hosts have in common that are sent messages, and awaited: a queue, and who empties it."""

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
    """Carries the response of one exchange out, by messages that wait until the host takes them."""

    __slots__ = (
        "_backlog",
        "_changed",
        "_failure",
        "_fault",
        "_has_begun",
        "_is_abandoned",
        "_messages",
        "_reading",
        "_sending",
        "_settings",
        "exchange",
    )

    exchange: HTTPExchange

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # Each with its size, which a middleware may change when it has got the message, as one that compresses does.
        self._messages: deque[tuple[Message, int]] = deque()
        self._backlog = FlowControl()
        self._changed = asyncio.Event()
        #: What `deliver` raises when it has sent what came before.
        self._failure: Exception | None = None
        # An error of the application that is raised by both `deliver` and the application; not kept alive by this.
        self._fault: weakref.ref[Exception] | None = None
        self._reading: asyncio.Task[None] | None = None
        # The task of `deliver`, while the host takes a message.
        self._sending: asyncio.Task[object] | None = None
        self._is_abandoned = False
        self._has_begun = False

    async def deliver(self, send: Callable[[Message], Awaitable[object]]) -> None:
        """Send what the application says, at the host's pace, until it has said all.

        Raises what the application has raised (see `crossing`), or ResponseAborted if it stops in the middle.
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
            if self._failure is not None:
                failure, self._failure = self._failure, None
                try:
                    raise failure
                finally:
                    # Its traceback leads here, which a garbage collector would have to find out.
                    del failure
            if self.exchange.state >= COMPLETE:
                return
            self.all_sent()
            self._changed.clear()
            await self._changed.wait()

    def all_sent(self) -> None:
        """The application has yet to say more."""

    def end(self) -> None:
        """Nothing more is sent, or read."""
        self.exchange.disconnect()
        if self._failure is not None:
            # The host has given the response up before it came to that.
            log_uncaught(repr(self.exchange), self._failure)
            self._failure = None
        if self._reading is not None:
            self._reading.cancel()

    @property
    def write_paused(self) -> bool:  # type: ignore[override]
        """Whether the host is behind."""
        return self._backlog.above_high_water

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        """Let `deliver` find out."""
        self._changed.set()
        self._backlog.wake()

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        """Have `deliver` raise, after what the application said before it failed: a beginning must not become a 500."""
        # A client that has closed its side and never got a response is no failure: the call just returns.
        if exchange.state != WAITING or not exchange.half_closed:
            self._fail(ResponseAborted(reason))

    def pass_failure(self, exchange: HTTPExchange, error: BaseException) -> bool:
        """Have `deliver` raise it, unless the response is over."""
        if exchange.state >= COMPLETE:
            return self._fault is not None and self._fault() is error
        self._fail(crossing(error))
        return True

    def abandon(self, exchange: HTTPExchange, reason: str) -> None:
        """Have `deliver` raise though the host has not taken what it was sent last, which may take for ever."""
        self.abort(exchange, reason)
        # What nothing has been sent of yet is begun first: it must not become a 500.
        while len(self._messages) > (0 if self._has_begun else 1):
            self._messages.pop()
        if self._sending is not None and not self._is_abandoned:
            self._is_abandoned = True
            self._sending.cancel()

    async def drain(self) -> None:
        """Wait until the host has caught up, or the exchange is over."""
        await self._backlog.wait(lambda: self.exchange.state >= COMPLETE)

    def last_send(self) -> Callable[[], object] | None:
        """What is to be called when something awaits the last send."""
        return self._backlog.last_send()

    def _has_room(self, size: int) -> bool:
        """Whether `size` bytes of content more may wait for the host; breaks the response off if not."""
        shortage = self._backlog.shortage(size, self._settings)
        if shortage:
            logger.warning("%s: broken off, the host has %s", self.exchange, shortage)
            self.exchange.break_off("too much unsent")
        return not shortage

    def _fail(self, failure: Exception) -> None:
        if self._failure is None:
            self._failure = failure
            self._changed.set()

    def _fail_with(self, fault: Exception) -> None:
        """The response cannot go on because of `fault`, which is raised to the application too."""
        self._fault = weakref.ref(fault)
        self._fail(fault)

    def _put(self, message: Message, content: bytes) -> None:
        self._messages.append((message, len(content)))
        if content:
            self._backlog.add(len(content))
        self._changed.set()

    def _read_on(self) -> None:
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    async def _read(self) -> None:
        """Receive content, and set `_reading` to None at the end."""
        raise NotImplementedError
