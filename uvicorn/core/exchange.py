"""An exchange is one HTTP request and its response, between a gateway and an interface (RFC 9110).

The table shows the states of the response. A cell names the effects of an event, then the next state.
`error` raises LocalProtocolError. `-` marks events that never happen. tests/core/test_exchange.py reads the table.

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

For HEAD, 204 and 304, `respond, more` leads to COMPLETE (RFC 9110, section 9.3.2). Later content is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from io import FileIO
from typing import Final, final
from urllib.parse import quote, unquote_to_bytes

from uvicorn.core.content import NO_CONTENT, OPEN, ContentTaker, RequestContent, as_bytes
from uvicorn.core.endpoint import Endpoint, is_below
from uvicorn.core.exchange_end import ExchangeEnd, ExchangeState
from uvicorn.core.gateway import Gateway
from uvicorn.errors import LocalProtocolError
from uvicorn.escape import escaped
from uvicorn.fields import Fields
from uvicorn.types import Headers

logger = logging.getLogger("uvicorn.app")

# Unpacked, not Final: after a comparison with a Final, mypy assumes that no call changes the state.
WAITING, STREAMING, COMPLETE, CLOSED = ExchangeState

# Bytes of a file that are read at a time: the high-water mark of a connection.
_FILE_BYTES: Final = 65536

#: Header fields of the server's own error responses.
ERROR_HEADERS: Final = ((b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff"))
#: Status, header fields and content of the response to a request that exceeds a limit of the server.
OVERLOADED: Final = (503, (*ERROR_HEADERS, (b"retry-after", b"1")), b"Service Unavailable\n")


class HTTPGateway(Gateway):
    """Base class of HTTP gateways, which send responses."""

    __slots__ = ()

    #: Whether `send_file` has the kernel send a file, without reading it.
    sends_files = False
    #: Whether content arrives without further requests: `want_content` is needed for the first piece only.
    pushes_content = False

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        """Begin the response. For an invalid response, send nothing and raise LocalProtocolError."""
        raise NotImplementedError

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        """Send content. For invalid content, end the connection and raise LocalProtocolError."""
        raise NotImplementedError

    def send_trailers(self, exchange: HTTPExchange, headers: Headers) -> None:
        """End the response, with trailers if the protocol allows them."""
        self.send_content(exchange, b"", False)

    async def send_file(self, exchange: HTTPExchange, file: FileIO, count: int, start: int = 0) -> None:
        """Send `count` bytes of `file` as content, from byte `start`."""
        loop = asyncio.get_running_loop()
        if start:
            file.seek(start)
        while count and exchange.state is STREAMING:
            content = await loop.run_in_executor(None, file.read, min(count, _FILE_BYTES))
            if not content:
                raise LocalProtocolError(f"the file is {count} bytes shorter than when it was opened")
            count -= len(content)
            exchange.write(content)
            await exchange.drain()

    def want_content(self, exchange: HTTPExchange) -> None:
        """Resume reading. If the client expects "100 Continue", send it."""
        raise NotImplementedError

    def content_taken(self, exchange: HTTPExchange) -> None:
        """Resume reading after the application has taken content."""

    def exchange_ended(self, exchange: HTTPExchange) -> None: ...

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        """End the connection so that the response does not look complete."""
        raise NotImplementedError

    def abandon(self, exchange: HTTPExchange, reason: str) -> None:
        """End the connection at once, and drop unsent bytes."""
        self.abort(exchange, reason)

    def handler_continues(
        self, exchange: HTTPExchange, cancel: Callable[[], object], seconds: float
    ) -> Callable[[], object]:
        """Schedule a call of `cancel` in `seconds`. Return a function that unschedules it."""
        return asyncio.get_running_loop().call_later(seconds, cancel).cancel

    def pass_failure(self, exchange: HTTPExchange, error: BaseException) -> bool:
        """Pass `error` to the adapter's caller, and return True. Return False if no adapter takes it."""
        return False


@final
class HTTPExchange(ExchangeEnd):
    """One HTTP request and its response. For use on the event loop's thread."""

    __slots__ = (
        "_warned", "content", "ended_early", "endpoint", "fields", "forwarded", "gateway", "has_content",
        "http_version", "method", "pairs", "path", "query_string", "raw_path", "sends", "status", "target",
        "thread_held",
    )  # fmt: skip

    def __init__(
        self,
        gateway: HTTPGateway,
        endpoint: Endpoint,
        method: str,
        target: bytes,
        http_version: str,
        fields: Fields,
        has_content: bool,
        pairs: Sequence[tuple[bytes, bytes]] | None = None,
    ) -> None:
        raw_path, _, self.query_string = target.partition(b"?")
        path = raw_path.decode("latin-1")
        if "%" in path:
            # Bytes that are not UTF-8 become U+FFFD, so that the path can always be encoded (interface rule R18).
            path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
        if endpoint.root_path and path != "*" and endpoint.is_cut(path):
            path, prefix = endpoint.root_path + path, quote(endpoint.root_path).encode()
            raw_path, target = prefix + raw_path, prefix + target
        self.endpoint = endpoint
        #: Address and scheme of the client, if a trusted proxy has made the connection and forwards them.
        self.forwarded: tuple[tuple[str, int] | None, str] | None = None
        self.method = method
        self.path = path
        self.raw_path = raw_path
        #: In origin-form (RFC 9112, section 3.2.1): `raw_path`, and the query after a `?` if there is one.
        self.target = target
        self.http_version = http_version
        self.fields = fields
        #: The fields as pairs if they are at hand, otherwise None: making them costs more than reading `fields`.
        self.pairs = pairs
        self.state = WAITING
        self.status = 0
        #: Number of sends; interfaces let other tasks run after every so many sends.
        self.sends = 0
        #: May be replaced by a wrapper that observes traffic (see workers/request_log.py).
        self.gateway = gateway
        #: Whether the request announced content, which gateways feed to `content`.
        self.has_content = has_content
        self.content = RequestContent() if has_content else NO_CONTENT
        self.end_listeners = self._close_callbacks = self._watchers = None
        self.half_closed = False
        #: Whether the response was complete before the application had ended it; content it still sends is dropped.
        self.ended_early = False
        self._warned = False
        #: Returns whether the application holds a worker thread; set only for `min_response_rate`.
        self.thread_held: Callable[[], bool] | None = None

    @property
    def root_path(self) -> str:
        """The root path, or "" if `path` is outside the root path."""
        root_path = self.endpoint.root_path
        return root_path if is_below(self.path, root_path) else ""

    @property
    def headers(self) -> list[list[bytes]]:
        """The header fields as `[name, value]` lists. Each access returns new lists."""
        return [[name, value] for name, value in self.pairs or zip(*self.fields)]  # noqa: B905

    @property
    def client(self) -> tuple[str, int] | None:
        """The address of the client, or None on a Unix socket."""
        return self.endpoint.client if self.forwarded is None else self.forwarded[0]

    @property
    def scheme(self) -> str:
        return self.endpoint.scheme if self.forwarded is None else self.forwarded[1]

    @property
    def write_paused(self) -> bool:
        return self.gateway.write_paused

    # For interfaces

    async def receive(self) -> tuple[bytes, bool]:
        """Wait for content and return `(content, more_follows)`. Raises ClientDisconnected."""
        return self.receive_now() or await self.receive_later()

    async def receive_later(self) -> tuple[bytes, bool]:
        """Wait for content, after `receive_now` has returned None."""
        while True:
            receivers = self.content.receivers()
            # Added before the gateway is asked, because the gateway may feed content immediately.
            receiver = receivers.add()
            self.gateway.want_content(self)
            # As `receivers.wait`, without its coroutine.
            try:
                await receiver
            except asyncio.CancelledError:
                receivers.remove(receiver)
                raise
            if (received := self.receive_now()) is not None:
                return received

    def receive_now(self) -> tuple[bytes, bool] | None:
        """Return `(content, more_follows)`, or None if the caller must wait."""
        if not self.content.asked:
            self._ask()
        received = self.content.take()
        if received is not None and received[0]:
            self.gateway.content_taken(self)
        return received

    def receive_whole(self) -> bytes | None:
        """Return the whole content, or None before all of it has arrived."""
        content = self.content.take_whole()
        if content is not None and self.has_content:
            self.gateway.content_taken(self)
        return content

    def pass_content(self, taker: ContentTaker) -> None:
        """Pass arriving content to `taker`. Afterwards, do not call `receive`."""
        if not self.content.asked:
            self._ask()
        self.content.pass_to(taker)
        self.content_wanted(self.content.buffered_bytes)

    def content_wanted(self, waiting_bytes: int) -> None:
        """Store the taker's bytes above its high-water mark. Without any, ask for content."""
        self.content.buffered_bytes = waiting_bytes
        self.gateway.content_taken(self)
        if self.content.state is OPEN and not waiting_bytes:
            self.gateway.want_content(self)

    def respond(
        self, status: int, headers: Headers = (), content: bytes = b"", more_content: bool = False, reason: bytes = b""
    ) -> None:
        """Begin the response. If `more_content` is false, also end it. Raises LocalProtocolError."""
        if self.state is not WAITING:
            if self.state is CLOSED:
                return
            raise LocalProtocolError(f"response: expected one status, got a second one in state {self.state.name}")
        if type(content) is not bytes:
            content = as_bytes(content)
        if more_content and (self.method == "HEAD" or status == 204 or status == 304):
            more_content = False
            self.gateway.send_response(self, status, headers, b"", False, reason)
            self.ended_early = True
        else:
            self.gateway.send_response(self, status, headers, content, more_content, reason)
        self.status = status
        if more_content:
            self.state = STREAMING
        else:
            self.state = COMPLETE
            if self.end_listeners is None and self.content.state is not OPEN:
                self.gateway.exchange_ended(self)
            else:
                self._end()

    def write(self, content: bytes, more_content: bool = True) -> None:
        """Send content. If `more_content` is false, end the response. Raises LocalProtocolError."""
        if self.state is not STREAMING:
            if self.state is WAITING:
                raise LocalProtocolError("response: expected a status, got content in state WAITING")
            if self.state is COMPLETE and not self._warned and not self.ended_early:
                self._warned = True
                logger.warning("%s: content after the end of the response was ignored", self)
            return
        if type(content) is not bytes:
            content = as_bytes(content)
        try:
            self.gateway.send_content(self, content, more_content)
        except LocalProtocolError:
            self.disconnect()
            raise
        # The gateway may have noticed that the client has disconnected.
        if not more_content and self.state is STREAMING:
            self.state = COMPLETE
            self._end()

    def write_trailers(self, headers: Headers) -> None:
        """End the response, with trailers if the protocol allows them. Raises LocalProtocolError."""
        if self.state is not STREAMING:
            return self.write(b"", more_content=False)
        try:
            self.gateway.send_trailers(self, headers)
        except LocalProtocolError:
            self.disconnect()
            raise
        if self.state is STREAMING:
            self.state = COMPLETE
            self._end()

    async def write_file(self, file: FileIO, count: int, start: int = 0) -> None:
        """Send `count` bytes of `file` from byte `start`, then end the response."""
        if self.state is STREAMING:
            try:
                await self.gateway.send_file(self, file, count, start)
            except BaseException:
                self.abort("the file could not be sent")
                raise
        self.write(b"", more_content=False)

    def finish(self) -> None:
        """End a response that has begun. Later content is dropped."""
        if self.state is STREAMING:
            self.ended_early = True
            self.write(b"", more_content=False)

    def switch_protocols(self) -> None:
        """End the exchange with status 101 (RFC 9110, section 15.2.2)."""
        self.status, self.state = 101, COMPLETE
        self._end()

    async def drain(self) -> None:
        await self.gateway.drain()

    def app_failed(self, reason: str) -> None:
        """Respond 500, or abort a response that has begun."""
        if self.state is WAITING:
            self.respond(500, ERROR_HEADERS, b"Internal Server Error\n")
        elif self.state is STREAMING:
            self.abort(reason)

    def abort(self, reason: str) -> None:
        if self.state < COMPLETE:
            self.gateway.abort(self, reason)
            self.disconnect()

    def break_off(self, reason: str) -> None:
        """End the connection at once, and drop unsent bytes."""
        if self.state < COMPLETE:
            self.gateway.abandon(self, reason)
            self.disconnect()

    # For gateways

    def half_close(self, content_follows: bool = False) -> None:
        """Record that the client has half-closed the connection."""
        if not content_follows:
            self.content.break_off()
        self.half_closed = True
        self._call_close_callbacks()

    def disconnect(self) -> None:
        """Record that the client has disconnected. Later sends are dropped."""
        self.content.break_off()
        if self.state < COMPLETE:
            self.state = CLOSED
            self._end()

    def __repr__(self) -> str:
        return f"<{escaped(self.method, 40)} {self.path!r:.200}{self.endpoint.via} {self.state.name}>"

    def _end(self) -> None:
        if self.content.state is OPEN:
            # Content that still arrives is dropped. A late `receive` raises: partial content must not look whole.
            self.content.break_off()
        self.gateway.exchange_ended(self)
        listeners = self.end_listeners
        if listeners is not None:
            self.end_listeners = None
            if isinstance(listeners, list):
                # As `run_callbacks`, without its call: 0.1 us.
                for callback in listeners:
                    try:
                        callback(self)
                    except Exception:
                        logger.exception("%s: exception in an on_end callback", self)
            else:
                listeners.on_end(self)

    def _ask(self) -> None:
        self.content.asked = True
        if self.state is WAITING:
            self.gateway.want_content(self)
