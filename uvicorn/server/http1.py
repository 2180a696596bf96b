"""One HTTP/1.1 connection: a transport on one side, the parser, the encoder and the exchange on the other.

Requests are answered one at a time and in order. While one is being answered, what a client pipelines behind it
waits unparsed, at most `read_buffer_bytes` of it before reading pauses: a bound on bytes holds whatever the size
of the requests, and a request that is refused cannot overtake the answer to the one before it.
"""

from __future__ import annotations

import asyncio
from io import FileIO
from typing import Any, Final, cast, final

from uvicorn.errors import RemoteProtocolError
from uvicorn.exchange import COMPLETE, ERROR_HEADERS, STREAMING, WAITING, Endpoint, HTTPExchange, HTTPGateway
from uvicorn.protocol.http1_encoder import CONTINUE, PHRASES, ContentTooLong, HTTP1ResponseEncoder
from uvicorn.protocol.http1_parser import HTTP1RequestParser
from uvicorn.server.context import ServerContext
from uvicorn.server.deadlines import ContentPace, WriteStall
from uvicorn.server.resetting import reset
from uvicorn.server.sendfile import send_file
from uvicorn.types import Headers

# What a connection is doing; deadlines depend on it.
_HEAD: Final = 0  # waiting for the first head, or for the rest of one
_IDLE: Final = 1  # kept alive between requests
_BUSY: Final = 2  # an exchange is under way
_DRAINING: Final = 3  # the response is out, content that nobody read still comes in
_LINGERING: Final = 4  # refused: our last bytes are on their way, input is dropped
_CLOSING: Final = 5  # closed as soon as what is unsent has been sent
_CLOSED: Final = 6

# Content above this is written beside the head instead of being copied behind it.
_COPY_BYTES: Final = 65536

# Seconds in which unread content of up to `max_drain_bytes` has to arrive for the connection to be kept.
_DRAIN_SECONDS: Final = 1.0

# Idle for less than this when the server stops: a request may be on its way, so wait for it a little.
_RECENT_SECONDS: Final = 0.5


@final
class HTTP1Connection(asyncio.BufferedProtocol, HTTPGateway):
    """The protocol object that the event loop drives, and the gateway of its exchanges."""

    __slots__ = (
        "_advancing",
        "_arrived",
        "_began",
        "_content_done",
        "_content_sent",
        "_context",
        "_continue_due",
        "_discarded",
        "_drainers",
        "_encoder",
        "_endpoint",
        "_eof",
        "_exchange",
        "_fault",
        "_file_left",
        "_jitter",
        "_keep_alive",
        "_over_limit",
        "_pace",
        "_parser",
        "_phase",
        "_reading_paused",
        "_received",
        "_since",
        "_stall",
        "_transport",
        "_trusted",
        "_written",
        "__weakref__",
        "write_paused",
    )

    _transport: asyncio.Transport
    _endpoint: Endpoint

    def __init__(self, context: ServerContext) -> None:
        self.write_paused = False
        self._context = context
        self._parser = HTTP1RequestParser(self, context.settings.limits)
        self._encoder = HTTP1ResponseEncoder(context.defaults)
        self._exchange: HTTPExchange | None = None
        self._phase = _HEAD
        self._since = context.clock.now
        self._jitter = 1 + context.clock.jitter() / 10
        self._arrived = False
        self._fault: RemoteProtocolError | None = None
        self._advancing = False
        self._keep_alive = True
        self._content_done = True
        self._content_sent = 0
        self._began = 0.0
        self._continue_due = False
        self._eof = False
        self._over_limit = False
        self._trusted = False
        self._reading_paused = False
        self._received = 0
        self._written = 0
        self._file_left = 0
        self._discarded = 0
        self._drainers: tuple[asyncio.Future[None], ...] = ()
        self._pace: ContentPace | None = None
        self._stall: WriteStall | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast(asyncio.Transport, transport)
        context = self._context
        settings = context.settings
        self._endpoint = Endpoint(
            "https" if transport.get_extra_info("sslcontext") else "http",
            settings.root_path,
            _host_and_port(transport.get_extra_info("sockname")),
            _host_and_port(transport.get_extra_info("peername")),
            context.loop,
        )
        trusted = context.trusted
        if trusted is not None:
            path = transport.get_extra_info("sockname")
            self._trusted = trusted.trusts(self._endpoint.client, path if isinstance(path, str) else "")
        self._transport.set_write_buffer_limits(high=settings.write_buffer_bytes)
        context.arriving.discard(self)
        context.connections.add(self)
        context.accepted += 1
        self._over_limit = 0 < settings.limit_concurrency < len(context.connections)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop may put what it reads: the same place for all connections."""
        # Half of it behind content that waits, so that no more than the whole of it ever waits.
        return self._context.buffer if self._phase != _BUSY or not self._held() else self._context.half_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` have been read."""
        # A copy, so that the shared buffer is free again when this returns.
        self.data_received(self._context.buffer[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._phase >= _LINGERING:
            self._discard(len(data))
            return
        try:
            self._parser.receive_data(data)
        except RemoteProtocolError as error:
            self._fault = error
            self._advance()
            return
        if self._arrived:
            self._advance()
        elif self._phase == _IDLE:
            self._await_head()
        if self._phase == _BUSY:
            self._update_reading()
        elif self._phase == _DRAINING:
            self._drained()

    def eof_received(self) -> bool:
        """The client sends no more. It may still be reading: an exchange under way is finished (A10.14)."""
        self._eof = True
        if self._phase != _BUSY or self._is_handshake():
            self._close()
            return False
        if self._exchange is not None:
            self._exchange.half_close()
        # With TLS there is no half-close, and the loop warns if one is asked for.
        return self._phase == _BUSY and self._endpoint.scheme == "http"

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is gone."""
        self._phase = _CLOSED
        self._context.connections.discard(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnect()
        self.resume_writing()
        # Freed now rather than when the garbage collector comes by.
        self._parser.detach()
        self._endpoint.context = None

    def pause_writing(self) -> None:
        """More is unsent than the client should be owed."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        drainers, self._drainers = self._drainers, ()
        for drainer in drainers:
            if not drainer.done():
                drainer.set_result(None)
        if self._phase == _BUSY and self._exchange is None:
            # The next request has been held back.
            self._advance_soon()

    # What the parser calls

    def on_request(self) -> None:
        """A head is complete."""
        parser = self._parser
        has_content = parser.content_length != 0
        endpoint = self._forwarded_endpoint() if parser.forwarded and self._trusted else self._endpoint
        self._exchange = HTTPExchange(
            self, endpoint, parser.method, parser.target, parser.http_version, parser.headers, has_content
        )
        if self._context.access_log is not None:
            self._began = self._context.clock.monotonic()
        self._content_sent = 0
        self._phase = _BUSY
        self._arrived = True
        # An upgrade that we do not make: what follows the request is not HTTP.
        self._keep_alive = parser.keep_alive and parser.upgrade != b"websocket"
        self._content_done = not has_content
        if has_content:
            self._continue_due = parser.expect_continue
            self._received = 0
            self._pace = None

    def on_content(self, content: bytes) -> None:
        """Some content of the current request."""
        self._received += len(content)
        if self._phase == _DRAINING:
            self._discarded += len(content)
        elif self._exchange is not None:
            self._exchange.feed_content(content)

    def on_message_complete(self) -> None:
        """The content of the current request is whole."""
        self._content_done = True
        if self._exchange is not None:
            self._exchange.feed_eof()

    # What the exchange calls

    def send_response(
        self,
        exchange: HTTPExchange,
        status: int,
        headers: Headers,
        content: bytes,
        more_content: bool,
        reason: bytes,
    ) -> None:
        """Write the head, and the content that is at hand, at once."""
        encoder = self._encoder
        keep_alive = self._keep_alive and not self._context.stopping
        if not self._content_done or self._continue_due:
            # With 100 Continue due, the client may or may not send its content: the next bytes could be either.
            # More unread content than is worth reading: closing is cheaper.
            left = self._parser.content_left
            wanted = left <= self._context.settings.max_drain_bytes and not self._continue_due
            keep_alive = keep_alive and wanted and not self._eof
        elif self._eof:
            keep_alive = keep_alive and bool(self._parser.buffer)
        head = encoder.start(
            exchange.method, exchange.http_version, keep_alive, status, reason, headers, len(content), more_content
        )
        if content:
            if exchange.method != "HEAD":
                self._content_sent = len(content)
            if more_content or not encoder.has_length:
                content = encoder.content(content, more_content)
        if len(content) <= _COPY_BYTES:
            head += content
            self._transport.write(head)
        else:
            # Not writelines: asyncio's does without flow control, and keeps on at a socket that has failed.
            self._transport.write(head)
            self._transport.write(content)
            self._written += len(content)
        self._written += len(head)
        if encoder.dropped:
            self._context.dropped_fields(encoder.dropped)

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        """Write a piece of content."""
        transport = self._transport
        if transport.is_closing():
            # A write has failed; the loop will say so on its next turn, which a busy handler may keep from coming.
            exchange.disconnect()
            return
        unsent_limit = self._context.settings.max_unsent_bytes
        if self.write_paused and transport.get_write_buffer_size() > unsent_limit:
            self._context.warnings.warn(self._endpoint.client, f"reset: over {unsent_limit} bytes of a response unsent")
            exchange.abort("too much unsent")
            return
        try:
            data = self._encoder.content(content, more_content)
        except ContentTooLong as error:
            transport.write(error.allowed)
            self._close()
            raise
        except Exception:
            self.reset()
            raise
        if data:
            transport.write(data)
            self._written += len(data)
            self._content_sent += len(content)

    def send_trailers(self, exchange: HTTPExchange, headers: Headers) -> None:
        """Write the end of a response."""
        if self._transport.is_closing():
            exchange.disconnect()
            return
        try:
            data = self._encoder.trailers(headers)
        except Exception:
            self.reset()
            raise
        if data:
            self._transport.write(data)
            self._written += len(data)

    async def send_file(self, exchange: HTTPExchange, file: FileIO, count: int) -> None:
        """Have the kernel send a file, behind what is unsent; through our hands where it is to be encrypted."""
        transport = self._transport
        sock = transport.get_extra_info("socket")
        if self._endpoint.scheme == "https" or sock is None or sock.fileno() < 0:
            await super().send_file(exchange, file, count)
            return
        framing = self._encoder.beside(count)
        if framing is None:
            return
        before, behind = framing
        transport.write(before)
        transport.set_write_buffer_limits(high=0)
        while transport.get_write_buffer_size() and exchange.state == STREAMING:
            await (self.drain() if self.write_paused else asyncio.sleep(0))
        transport.set_write_buffer_limits(high=self._context.settings.write_buffer_bytes)
        self._file_left = count
        self._written += len(before) + count + len(behind)
        try:
            await send_file(exchange, sock.fileno(), file.fileno(), count, self._file_sent)
        except OSError:
            # The loop has not noticed yet: nobody was writing through it.
            self.reset()
            exchange.disconnect()
        finally:
            self._file_left = 0
        if exchange.state == STREAMING:
            transport.write(behind)

    def want_content(self, exchange: HTTPExchange) -> None:
        """The application waits for content: ask for it, and read on."""
        if exchange is not self._exchange:
            return
        if self._continue_due:
            self._continue_due = False
            if exchange.state == WAITING:
                # Even if content has come already, which would excuse us: what a client is told depends on what it
                # sent and what the application did, not on how packets were cut.
                self._transport.write(CONTINUE)
        if self._reading_paused:
            self._update_reading()

    def content_taken(self, exchange: HTTPExchange) -> None:
        """There is room for more content, and a client that leaves meanwhile is to be noticed."""
        if exchange is self._exchange:
            # What was taken has been sent, whether or not it was asked for.
            self._continue_due = False
        if self._reading_paused:
            self._update_reading()

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        """The response is out, or never will be."""
        context = self._context
        context.ended += 1
        if exchange.state != COMPLETE:
            return
        if context.access_log is not None:
            context.access_log(exchange, self._content_sent, context.clock.monotonic() - self._began)
        if self._phase != _BUSY:
            return
        if self._encoder.keep_alive and self._content_done:
            self._exchange_done()
        elif not self._encoder.keep_alive:
            if self._content_done and not self._parser.buffer:
                self._close()
            else:
                self._linger()
        else:
            self._phase = _DRAINING
            self._since = context.clock.now
            self._discarded = 0
            self._update_reading()

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        """The response cannot be finished: reset the connection."""
        if exchange is self._exchange:
            self.reset()

    async def drain(self) -> None:
        """Wait until the client has caught up or has gone."""
        if self.write_paused:
            drainer: asyncio.Future[None] = self._context.loop.create_future()
            self._drainers = (*self._drainers, drainer)
            await drainer

    # What a websocket calls

    @property
    def is_closing(self) -> bool:
        """Whether the connection has ended, or is about to."""
        return self._transport.is_closing()

    def switch(self) -> tuple[asyncio.Transport, bytes]:
        """Let go of the transport, for another protocol to go on with what has arrived behind the request."""
        exchange = self._exchange
        assert exchange is not None
        received = bytes(self._parser.buffer)
        self._phase = _CLOSED
        self._exchange = None
        self._parser.detach()
        self._context.connections.discard(self)
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        exchange.switch_protocols()
        return self._transport, received

    # What the server calls

    def tick(self) -> None:
        """A second has passed."""
        settings = self._context.settings
        is_over = self._context.clock.is_over
        phase = self._phase
        if phase == _BUSY:
            if not self._content_done and not self._eof:
                self._check_pace()
        elif phase == _IDLE:
            if is_over(self._since, settings.keep_alive_seconds * self._jitter):
                self._close()
        elif phase == _HEAD:
            if is_over(self._since, settings.header_seconds):
                if self._parser.buffer:
                    self._refuse(RemoteProtocolError(f"no whole head within {settings.header_seconds:g} seconds", 408))
                else:
                    self._close()
        elif phase == _DRAINING:
            if is_over(self._since, _DRAIN_SECONDS):
                self._linger()
        elif phase == _LINGERING:
            if self._transport.get_write_buffer_size():
                # The time counts from the last byte; a client that takes none is the stall's concern.
                self._since = self._context.clock.now
            elif is_over(self._since, settings.linger_seconds):
                self._close()
        if self._phase != _CLOSED:
            self._check_stall()

    def stop(self) -> None:
        """The server is stopping. Called again until the connection is closed."""
        if self._phase == _IDLE or (self._phase == _HEAD and not self._parser.buffer):
            if self._context.clock.is_over(self._since, _RECENT_SECONDS):
                self._close()

    def reset(self) -> None:
        """Break the connection off, so that a response that ends with it does not look complete."""
        if self._phase != _CLOSED:
            self._phase = _CLOSED
            self._parser.stop()
            reset(self._transport)

    # One exchange after another

    def _advance(self) -> None:
        """Serve what has arrived, and what was pipelined behind it for as long as it is answered at once.

        Applications run here, never inside the parser. A fault in a request's content comes after its head: the
        application is called before the fault is acted on, as it is when they come one by one.
        """
        context = self._context
        self._advancing = True
        while True:
            if self._arrived:
                self._arrived = False
                exchange = self._exchange
                assert exchange is not None
                context.begun += 1
                if context.limit_concurrency and self._is_too_much():
                    self._keep_alive = False
                    exchange.respond(503, (*ERROR_HEADERS, (b"retry-after", b"1")), b"Service Unavailable\n")
                elif not self._keep_alive and self._is_handshake():
                    # Not before one is wanted: with what it imports, it takes 4 MiB.
                    from uvicorn.server.websocket_opening import open_websocket

                    open_websocket(context, self, exchange)
                else:
                    context.interface.serve_http(exchange)
            if self._fault is not None:
                fault, self._fault = self._fault, None
                self._refuse(fault)
                break
            if self._exchange is not None or self._phase != _BUSY or self.write_paused or self._transport.is_closing():
                break
            self._phase = _IDLE
            self._since = context.clock.now
            try:
                self._parser.next_message()
            except RemoteProtocolError as error:
                self._fault = error
            else:
                if not self._arrived:
                    self._await_head()
                    break
        self._advancing = False
        if self._reading_paused:
            self._update_reading()

    def _forwarded_endpoint(self) -> Endpoint:
        """The endpoint of a request that a trusted proxy hands on: the connection's, but for whose request it is."""
        own = self._endpoint
        assert self._context.trusted is not None
        client, scheme = self._context.trusted.client(self._parser.headers, own.client, own.scheme)
        return Endpoint(scheme, own.root_path, own.server, client, own.loop)

    def _is_handshake(self) -> bool:
        """Whether the current request asks for a websocket, and there is somebody to ask."""
        return self._parser.upgrade == b"websocket" and self._context.serves_websockets

    def _is_too_much(self) -> bool:
        """Whether there are more connections or requests at this time than there may be."""
        return self._over_limit or self._context.requests > self._context.limit_concurrency

    def _exchange_done(self) -> None:
        """Response and content are complete: go on to the next request, or wait for it."""
        self._exchange = None
        parser = self._parser
        if not (parser.buffer or self.write_paused or self._eof):
            self._phase = _IDLE
            self._since = self._context.clock.now
            parser.next_message()
            if self._reading_paused:
                self._update_reading()
        elif self.write_paused:
            # A client that asks without reading is owed enough: what it asks next is not even parsed.
            pass
        elif not parser.buffer:
            self._close()
        elif not self._advancing:
            self._advance_soon()

    def _advance_soon(self) -> None:
        """Go on, but not from within the handler that has just replied, nor in its context."""
        self._context.loop.call_soon(self._advance, context=self._context.variables)

    def _drained(self) -> None:
        """More content has come in that nobody reads."""
        if self._discarded > self._context.settings.max_drain_bytes:
            self._linger()
        elif self._content_done:
            self._phase = _BUSY
            self._exchange_done()

    def _await_head(self) -> None:
        """Part of a head may have arrived: from its first byte on it is to be completed in time."""
        if self._eof:
            self._close()
        elif self._parser.buffer:
            self._phase = _HEAD
            self._since = self._context.clock.now

    # The end

    def _refuse(self, error: RemoteProtocolError) -> None:
        """Answer with an error if there is still room for one, and close. Nothing more is read as a request."""
        if self._phase >= _LINGERING:
            return
        exchange = self._exchange
        self._context.warnings.warn(self._endpoint.client, f"refused: {error} ({error.status_hint})")
        if exchange is not None and exchange.state == STREAMING:
            exchange.abort("the request is malformed")
            return
        if exchange is None or exchange.state == WAITING:
            content = PHRASES[error.status_hint].encode() + b"\n"
            head = self._encoder.start(
                "GET", "1.1", False, error.status_hint, b"", ERROR_HEADERS, len(content), more_content=False
            )
            self._transport.write(head + content)
        self._linger()
        if exchange is not None:
            exchange.disconnect()

    def _linger(self) -> None:
        """Close, but not before the client has had the time to read what it was sent.

        Closing a socket with unread input resets it, which may destroy the response on its way (RFC 9112, section 9.6).
        """
        if self._phase >= _LINGERING:
            return
        if self._eof:
            self._close()
            return
        self._phase = _LINGERING
        self._since = self._context.clock.now
        self._discarded = 0
        self._parser.stop()
        if self._transport.can_write_eof():
            self._transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _discard(self, count: int) -> None:
        self._discarded += count
        # Four times what is drained for an honest client; after that it is not reading, but sending.
        if self._phase == _LINGERING and self._discarded > 4 * self._context.settings.max_drain_bytes:
            self._close()

    def _close(self) -> None:
        """Close when everything has been sent."""
        if self._phase < _CLOSING:
            self._phase = _CLOSING
            self._parser.stop()
            self._transport.close()

    # Flow and pace

    def _file_sent(self, count: int) -> None:
        self._file_left -= count

    def _update_reading(self) -> None:
        """Pause reading while more is held for the application than it has asked for; else read."""
        # Only while an exchange is under way does anything pile up; a head that arrives has limits of its own.
        if self._phase == _BUSY and self._held() > self._context.settings.read_buffer_bytes:
            if not self._reading_paused:
                self._reading_paused = True
                self._transport.pause_reading()
        elif self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _held(self) -> int:
        """Bytes that wait for the application, or for the next request's turn."""
        held = len(self._parser.buffer)
        exchange = self._exchange
        return held if exchange is None or exchange.buffered_bytes < held else exchange.buffered_bytes

    def _check_pace(self) -> None:
        """Refuse a client whose content comes too slowly, unless it is we who keep it waiting."""
        if self._reading_paused or self._continue_due:
            return
        if self._pace is None:
            self._pace = ContentPace()
        settings = self._context.settings
        reason = self._pace.check(
            self._context.clock.elapsed, self._received, settings.content_idle_seconds, settings.min_content_rate
        )
        if reason:
            self._refuse(RemoteProtocolError(reason, 408))

    def _check_stall(self) -> None:
        """Reset a client that takes nothing of what it is owed."""
        unsent = self._transport.get_write_buffer_size() + self._file_left
        if not unsent:
            self._stall = None
            return
        if self._stall is None:
            self._stall = WriteStall()
        longest = self._context.settings.write_stall_seconds
        if self._stall.check(self._context.clock.elapsed, unsent, self._written) >= longest:
            self._context.warnings.warn(
                self._endpoint.client, f"reset: took no byte of a response for {longest:g} seconds"
            )
            exchange = self._exchange
            self.reset()
            if exchange is not None:
                exchange.disconnect()


def _host_and_port(name: Any) -> tuple[str, int] | None:
    """A socket's address as messages carry it; None for Unix sockets. IPv6 ones have two items more."""
    return (name[0], name[1]) if isinstance(name, (tuple, list)) and len(name) >= 2 else None
