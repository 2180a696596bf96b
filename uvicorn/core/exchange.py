"""The waist, HTTP: one request and its response (RFC 9110's exchange), between a gateway and an interface.

A gateway (PEP 3333's word for a host: it carries requests in and responses out) creates an `HTTPExchange`, feeds it
content, and sends the response. An interface reads the head, receives content, and responds. Neither knows the other.

The states of the response, and what each event does to them. A cell names the effects, then the next state; without
one the state stays. `error` raises LocalProtocolError, `-` never happens. tests/core/test_exchange.py reads this table.

    event               WAITING           STREAMING              COMPLETE   CLOSED
    respond, last       COMPLETE          error                  error      drop
    respond, more       STREAMING         error                  error      drop
    respond, invalid    error             error                  error      drop
    write, more         error             STREAMING              warn       drop
    write, last         error             COMPLETE               warn       drop
    write, invalid      error             error, CLOSED          warn       drop
    write_trailers      error             COMPLETE               warn       drop
    write_file          error             COMPLETE               warn       drop
    write_file, short   error             error, abort, CLOSED   warn       drop
    finish              ignore            COMPLETE               ignore     ignore
    app_failed          500, COMPLETE     abort, CLOSED          ignore     ignore
    abort               abort, CLOSED     abort, CLOSED          ignore     ignore
    break_off           abandon, CLOSED   abandon, CLOSED        ignore     ignore
    half_close          WAITING           STREAMING              COMPLETE   CLOSED
    disconnect          CLOSED            CLOSED                 ignore     ignore
    switch_protocols    COMPLETE          -                      -          -

A response without content (to HEAD, or with 204 or 304) is COMPLETE with its head, even if the application announces
more (RFC 9110, section 9.3.2). It has `ended_early` then, as after `finish`: what the application still sends is
dropped without a warning.

The request's content is NONE, OPEN, COMPLETE or BROKEN. An exchange is touched by its event loop's thread only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import IntEnum
from io import FileIO
from typing import Any, Final, Protocol, final
from urllib.parse import quote, unquote_to_bytes

from uvicorn.core.endpoint import Endpoint, is_below
from uvicorn.core.waiters import Waiters
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.escape import escaped
from uvicorn.fields import Fields
from uvicorn.types import Headers

logger = logging.getLogger("uvicorn.app")


class ExchangeState(IntEnum):
    """State of a response; the docstring of this module has the transitions."""

    WAITING = 0
    STREAMING = 1
    COMPLETE = 2
    CLOSED = 3


# Typed as the enum, not as one member: mypy would take a state that was compared for one that no call changes.
WAITING: Final[ExchangeState] = ExchangeState.WAITING
STREAMING: Final[ExchangeState] = ExchangeState.STREAMING
COMPLETE: Final[ExchangeState] = ExchangeState.COMPLETE
CLOSED: Final[ExchangeState] = ExchangeState.CLOSED

# A piece of content of this size is handed on as it is: joining it to the next would cost more than receiving twice.
_WORTH_BYTES: Final = 16384

# Of a file that is read for a response: as much as a connection may have unsent.
_FILE_BYTES: Final = 65536

_NONE: Final = 0
_OPEN: Final = 1
_WHOLE: Final = 2
_BROKEN: Final = 3

#: Of the response to a request whose application failed: constant, so that nothing leaks.
ERROR_HEADERS: Final = ((b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff"))


class ContentTaker(Protocol):
    """Takes content as it arrives, instead of waiting for each piece. Called on the event loop's thread."""

    def take_content(self, content: bytes) -> int:
        """Take `content`. Return the number of bytes buffered above the high-water mark."""

    def end_content(self, whole: bool) -> None:
        """The content has ended; `whole` is false if it ended early."""


class ThreadCall(Protocol):
    """A call of a blocking application on a worker thread, which answers an exchange."""

    @property
    def holds_thread(self) -> bool:
        """Whether the call has yet to return."""


class HTTPGateway:
    """The left side: subclassed once for each way of hosting."""

    __slots__ = ()

    #: Whether the write buffer is above its high-water mark; `drain` waits until it is not.
    write_paused = False

    #: Whether `send_file` has the kernel send a file, without reading it.
    sends_files = False

    def send_response(
        self,
        exchange: HTTPExchange,
        status: int,
        headers: Headers,
        content: bytes,
        more_content: bool,
        reason: bytes,
    ) -> None:
        """Begin the response. Raises LocalProtocolError, having sent nothing, if it cannot be sent honestly."""
        raise NotImplementedError

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        """Go on with the response. Raises LocalProtocolError, having ended the connection, for wrong content."""
        raise NotImplementedError

    def send_trailers(self, exchange: HTTPExchange, headers: Headers) -> None:
        """End the response, with fields behind its content where the way to the client has room for them."""
        self.send_content(exchange, b"", False)

    async def send_file(self, exchange: HTTPExchange, file: FileIO, count: int, start: int = 0) -> None:
        """Send `count` bytes of a file from `start` as content, at the client's pace; read off the event loop."""
        loop = asyncio.get_running_loop()
        if start:
            file.seek(start)
        while count and exchange.state is STREAMING:
            content = await loop.run_in_executor(None, file.read, min(count, _FILE_BYTES))
            if not content:
                raise LocalProtocolError(f"the file has {count} bytes less than when it was opened")
            count -= len(content)
            exchange.write(content)
            await exchange.drain()

    def want_content(self, exchange: HTTPExchange) -> None:
        """The application waits for content: read on, and send 100 Continue if the client expects it."""
        raise NotImplementedError

    def content_taken(self, exchange: HTTPExchange) -> None:
        """The application has taken the content that had arrived."""

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        """The response is COMPLETE or CLOSED."""

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        """The response cannot be finished: make sure that it never looks complete."""
        raise NotImplementedError

    def abandon(self, exchange: HTTPExchange, reason: str) -> None:
        """As `abort`, for a client that does not read: drop what is buffered."""
        self.abort(exchange, reason)

    def handler_continues(
        self, exchange: HTTPExchange, cancel: Callable[[], object], seconds: float
    ) -> Callable[[], object]:
        """The response is complete, and its handler goes on: `cancel()` it after `seconds`, or earlier.

        Returns what to call when the handler has ended.
        """
        return asyncio.get_running_loop().call_later(seconds, cancel).cancel

    def pass_failure(self, exchange: HTTPExchange, error: BaseException) -> bool:
        """Take `error`, which the application has raised, to the caller of an adapter, which answers and logs it.

        Return whether it will be raised there; a gateway without such a caller leaves it to the interface.
        """
        return False

    async def drain(self) -> None:
        """Wait until `write_paused` is false or the client has gone."""

    def last_send(self) -> Callable[[], object] | None:
        """Return the callback for when something awaits the last send; until then it counts as unawaited (`unsent`)."""
        return None


@final
class HTTPExchange:
    """One request and its response. The head's attributes are set once and never change."""

    __slots__ = (
        "_asked",
        "_close_callbacks",
        "_content",
        "_content_state",
        "_end_callbacks",
        "_receivers",
        "_taker",
        "_warned",
        "_watchers",
        "buffered_bytes",
        "ended_early",
        "endpoint",
        "fields",
        "forwarded",
        "gateway",
        "half_closed",
        "has_content",
        "http_version",
        "method",
        "path",
        "query_string",
        "raw_path",
        "sends",
        "state",
        "status",
        "target",
        "thread_call",
    )

    def __init__(
        self,
        gateway: HTTPGateway,
        endpoint: Endpoint,
        method: str,
        target: bytes,
        http_version: str,
        fields: Fields,
        has_content: bool,
    ) -> None:
        """`target` is the request target in origin-form: the raw path, and the query after a `?` if there is one."""
        raw_path, _, self.query_string = target.partition(b"?")
        path = raw_path.decode("latin-1")
        if "%" in path:
            # Not UTF-8: U+FFFD, so that an application may encode it again (interface rule R18).
            path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
        if endpoint.root_path and path != "*" and endpoint.is_cut(path):
            # A proxy has cut its prefix off; `path` is the full path all the same.
            prefix = quote(endpoint.root_path).encode()
            raw_path = prefix + raw_path
            target = prefix + target
            path = endpoint.root_path + path
        self.endpoint = endpoint
        #: Address and scheme of the client behind a trusted proxy, which the connection is from.
        self.forwarded: tuple[tuple[str, int] | None, str] | None = None
        self.method = method
        self.path = path
        self.raw_path = raw_path
        #: `raw_path` and the query, with a `?` in between if there was one.
        self.target = target
        self.http_version = http_version
        self.fields = fields
        self.state: ExchangeState = WAITING
        self.status = 0
        #: Content that has arrived and was not received yet.
        self.buffered_bytes = 0
        #: Sends in a row without a wait; interfaces use it to let other tasks run.
        self.sends = 0
        #: May be replaced by a wrapper that observes traffic (see workers/request_log.py).
        self.gateway = gateway
        # Whether the application has asked for content, which decides about 100 Continue.
        self._asked = False
        #: Whether the request announced content.
        self.has_content = has_content
        self._content_state = _OPEN if has_content else _NONE
        self._content: list[bytes] | None = None
        self._receivers: Waiters | None = None
        self._taker: ContentTaker | None = None
        self._watchers: Waiters | None = None
        self._end_callbacks: list[Callable[[HTTPExchange], object]] | None = None
        # Set only when `_end_callbacks` is, so that `respond` has one attribute to check.
        self._close_callbacks: list[Callable[[], object]] | None = None
        #: Whether the client has closed its side: it may still be reading, or be gone.
        self.half_closed = False
        #: Whether the response was complete before the application had ended it: what it still sends is dropped.
        self.ended_early = False
        self._warned = False
        #: The call on a worker thread that answers it; set only for `min_response_rate`.
        self.thread_call: ThreadCall | None = None

    @property
    def root_path(self) -> str:
        """The endpoint's root path; empty for a request outside it: `OPTIONS *`, or an uncut path of another mount."""
        root_path = self.endpoint.root_path
        return root_path if is_below(self.path, root_path) else ""

    @property
    def headers(self) -> list[list[bytes]]:
        """The header fields, `[name, value]` each: fresh lists, which an application may change."""
        return [[name, value] for name, value in zip(*self.fields)]  # noqa: B905

    @property
    def client(self) -> tuple[str, int] | None:
        """Address of the client; None for a Unix socket."""
        return self.endpoint.client if self.forwarded is None else self.forwarded[0]

    @property
    def scheme(self) -> str:
        """`http` or `https`, as the client sees it."""
        return self.endpoint.scheme if self.forwarded is None else self.forwarded[1]

    @property
    def write_paused(self) -> bool:
        """Whether the client takes the response more slowly than the application makes it."""
        return self.gateway.write_paused

    # For interfaces: the application's side

    async def receive(self) -> tuple[bytes, bool]:
        """Content that has arrived, and whether more will follow; waits for some.

        After the last piece, `(b"", False)`. Raises ClientDisconnected if the content ended early, or was given
        up because the response was complete.
        """
        if not self._asked:
            self._ask()
        while True:
            if self._content is not None:
                content = self._content[0]
                if len(self._content) == 1 or len(content) < _WORTH_BYTES:
                    if len(self._content) > 1:
                        content = b"".join(self._content)
                    self._content = None
                    self.buffered_bytes = 0
                else:
                    del self._content[0]
                    self.buffered_bytes -= len(content)
                self.gateway.content_taken(self)
                return content, self._content is not None or self._content_state != _WHOLE
            if self._content_state == _BROKEN:
                raise ClientDisconnected("the client went away before its request was complete")
            if self._content_state != _OPEN:
                return b"", False
            if self._receivers is None:
                self._receivers = Waiters()
            # Before the gateway is asked, which may feed the content at once.
            receiver = self._receivers.add()
            self.gateway.want_content(self)
            await self._receivers.wait(receiver)

    def pass_content(self, taker: ContentTaker) -> None:
        """Pass `taker` the content that has arrived and all that follows; instead of `receive`."""
        if not self._asked:
            self._ask()
        pieces, self._content = self._content, None
        for piece in pieces or ():
            self.buffered_bytes = taker.take_content(piece)
        if self._content_state == _OPEN:
            self._taker = taker
        else:
            taker.end_content(self._content_state != _BROKEN)
        self.content_wanted(self.buffered_bytes)

    def content_wanted(self, waiting_bytes: int) -> None:
        """Report that `waiting_bytes` are still buffered above the high-water mark."""
        self.buffered_bytes = waiting_bytes
        self.gateway.content_taken(self)
        if self._content_state == _OPEN and not waiting_bytes:
            self.gateway.want_content(self)

    def receive_whole(self) -> bytes | None:
        """Return the whole content; None while some has yet to arrive. Requests without content have b""."""
        if self._content_state == _NONE:
            return b""
        if self._content_state != _WHOLE:
            return None
        content = b"".join(self._content or ())
        self._content = None
        self.buffered_bytes = 0
        self.gateway.content_taken(self)
        return content

    def respond(
        self,
        status: int,
        headers: Headers = (),
        content: bytes = b"",
        more_content: bool = False,
        reason: bytes = b"",
    ) -> None:
        """Begin the response, and end it unless `more_content`.

        A response without content is over with its head, whatever follows.

        Raises LocalProtocolError if a response has begun, or if this one cannot be sent honestly; in the second
        case another one may be tried. Dropped if the client has gone.
        """
        if self.state is not WAITING:
            if self.state is CLOSED:
                return
            raise LocalProtocolError(f"response: expected content to follow, got a status in state {self.state_name}")
        if type(content) is not bytes:
            content = _as_bytes(content)
        if more_content and (self.method == "HEAD" or status == 204 or status == 304):
            content, more_content = b"", False
            self.gateway.send_response(self, status, headers, content, more_content, reason)
            self.ended_early = True
        else:
            self.gateway.send_response(self, status, headers, content, more_content, reason)
        self.status = status
        if more_content:
            self.state = STREAMING
        else:
            self.state = COMPLETE
            if self._end_callbacks is None and self._content_state != _OPEN and not self._watchers:
                self.gateway.exchange_ended(self)
            else:
                self._end()

    def write(self, content: bytes, more_content: bool = True) -> None:
        """Go on with the response, and end it unless `more_content`. Dropped if the client has gone.

        Raises LocalProtocolError before `respond`, and when content contradicts content-length.
        """
        if self.state is not STREAMING:
            if self.state is WAITING:
                raise LocalProtocolError("response: expected a status, got content in state WAITING")
            if self.state is COMPLETE and not self._warned and not self.ended_early:
                self._warned = True
                logger.warning("%s: content after the end of the response was ignored", self)
            return
        if type(content) is not bytes:
            content = _as_bytes(content)
        try:
            self.gateway.send_content(self, content, more_content)
        except LocalProtocolError:
            self.disconnect()
            raise
        # The gateway may have noticed that the client has gone.
        if not more_content and self.state is STREAMING:
            self.state = COMPLETE
            self._end()

    def write_trailers(self, headers: Headers) -> None:
        """End a response that has begun, with fields behind its content: where they cannot be sent they are left out.

        Otherwise as `write`. Raises LocalProtocolError for fields that must not stand there, too.
        """
        if self.state is not STREAMING:
            self.write(b"", more_content=False)
            return
        try:
            self.gateway.send_trailers(self, headers)
        except LocalProtocolError:
            self.disconnect()
            raise
        if self.state is STREAMING:
            self.state = COMPLETE
            self._end()

    async def write_file(self, file: FileIO, count: int, start: int = 0) -> None:
        """End a response that has begun with `count` bytes of a file, from `start`; nothing else may write meanwhile.

        As `write`, does nothing once the client has gone. Aborts the response, and raises LocalProtocolError, if the
        file contradicts content-length; aborts it too if the wait is cancelled.
        """
        if self.state is STREAMING:
            try:
                await self.gateway.send_file(self, file, count, start)
            except BaseException:
                self.abort("the file could not be sent")
                raise
        self.write(b"", more_content=False)

    def finish(self) -> None:
        """End a response that has begun, as if the application had ended it; what it still sends is dropped."""
        if self.state is STREAMING:
            self.ended_early = True
            self.write(b"", more_content=False)

    def switch_protocols(self) -> None:
        """The connection goes on in another protocol (RFC 9110, section 15.2.2): this one sends nothing more."""
        self.status = 101
        self.state = COMPLETE
        self._end()

    async def drain(self) -> None:
        """Wait until the client has taken enough of the response, or has gone."""
        await self.gateway.drain()

    async def wait_disconnect(self) -> None:
        """Wait until the exchange has ended, or the client has closed its side of the connection."""
        if self.state < COMPLETE and not self.half_closed:
            if self._watchers is None:
                self._watchers = Waiters()
            await self._watchers.wait(self._watchers.add())

    def on_close(self, callback: Callable[[], object]) -> None:
        """Have `callback()` called once: when the exchange ends, or the client closes its side before."""
        if self.state >= COMPLETE or self.half_closed:
            callback()
            return
        if self._end_callbacks is None:
            self._end_callbacks = []
        if self._close_callbacks is None:
            self._close_callbacks = [callback]
        else:
            self._close_callbacks.append(callback)

    def on_end(self, callback: Callable[[HTTPExchange], object]) -> None:
        """Have `callback(exchange)` called once, when the response is complete or the client has gone."""
        if self.state >= COMPLETE:
            callback(self)
        elif self._end_callbacks is None:
            self._end_callbacks = [callback]
        else:
            self._end_callbacks.append(callback)

    def app_failed(self, reason: str) -> None:
        """End the response of a failed application: 500 if it has not begun, otherwise abort it.

        The caller logs the failure.
        """
        if self.state is WAITING:
            self.respond(500, ERROR_HEADERS, b"Internal Server Error\n")
        elif self.state is STREAMING:
            self.abort(reason)

    def abort(self, reason: str) -> None:
        """Break the connection off, so that the response does not look complete."""
        if self.state < COMPLETE:
            self.gateway.abort(self, reason)
            self.disconnect()

    def break_off(self, reason: str) -> None:
        """As `abort`, for a client that is too slow: what it has not read is lost."""
        if self.state < COMPLETE:
            self.gateway.abandon(self, reason)
            self.disconnect()

    # For gateways

    def feed_content(self, content: bytes) -> None:
        """Content has arrived; dropped if the response is over."""
        if self._content_state == _OPEN:
            if self._taker is not None:
                self.buffered_bytes = self._taker.take_content(content)
                return
            if self._content is None:
                self._content = [content]
            else:
                self._content.append(content)
            self.buffered_bytes += len(content)
            if self._receivers is not None:
                self._receivers.wake()

    def feed_eof(self) -> None:
        """The content is whole."""
        if self._content_state == _OPEN:
            self._content_state = _WHOLE
            self._content_ended()

    def break_content(self) -> None:
        """The content has ended early."""
        if self._content_state == _OPEN:
            self._content_state = _BROKEN
            self._content_ended()

    def half_close(self, content_follows: bool = False) -> None:
        """The client has closed its side, but may still be reading: wake tasks that wait for the disconnect.

        `content_follows`: the gateway has content that it has not fed yet; otherwise missing content never comes.
        """
        if not content_follows:
            self.break_content()
        if not self.half_closed:
            self.half_closed = True
            if self._watchers is not None:
                self._watchers.wake()
            self._call_close_callbacks()

    def disconnect(self) -> None:
        """The client has gone: what the application still sends is dropped."""
        self.break_content()
        if self.state < COMPLETE:
            self.state = CLOSED
            self._end()

    @property
    def state_name(self) -> str:
        """Name of the state, for errors."""
        return self.state.name

    def __repr__(self) -> str:
        return f"<{escaped(self.method, 40)} {self.path!r:.200} {self.state_name}>"

    def _end(self) -> None:
        # Content that arrives from now on is dropped; a late `receive` must not take a part for the whole.
        if self._content_state == _OPEN:
            self.break_content()
        if self._watchers is not None:
            self._watchers.wake()
        self.gateway.exchange_ended(self)
        callbacks = self._end_callbacks
        if callbacks is not None:
            self._end_callbacks = None
            for callback in callbacks:
                try:
                    callback(self)
                except Exception:
                    logger.exception("%s: a callback for its end failed", self)
            self._call_close_callbacks()

    def _call_close_callbacks(self) -> None:
        callbacks, self._close_callbacks = self._close_callbacks, None
        for callback in callbacks or ():
            try:
                callback()
            except Exception:
                logger.exception("%s: exception in an on_close callback", self)

    def _ask(self) -> None:
        self._asked = True
        if self._content_state != _NONE and self.state is WAITING:
            self.gateway.want_content(self)

    def _content_ended(self) -> None:
        if self._taker is not None:
            taker, self._taker = self._taker, None
            taker.end_content(self._content_state == _WHOLE)
        if self._receivers is not None:
            self._receivers.wake()


def _as_bytes(content: Any) -> bytes:
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    raise LocalProtocolError(f"content: expected bytes, got {type(content).__name__} {content!r:.100}")
