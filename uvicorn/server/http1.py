"""One HTTP/1.1 connection: a transport on one side, the parser, the encoder and the exchange on the other.

Requests are answered one at a time and in order. While one is being answered, what a client pipelines behind it
waits unparsed, at most `read_buffer_bytes` of it before reading pauses: a bound on bytes holds whatever the size
of the requests, and a request that is refused cannot overtake the answer to the one before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from io import FileIO
from typing import Any, Final, cast, final

from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import COMPLETE, ERROR_HEADERS, STREAMING, WAITING, HTTPExchange
from uvicorn.errors import RemoteProtocolError
from uvicorn.server.context import ServerContext
from uvicorn.server.continuing_handlers import ContinuingHandler
from uvicorn.server.http1_timeouts import ARRIVED, BUSY, CLOSED, DRAINING, HEAD, IDLE, LINGERING, HTTP1Timeouts
from uvicorn.server.transport import send_file
from uvicorn.types import Headers
from uvicorn.wire.http1.encoder import CONTINUE, ContentTooLong
from uvicorn.wire.http1.parser import HTTP1RequestParser

# Content above this is written beside the head instead of being copied behind it.
_COPY_BYTES: Final = 65536


@final
class HTTP1Connection(HTTP1Timeouts):
    """The protocol object that the event loop drives, and the gateway of its exchanges."""

    __slots__ = (
        "_advancing",
        "_began",
        "_content_sent",
        "_continuing",
        "_over_limit",
        "_trusted",
        "__weakref__",
        "sends_files",
    )

    def __init__(self, context: ServerContext) -> None:
        super().__init__(context)
        self._parser = HTTP1RequestParser(self, context.settings.limits)
        self._advancing = False
        self._content_sent = 0
        self._began = 0.0
        self._over_limit = False
        self._trusted = False
        # The handler of an earlier request, if it goes on although its response is complete.
        self._continuing: ContinuingHandler | None = None

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
            settings.root_path_cut,
        )
        trusted = context.trusted
        if trusted is not None:
            path = transport.get_extra_info("sockname")
            self._trusted = trusted.trusts(self._endpoint.client, path if isinstance(path, str) else "")
        self._transport.set_write_buffer_limits(high=settings.write_buffer_bytes)
        context.arriving.discard(self)
        context.connections.add(self)
        context.accepted += 1
        # With TLS, bytes are encrypted on their way.
        self.sends_files = self._endpoint.scheme == "http"
        self._over_limit = 0 < settings.limit_concurrency < len(context.connections)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the loop may put what it reads: the same place for all connections."""
        # Half of it behind content that waits, so that no more than the whole of it ever waits.
        return self._context.buffer if self._phase != BUSY or not self._held() else self._context.half_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` have been read."""
        # A copy, so that the shared buffer is free again when this returns.
        self.data_received(self._context.buffer[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._phase >= LINGERING:
            self._discard(len(data))
            return
        try:
            self._parser.receive_data(data)
        except RemoteProtocolError as error:
            self._advance(error)
            return
        if self._phase == ARRIVED:
            self._advance()
        elif self._phase == IDLE:
            self._await_head()
        if self._phase >= BUSY:
            if self._phase == BUSY:
                self._update_reading()
            elif self._phase == DRAINING:
                self._drained()

    def eof_received(self) -> bool:
        """The client sends no more. It may still be reading: what is under way may go on for a bounded time."""
        self._eof = True
        if self._phase != BUSY or self._is_handshake():
            self._close()
            return False
        self._half_close()
        # With TLS there is no half-close, and the loop warns if one is asked for.
        return self._phase == BUSY and self._endpoint.scheme == "http"

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is gone."""
        self._phase = CLOSED
        self._context.connections.discard(self)
        self._disconnect()
        # Freed now rather than when the garbage collector comes by.
        self._parser.detach()
        self._endpoint.context = None

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        self._unsent = None
        self._wake_drainers()
        if self._phase == BUSY and self._exchange is None:
            # The next request has been held back.
            self._advance_soon()

    # What the parser calls

    def on_request(self) -> None:
        """A head is complete."""
        parser = self._parser
        has_content = parser.content_length != 0
        self._exchange = exchange = HTTPExchange(
            self, self._endpoint, parser.method, parser.target, parser.http_version, parser.fields, has_content
        )
        if parser.forwarded is not None and self._trusted:
            trusted = self._context.trusted
            assert trusted is not None
            exchange.forwarded = trusted.client(*parser.forwarded, self._endpoint.client, self._endpoint.scheme)
        if self._context.access_log is not None:
            self._began = self._context.clock.monotonic()
        self._phase = ARRIVED
        if has_content:
            self._content_done = False
            self._continue_due = parser.expect_continue
            self._received = 0
            self._pace = None

    def on_content(self, content: bytes) -> None:
        """Some content of the current request."""
        self._received += len(content)
        if self._phase == DRAINING:
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
        keep_alive = self._parser.keep_alive and not self._context.stopping
        if not self._content_done or self._continue_due:
            # With 100 Continue due, the client may or may not send its content: the next bytes could be either.
            # More unread content than is worth reading: closing is cheaper.
            # A chunked rest may be of any length.
            left = self._parser.content_left
            wanted = 0 <= left <= self._context.settings.max_drain_bytes and not self._continue_due
            keep_alive = keep_alive and wanted and not self._eof
        elif self._eof:
            keep_alive = keep_alive and bool(self._parser.buffer)
        pieces = encoder.start(
            exchange.method, exchange.http_version, keep_alive, status, reason, headers, content, more_content
        )
        self._content_sent = len(content)
        if more_content:
            # Looked at when the server stops, and not before: most streams never see that.
            self._stream_head = pieces[:-1]
            self._since = self._context.clock.now
        if self._content_sent <= _COPY_BYTES:
            self._transport.write(b"".join(pieces))
        else:
            # Not writelines: asyncio's does without flow control, and keeps on at a socket that has failed.
            self._transport.write(b"".join(pieces[:-1]))
            self._transport.write(pieces[-1])
        if self._stall is not None:
            self._written += sum(map(len, pieces))
        if encoder.dropped:
            self._context.dropped_fields(encoder.dropped)

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        """Write a piece of content."""
        transport = self._transport
        if transport.is_closing():
            # A write has failed; the loop reports it on its next turn, which a busy handler may delay.
            exchange.disconnect()
            return
        if self.write_paused and not self._has_room(len(content)):
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
            if self._unsent is not None:
                self._unsent.add(len(data))
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

    async def send_file(self, exchange: HTTPExchange, file: FileIO, count: int, start: int = 0) -> None:
        """Have the kernel send a file, behind what is unsent; through our hands where it is to be encrypted."""
        transport = self._transport
        sock = transport.get_extra_info("socket")
        if self._endpoint.scheme == "https" or sock is None or sock.fileno() < 0:
            await super().send_file(exchange, file, count, start)
            return
        framing = self._encoder.framing_around(count)
        if framing is None:
            return
        before, behind = framing
        transport.write(before)
        transport.set_write_buffer_limits(high=0)
        while transport.get_write_buffer_size() and exchange.state is STREAMING:
            await (self.drain() if self.write_paused else asyncio.sleep(0))
        transport.set_write_buffer_limits(high=self._context.settings.write_buffer_bytes)
        self._file_left = count
        self._written += len(before) + count + len(behind)
        try:
            await send_file(exchange, sock.fileno(), file.fileno(), start, count, self._file_sent)
        except OSError:
            # The loop has not noticed yet: the bytes did not pass through it.
            self.reset()
            exchange.disconnect()
        finally:
            self._file_left = 0
        if exchange.state is STREAMING:
            transport.write(behind)

    def want_content(self, exchange: HTTPExchange) -> None:
        """The application waits for content: ask for it, and read on."""
        if exchange is not self._exchange:
            return
        if self._continue_due:
            self._continue_due = False
            if exchange.state is WAITING:
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
        if context.access_log is not None and exchange.status:
            sent = self._content_sent if exchange.method != "HEAD" else 0
            outcome = "" if exchange.state is COMPLETE else self._aborted or "client disconnected"
            context.access_log(exchange, sent, context.clock.monotonic() - self._began, outcome)
        if exchange.state is not COMPLETE or self._phase != BUSY:
            return
        if self._encoder.keep_alive and self._content_done:
            self._exchange_done()
        elif not self._encoder.keep_alive:
            if not self._content_done:
                self._linger_upload()
            elif self._parser.buffer:
                self._linger()
            else:
                self._close()
        else:
            self._phase = DRAINING
            self._since = context.clock.now
            self._discarded = 0
            self._update_reading()

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        """The response cannot be finished: reset the connection."""
        if exchange is self._exchange:
            self._aborted = reason
            self.reset()

    def handler_continues(
        self, exchange: HTTPExchange, cancel: Callable[[], object], seconds: float
    ) -> Callable[[], object]:
        """Let the handler go on until the next request, a stop, or `seconds` have passed."""
        handler = self._context.continuing.add(cancel, seconds)
        if self._continuing is not None:
            self._continuing.cancel()
        self._continuing = handler
        return handler.ended

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
        self._phase = CLOSED
        self._exchange = None
        self._parser.detach()
        self._context.connections.discard(self)
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        self._content_sent = 0
        exchange.switch_protocols()
        return self._transport, received

    # One exchange after another

    def _advance(self, fault: RemoteProtocolError | None = None) -> None:
        """Serve what has arrived, and what was pipelined behind it for as long as it is answered at once.

        Applications run here, never inside the parser. A fault in a request's content comes after its head: the
        application is called before the fault is acted on, as it is when they come one by one.
        """
        context = self._context
        self._advancing = True
        while True:
            if self._phase == ARRIVED:
                self._phase = BUSY
                exchange = self._exchange
                assert exchange is not None
                context.begun += 1
                if self._continuing is not None:
                    self._continuing.cancel()
                    self._continuing = None
                if self._eof_since is not None:
                    # What was true of the exchange before it is true of this one.
                    exchange.half_close(content_follows=not self._eof)
                if context.limit_concurrency and self._is_too_much():
                    self._parser.keep_alive = False
                    exchange.respond(503, (*ERROR_HEADERS, (b"retry-after", b"1")), b"Service Unavailable\n")
                elif not self._parser.keep_alive and self._is_handshake():
                    if self._eof:
                        # As if its client had closed its side during the handshake.
                        self._close()
                        break
                    # Not before one is wanted: with what it imports, it takes 4 MiB.
                    from uvicorn.server.websocket_upgrade import open_websocket

                    open_websocket(context, self, exchange)
                else:
                    context.interface.serve_http(exchange)
            if fault is not None:
                self._refuse(fault)
                break
            if self._exchange is not None or self._phase != BUSY or self.write_paused or self._transport.is_closing():
                break
            self._phase = IDLE
            self._since = context.clock.now
            try:
                self._parser.next_message()
            except RemoteProtocolError as error:
                fault = error
            else:
                if self._phase != ARRIVED:
                    self._await_head()
                    break
        self._advancing = False
        if self._reading_paused:
            self._update_reading()

    def _is_handshake(self) -> bool:
        """Return whether the current request asks for a websocket, and the application serves websockets."""
        return self._parser.upgrade == b"websocket" and self._context.serves_websockets

    def _is_too_much(self) -> bool:
        """Whether there are more connections or requests at this time than there may be."""
        context = self._context
        return self._over_limit or context.requests + len(context.continuing) > context.limit_concurrency

    def _exchange_done(self) -> None:
        """Response and content are complete: go on to the next request, or wait for it."""
        self._exchange = None
        parser = self._parser
        if not (parser.buffer or self.write_paused or self._eof):
            self._phase = IDLE
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
        """Close if unread content exceeds the limit; serve the next request if it is complete."""
        if self._discarded > self._context.settings.max_drain_bytes:
            self._linger_upload()
        elif self._content_done:
            self._phase = BUSY
            self._exchange_done()

    def _await_head(self) -> None:
        """Part of a head may have arrived: from its first byte on it is to be completed in time."""
        if self._eof:
            self._close()
        elif self._parser.buffer:
            self._phase = HEAD
            self._since = self._context.clock.now

    # Flow and pace

    def _has_room(self, size: int) -> bool:
        """Whether a slow client may be sent `size` bytes of content more; warns if not."""
        settings = self._context.settings
        buffered = self._transport.get_write_buffer_size()
        unsent = self._track_unsent(buffered)
        most = settings.max_unsent_bytes
        shortage = unsent.unawaited_shortage(0, buffered, most) or unsent.pending_shortage(
            size, buffered, most, settings.max_pending_bytes
        )
        if shortage:
            self._context.warnings.warn(self._endpoint.client, f"reset: {shortage}")
        return not shortage

    def _file_sent(self, count: int) -> None:
        self._file_left -= count
        self._content_sent += count

    def _update_reading(self) -> None:
        """Pause reading while more is held for the application than it has asked for; else read."""
        # Only while an exchange is under way does anything pile up; a head that arrives has limits of its own.
        if self._phase == BUSY and self._held() > self._context.settings.read_buffer_bytes:
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


def _host_and_port(name: Any) -> tuple[str, int] | None:
    """A socket's address as messages carry it; None for Unix sockets. IPv6 ones have two items more."""
    return (name[0], name[1]) if isinstance(name, (tuple, list)) and len(name) >= 2 else None
