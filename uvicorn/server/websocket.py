"""One WebSocket connection (RFC 6455).

Between two callbacks of the event loop, the phase implies the states of session and codec:

    phase       session              codec
    OPENING     CONNECTING, CLOSED   -
    OPEN        OPEN                 OPEN, PAUSED
    FAILING     OPEN                 ENDED
    CLOSING     CLOSING              OPEN, PAUSED, ENDED
    LINGERING   CLOSED               ENDED
    CLOSED      CLOSED               ENDED
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final, final

from uvicorn.core.exchange import ERROR_HEADERS, OVERLOADED, HTTPExchange
from uvicorn.core.unsent import UNAWAITED_MESSAGES
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.errors import RemoteProtocolError, WebSocketProtocolError
from uvicorn.server.access_log import trace
from uvicorn.server.context import ServerContext
from uvicorn.server.http1_gateway import HTTP1Gateway
from uvicorn.server.websocket_timeouts import CLOSING, FAILING, LINGERING, OPEN, WebSocketTimeouts
from uvicorn.types import Headers
from uvicorn.websocket_origin import is_allowed_origin
from uvicorn.wire.http1.encoder import PHRASES
from uvicorn.wire.websocket.frame_cache import FrameCache
from uvicorn.wire.websocket.frames import WebSocketCodec
from uvicorn.wire.websocket.handshake import WebSocketHandshake

# The response to another version names ours (section 4.2.2), and the protocol (RFC 9110, section 15.5.22).
_SUPPORTED: Final = ((b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"))


@final
class WebSocketConnection(WebSocketTimeouts):
    """Serves one WebSocket connection."""

    __slots__ = ("_handshake", "_http", "_last", "_last_pong", "_resuming")

    def __init__(
        self, context: ServerContext, http: HTTP1Gateway, request: HTTPExchange, handshake: WebSocketHandshake
    ) -> None:
        super().__init__(context)
        self.session = WebSocketSession(self, request, handshake.subprotocols)
        self._http: HTTP1Gateway | None = http
        self._handshake: WebSocketHandshake | None = handshake
        self._last_pong: bytes | None = None
        # Whether `_resume_reading` is scheduled.
        self._resuming = False

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        if self.phase is OPEN:
            self._since = self._context.clock.now
            self._pinged = False
        elif self.phase >= LINGERING:
            self._discard(len(data))
            return
        try:
            self._codec.receive_data(data)
        except WebSocketProtocolError as error:
            self._refuse(error)

    def eof_received(self) -> bool:
        if self.phase is FAILING:
            self._close_faulty()
        self._close()
        return False

    def resume_writing(self) -> None:
        self.write_paused = False
        self._unsent = None
        pong, self._last_pong = self._last_pong, None
        if pong is not None and self.phase in (OPEN, FAILING):
            self._write(self._codec.encode_pong(pong))
        self._wake_drainers()

    # What the codec calls

    def on_text(self, text: str) -> None:
        if self.phase is OPEN:
            self._context.messages += 1
            self.session.listener.on_text(text)  # type: ignore[union-attr]

    def on_bytes(self, data: bytes) -> None:
        if self.phase is OPEN:
            self._context.messages += 1
            self.session.listener.on_bytes(data)  # type: ignore[union-attr]

    def on_ping(self, data: bytes) -> None:
        if self.write_paused:
            # Only the latest pong is kept (section 5.5.3).
            self._last_pong = data
        elif self.phase is OPEN:
            self._write(self._codec.encode_pong(data))

    def on_pong(self, data: bytes) -> None:
        pass  # `data_received` has recorded that the client is alive.

    def on_close(self, code: int, reason: str) -> None:
        self._close_code, self._close_reason = code, reason
        if self.phase is OPEN:
            # Set first, so that messages that the application sends now are dropped: none may follow a close frame.
            self.phase = CLOSING
            # The reply to the client's close frame (section 5.5.1).
            self._write(self._codec.encode_close(code, ""))
        self._report_disconnect()
        if self._transport.can_write_eof():
            self._linger()
        else:
            # Without half-close, which TLS lacks, the client would wait. It sends nothing after its close frame.
            self._close()

    def on_busy(self) -> None:
        # The event loop serves other connections first.
        self._pause()
        self.resume_receiving()

    # What the session calls

    def send_accept(self, session: WebSocketSession, subprotocol: str | None, headers: Headers) -> None:
        context = self._context
        settings = context.settings
        assert self._http is not None and self._handshake is not None
        if self._http.is_closing:
            # A closing TLS transport reports its end to the HTTP connection, even if its protocol is replaced.
            session.request.disconnect()
            return
        head, deflate = self._handshake.accept(subprotocol, headers, context.defaults, settings.ws_per_message_deflate)
        self._transport, received = self._http.switch()
        trace(session.endpoint.client, "WebSocket connection made")
        # Freed, because there may be thousands of idle connections.
        self._http = self._handshake = None
        self._codec = WebSocketCodec(self, settings.ws_max_size, settings.ws_max_fragments, deflate, context.last_frame)
        # A connection with compression does not share frames.
        self._last = context.last_frame if deflate is None else FrameCache()
        self.phase = OPEN
        self._since = context.clock.now - settings.ws_ping_interval * context.clock.jitter() / 10
        context.connections.add(self)
        self._transport.set_protocol(self)
        self._write(head)
        if received:
            # Decode it before later input, but not inside the application's accept.
            self.pause_receiving()
            self._codec.receive_data(received)
            self.resume_receiving()

    def hand_over(self, session: WebSocketSession) -> socket.socket:
        # Imported on first use: few applications have WebSocket code of their own.
        from uvicorn.server.tunnel import open_tunnel

        assert self._http is not None
        application_end = open_tunnel(self._context, self._http, session)
        self._http = self._handshake = None
        return application_end

    def admit(self, session: WebSocketSession) -> Callable[[], object] | None:
        context, request = self._context, session.request
        assert self._handshake is not None
        if not _admits_origin(context, request, self._handshake):
            return None
        # A peer on a Unix socket is a proxy for all clients, unless it forwards their addresses.
        client = request.client[0] if request.client is not None else ""
        refusal = context.ws_threads.refusal(client)
        if not refusal:
            return context.ws_threads.begin(client)
        context.ws_threads.refused += 1
        context.warnings.warn(request.client, f"refused: {refusal}")
        request.respond(*OVERLOADED)
        return None

    def send_text(self, text: str) -> None:
        last = self._last
        data = last.frame if text is last.message else self._codec.encode_text(text)
        transport = self._transport
        if self.write_paused or transport.is_closing():
            self._send(data)
            return
        transport.write(data)
        if self._stall is not None:
            self._written += len(data)

    def send_bytes(self, data: bytes) -> None:
        self._send(self._codec.encode_bytes(data))

    def send_close(self, code: int, reason: str) -> None:
        self.phase = CLOSING
        self._since = self._context.clock.now
        self._write(self._codec.encode_close(code, reason))
        self.resume_receiving()

    def pause_receiving(self) -> None:
        if self.phase is OPEN:
            self._pause()

    def resume_receiving(self) -> None:
        if self._receiving_paused and not self._resuming:
            self._resuming = True
            self._context.loop.call_soon(self._resume_reading, context=self._context.variables)

    # Sending and receiving

    def _send(self, data: bytes) -> None:
        transport = self._transport
        if transport.is_closing():
            # A write has failed, which the event loop reports in its next iteration.
            return
        if self.write_paused:
            shortage = self._shortage(len(data), len(data), UNAWAITED_MESSAGES)
            if shortage:
                self._warn(f"websocket closed: the client reads too slowly, {shortage} (1013)")
                self._fail(1013, "")
                return
            self._unsent.add(len(data))  # type: ignore[union-attr]
        transport.write(data)
        if self._stall is not None:
            self._written += len(data)

    def _resume_reading(self) -> None:
        if self._resuming and self.phase < LINGERING:
            self._resuming = self._receiving_paused = False
            try:
                self._codec.resume()
            except WebSocketProtocolError as error:
                self._refuse(error)
            if not self._receiving_paused:
                self._read_on()

    def _pause(self) -> None:
        self._resuming = False
        self._receiving_paused = True
        self._codec.pause()
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()


def open_websocket(context: ServerContext, http: HTTP1Gateway, request: HTTPExchange) -> None:
    """Pass a valid handshake with an allowed origin to the application. Reject others."""
    interface = context.interface.at(request)
    if not interface.serves_websockets:
        http.ignore_upgrade()
        handshake = _valid_handshake(request) if interface.takes_over else None
        if handshake is None:
            interface.serve_http(request)
        else:
            interface.serve_handshake(WebSocketConnection(context, http, request, handshake).session)
        return
    if http.close_half_closed():
        return
    trace(request.client, "Upgrading to WebSocket")
    try:
        handshake = WebSocketHandshake(request.method, request.http_version, request.headers, request.has_content)
    except RemoteProtocolError as error:
        context.warnings.warn(request.client, f"refused: {error} ({error.status_hint})")
        supported = _SUPPORTED if error.status_hint == 426 else ()
        request.respond(error.status_hint, (*ERROR_HEADERS, *supported), PHRASES[error.status_hint].encode() + b"\n")
        return
    if _admits_origin(context, request, handshake, interface.checks_origin):
        interface.serve_websocket(WebSocketConnection(context, http, request, handshake).session)


def _valid_handshake(request: HTTPExchange) -> WebSocketHandshake | None:
    try:
        return WebSocketHandshake(request.method, request.http_version, request.headers, request.has_content)
    except RemoteProtocolError:
        return None


def _admits_origin(
    context: ServerContext, request: HTTPExchange, handshake: WebSocketHandshake, checks_origin: bool = True
) -> bool:
    if is_allowed_origin(handshake.origin, handshake.host, context.allowed_origins, checks_origin):
        return True
    context.warnings.warn(
        request.client,
        f"refused: origin {handshake.origin!r:.200} is not allowed to connect to host {handshake.host!r:.200} (403); "
        "to allow this origin, add it to --ws-allowed-origins",
    )
    request.respond(403, ERROR_HEADERS, b"Forbidden\n")
    return False
