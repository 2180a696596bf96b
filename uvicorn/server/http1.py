"""One HTTP/1.1 connection. Pipelined requests stay unparsed until the current response is complete.

A cell of the table lists the effects of an event, then the next phase. If a cell names no next phase, the phase stays
the same. `-` never happens. Except after `switch` and `client gone`, the change to CLOSED resets the connection.

"Mid-request": part of the head or content has arrived. "Before content": before the end of the request's content.
"Last": the connection closes after this response.

    event                    HEAD            IDLE            BUSY            DRAINING   LINGERING  CLOSING  CLOSED
    part of a head           HEAD            HEAD            hold            -          drop       drop     drop
    head                     serve, BUSY     serve, BUSY     hold            -          drop       drop     drop
    malformed                400, LINGERING  400, LINGERING  400, LINGERING  -          drop       drop     drop
    malformed, streaming     -               -               CLOSED          -          -          -        -
    end of content           -               -               BUSY            IDLE       drop       drop     drop
    too much content         -               -               413, LINGERING  -          CLOSING    drop     drop
    response                 -               -               IDLE            -          -          -        -
    response before content  -               -               DRAINING        -          -          -        -
    last response            -               -               CLOSING         -          -          -        -
    last before content      -               -               LINGERING       -          -          -        -
    response aborted         -               -               CLOSED          -          -          -        -
    switch                   -               -               CLOSED          -          -          -        -
    FIN                      CLOSING         CLOSING         BUSY            CLOSING    CLOSING    ignore   -
    client gone              CLOSED          CLOSED          CLOSED          CLOSED     CLOSED     CLOSED   -
    timeout                  CLOSING         CLOSING         -               LINGERING  CLOSING    -        -
    timeout mid-request      408, LINGERING  -               408, LINGERING  -          -          -        -
    timeout, half-closed     -               -               CLOSED          -          -          -        -
    write timeout            -               -               CLOSED          -          CLOSED     CLOSED   -
    stop                     CLOSING         CLOSING         ignore          ignore     ignore     ignore   ignore
    reset                    CLOSED          CLOSED          CLOSED          CLOSED     CLOSED     CLOSED   ignore
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import Any, cast, final

from uvicorn.core.counts import BOUNDS, FIRST_BOUND
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import COMPLETE, OVERLOADED, HTTPExchange
from uvicorn.errors import RemoteProtocolError
from uvicorn.server.access_log import trace
from uvicorn.server.context import ContinuingHandler, ServerContext
from uvicorn.server.http1_gateway import HTTP1Gateway
from uvicorn.server.http1_timeouts import BUSY, CLOSED, DRAINING, HEAD, IDLE, LINGERING
from uvicorn.server.proxy import TrustedPeers
from uvicorn.types import Callback
from uvicorn.wire.http1.parser import HTTP1RequestParser


@final
class HTTP1Connection(HTTP1Gateway):
    """Serves the requests of one connection, one after another."""

    __slots__ = ("_advancing", "_continuing", "_over_limit", "_trusted", "__weakref__")

    def __init__(self, context: ServerContext) -> None:
        super().__init__(context)
        self._parser = HTTP1RequestParser(self, context.settings.limits)
        self._advancing = False
        self._over_limit = False
        #: Resolves the forwarded fields; None if the peer is not a trusted proxy.
        self._trusted: TrustedPeers | None = None
        # The handler of an earlier request, if it continues after its response.
        self._continuing: ContinuingHandler | None = None

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
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
            if trusted.trusts(self._endpoint.client, path if isinstance(path, str) else ""):
                self._trusted = trusted
        self._transport.set_write_buffer_limits(high=settings.write_buffer_bytes)
        context.arriving.pop(self, None)
        context.connections.add(self)
        context.accepted += 1
        # With TLS, bytes are encrypted on their way.
        self.sends_files = self._endpoint.scheme == "http"
        self._over_limit = 0 < settings.limit_concurrency < len(context.connections)
        trace(self._endpoint.client, "HTTP connection made")

    def get_buffer(self, sizehint: int) -> memoryview:
        # All connections share this buffer.
        # Only half of it while input is held: the connection then never holds more than the whole buffer.
        return self._context.buffer if self.phase is not BUSY or not self._held() else self._context.half_buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A copy, because other connections use the same buffer.
        self.data_received(self._context.buffer[:nbytes].tobytes())

    def data_received(self, data: bytes) -> None:
        # Identity first, for speed: `>=` of an enum takes five times as long.
        phase = self.phase
        if phase is not IDLE and phase >= LINGERING:
            self._discard(len(data))
            return
        try:
            self._parser.receive_data(data)
        except RemoteProtocolError as error:
            self._advance(error)
            return
        phase = self.phase
        if phase is BUSY:
            self._update_reading()
        elif phase is DRAINING:
            if self._content_done:
                self.phase = BUSY
                self._exchange_done()
        elif (exchange := self._exchange) is not None:
            self._advance()
            # Most requests have no content, and nothing behind them: no input is held.
            if self.phase is BUSY and (exchange.has_content or self._parser.buffer or exchange is not self._exchange):
                self._update_reading()
        elif phase is IDLE:
            self._await_head()

    def eof_received(self) -> bool:
        self._eof = True
        if self.phase is not BUSY or self._is_handshake():
            self._close()
            return False
        # The client may still read the response.
        self._half_close()
        # TLS has no half-close: the event loop would log a warning.
        return self.phase is BUSY and self._endpoint.scheme == "http"

    def connection_lost(self, error: Exception | None) -> None:
        self.phase = CLOSED
        self._context.connections.discard(self)
        trace(self._endpoint.client, "HTTP connection lost")
        self._disconnect()
        # Break reference cycles.
        self._parser.detach()
        self._endpoint.release()

    def resume_writing(self) -> None:
        self.write_paused = False
        self._unsent = None
        self._wake_drainers()
        if self.phase is BUSY and self._exchange is None:
            # The next request has been held back until the client had read.
            self._advance_soon()

    # What the server calls

    def served(self) -> tuple[Endpoint, bool] | None:
        exchange = self._exchange
        if exchange is None or self.phase is not BUSY or exchange.state >= COMPLETE:
            return None
        return exchange.endpoint, False

    # What the parser calls

    def on_request(self) -> None:
        parser = self._parser
        has_content = parser.content_length != 0
        self._exchange = exchange = HTTPExchange(
            self,
            self._endpoint,
            parser.method,
            parser.target,
            parser.http_version,
            parser.fields,
            has_content,
            parser.pairs,
        )
        if parser.forwarded is not None and self._trusted is not None:
            exchange.forwarded = self._trusted.client(parser.forwarded, self._endpoint.client, self._endpoint.scheme)
        # A local name, because Python 3.11 calls an attribute in a slot slowly.
        clock = self._context.response_clock
        if clock is not None:
            self.began = clock()
            # The client may disconnect before the response begins.
            self.content_sent = 0
        if has_content:
            self._content_done = False
            self._continue_due = parser.expect_continue
            self.received = 0
            self._pace = None

    def on_content(self, content: bytes) -> None:
        self.received += len(content)
        if self._exchange is not None and self.phase is not DRAINING:
            self._exchange.content.feed(content)

    def on_message_complete(self) -> None:
        self._content_done = True
        if self._exchange is not None:
            self._exchange.content.feed_eof()

    # What the exchange calls

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        context = self._context
        context.ended += 1
        clock = context.response_clock
        if clock is not None:
            seconds = clock() - self.began
            entry = exchange.endpoint.counts
            if entry is None and context.counts is not None:
                entry = exchange.endpoint.counts = context.counts.of(exchange.endpoint)
            if entry is not None:
                # Counted in this function, because a call would double the time.
                bucket = entry.first if seconds <= FIRST_BOUND else entry.buckets[bisect_left(BOUNDS, seconds)]
                try:
                    bucket[exchange.status].append(self.content_sent)
                except KeyError:
                    bucket[exchange.status] = [self.content_sent]
                entry.seconds += seconds
                if exchange.has_content:
                    entry.received += self.received
            if context.access_log is not None and exchange.status:
                outcome = "" if exchange.state is COMPLETE else self.aborted or "client disconnected"
                context.access_log(exchange, self.content_sent, seconds, outcome)
        if exchange.state is not COMPLETE or self.phase is not BUSY:
            return
        if self._encoder.keep_alive and self._content_done:
            self._exchange_done()
        elif self._encoder.keep_alive:
            self.phase = DRAINING
            self._since = context.clock.now
            self._update_reading()
        elif not self._content_done:
            self._linger_upload()
        elif self._parser.buffer:
            self._linger()
        else:
            self._close()

    def handler_continues(self, exchange: HTTPExchange, cancel: Callback, seconds: float) -> Callback:
        context = self._context
        handler = ContinuingHandler(context.continuing, cancel, 0 if context.stopping else seconds)
        if self._continuing is not None:
            self._continuing.cancel()
        self._continuing = handler
        return handler.ended

    # One exchange after another

    def _advance(self, fault: RemoteProtocolError | None = None) -> None:
        """Serve the current request, then the pipelined requests."""
        context = self._context
        self._advancing = True
        while True:
            exchange = self._exchange
            if exchange is not None and (self.phase is IDLE or self.phase is HEAD):
                self.phase = BUSY
                context.begun += 1
                if self._continuing is not None:
                    self._continuing.cancel()
                    self._continuing = None
                if self._eof_since is not None:
                    # The client has closed its side during an earlier exchange.
                    exchange.half_close(content_follows=not self._eof)
                if context.limit_concurrency and (
                    self._over_limit or context.requests + len(context.continuing) > context.limit_concurrency
                ):
                    self._parser.keep_alive = False
                    exchange.respond(*OVERLOADED)
                elif not self._parser.keep_alive and self._is_handshake():
                    # Imported on first use, because it takes 4 MiB.
                    from uvicorn.server.websocket import open_websocket

                    open_websocket(context, self, exchange)
                else:
                    context.interface.serve_http(exchange)
            if fault is not None:
                # After the call, as if head and malformed content had arrived separately.
                self._refuse(fault)
                break
            if (
                self._exchange is not None
                or self.phase is not BUSY
                or self.write_paused
                or self._transport.is_closing()
            ):
                break
            self.phase = IDLE
            self._since = context.clock.now
            try:
                self._parser.next_message()
            except RemoteProtocolError as error:
                fault = error
            else:
                if self._exchange is None:
                    self._await_head()
                    break
        self._advancing = False
        if self._reading_paused:
            self._update_reading()

    def _is_handshake(self) -> bool:
        return self._parser.upgrade == b"websocket" and self._context.serves_websockets

    def _exchange_done(self) -> None:
        self._exchange = None
        parser = self._parser
        if self.write_paused:
            # Further requests stay unparsed until the client reads its responses.
            return
        if parser.buffer:
            if not self._advancing:
                self._advance_soon()
        elif self._eof:
            self._close()
        else:
            self.phase = IDLE
            self._since = self._context.clock.now
            parser.next_message()
            if self._reading_paused:
                self._update_reading()

    def _advance_soon(self) -> None:
        # Outside the context of the current handler.
        self._context.loop.call_soon(self._advance, context=self._context.variables)

    def _await_head(self) -> None:
        if self._eof:
            self._close()
        elif self._parser.buffer:
            self.phase = HEAD
            self._since = self._context.clock.now


def _host_and_port(name: Any) -> tuple[str, int] | None:
    # The name of a Unix socket is a path.
    return (name[0], name[1]) if isinstance(name, (tuple, list)) and len(name) >= 2 else None
