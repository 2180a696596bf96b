"""The deadlines and the closing of WebSocket connections and tunnels (RFC 6455)."""

from __future__ import annotations

import asyncio
from enum import IntEnum

from uvicorn.core.endpoint import Endpoint
from uvicorn.core.websocket_session import CLOSED as SESSION_CLOSED
from uvicorn.core.websocket_session import WebSocketGateway, WebSocketSession
from uvicorn.errors import WebSocketProtocolError
from uvicorn.server.access_log import trace
from uvicorn.server.connection import LINGER_DRAINS, MinimumRate, TransportConnection
from uvicorn.server.context import ServerContext
from uvicorn.server.transport import HALF_CLOSED, RESET, peer_state, reset
from uvicorn.wire.websocket.frames import WebSocketCodec


class WebSocketPhase(IntEnum):
    """The phase of a WebSocket connection or tunnel."""

    OPENING = 0  # the handshake has not been accepted
    OPEN = 1
    FAILING = 2  # the client has broken the protocol; the next iteration of the event loop sends the close frame
    CLOSING = 3  # one side has sent a close frame; the close frame of the other side is awaited
    LINGERING = 4  # everything has been sent; until the client has closed, input is dropped or passed to a tunnel
    CLOSED = 5


OPENING, OPEN, FAILING, CLOSING, LINGERING, CLOSED = WebSocketPhase


class WebSocketTransport(TransportConnection, asyncio.Protocol, WebSocketGateway):
    """Base class of WebSocket connections and tunnels."""

    __slots__ = ("_close_code", "_close_reason", "phase", "session")

    session: WebSocketSession

    def __init__(self, context: ServerContext, phase: WebSocketPhase, since: float) -> None:
        super().__init__(context, since)
        self.phase = phase
        # The session is disconnected with this code and reason.
        self._close_code = 1006
        self._close_reason = ""

    def connection_lost(self, error: Exception | None) -> None:
        self.phase = CLOSED
        self._context.connections.discard(self)
        trace(self.session.endpoint.client, "WebSocket connection lost")
        self._detach()
        self.resume_writing()
        self._report_disconnect()
        # Break a reference cycle.
        self.session.endpoint.release()

    def served(self) -> tuple[Endpoint, bool]:
        return self.session.endpoint, True

    def tick(self) -> None:
        context = self._context
        unsent = self._transport.get_write_buffer_size()
        if self.phase is CLOSING or (self.phase is LINGERING and (unsent or self._transport.is_closing())):
            if context.clock.is_over(self._since, context.settings.ws_close_seconds):
                self.reset()
        elif self.phase is LINGERING and self._has_lingered():
            # Not reset: the kernel may still be sending.
            self._close()
        if self.phase < LINGERING and self._has_stalled(unsent):
            seconds = context.settings.write_stall_seconds
            self._warn(f"websocket reset: the client read no byte for {seconds:g} seconds")
            self.reset()

    def reset(self, reason: str = "") -> None:
        if self.phase is not CLOSED:
            self.phase = CLOSED
            self._detach()
            reset(self._transport)
            # Now, because `connection_lost` comes in the next iteration only.
            self._report_disconnect()

    def _warn(self, what: str) -> None:
        self._context.warnings.warn(self.session.request.client, what)

    def _detach(self) -> None:
        # Stops passing input to the application. May be called again.
        raise NotImplementedError

    def _close(self) -> None:
        if self.phase < LINGERING:
            self.phase = LINGERING
            self._since = self._context.clock.now
        self._detach()
        # Only once: after a second close, asyncio's TLS transports cannot be aborted any more.
        if not self._transport.is_closing():
            self._transport.close()

    def _report_disconnect(self) -> None:
        if self.session.state is not SESSION_CLOSED:
            self.session.disconnect(self._close_code, self._close_reason)
        self._wake_drainers()


class WebSocketTimeouts(WebSocketTransport):
    """Enforces the deadlines of a WebSocket connection."""

    __slots__ = ("_codec", "_pinged", "_receiving_paused")

    _codec: WebSocketCodec

    def __init__(self, context: ServerContext) -> None:
        # `_since` is the time of the last input or, while closing, of the beginning of that phase.
        super().__init__(context, OPENING, 0.0)
        self._pinged = False
        # `_reading_paused` lasts longer, because held input is decoded before more is read.
        self._receiving_paused = False

    # What the server calls

    def tick(self) -> None:
        settings = self._context.settings
        is_over = self._context.clock.is_over
        if self.phase is OPEN and self._reading_paused:
            self._look_for_end()
        if self.phase is OPEN:
            if self._pinged:
                if self._receiving_paused:
                    # Receiving is paused: the pong may be among the unread bytes.
                    self._pinged = False
                elif is_over(self._since, settings.ws_ping_timeout):
                    self._fail(1011, "keepalive ping timeout")
                    # The lingering close has begun in this tick: its time is checked from the next tick on.
                    return
            elif settings.ws_ping_interval and is_over(self._since, settings.ws_ping_interval):
                # A ping would arrive late behind many unsent bytes; the write timeout applies to such a client.
                if not self.write_paused:
                    self._since = self._context.clock.now
                    # While receiving is paused no pong is awaited, but the write detects a client that has gone.
                    self._pinged = not self._receiving_paused
                    self._write(self._codec.encode_ping(b""))
        super().tick()

    def stop(self) -> None:
        if self.phase is OPEN:
            self._close_code = 1012
            self._report_disconnect()
            self._send_close_and_linger(1012, "")

    def _write(self, data: bytes) -> None:
        # The event loop would log each further write after a failed one, which may be 256 pongs.
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if self._unsent is not None:
            self._unsent.add_other(len(data))
        if self._stall is not None:
            self._written += len(data)

    def _refuse(self, error: WebSocketProtocolError) -> None:
        context = self._context
        self._warn(f"websocket closed: {error}")
        self._close_code, self._close_reason = error.code, error.reason
        # Not now: handlers of earlier messages may not have started, and their immediate replies go first.
        if self.phase is OPEN:
            self.phase = FAILING
        context.loop.call_soon(self._close_faulty, context=context.variables)

    def _close_faulty(self) -> None:
        if self.phase < LINGERING:
            self._fail(self._close_code, self._close_reason)

    def _fail(self, code: int, reason: str) -> None:
        self._close_code, self._close_reason = code, reason
        # Without waiting for the client's close frame (section 7.1.7).
        self._send_close_and_linger(code, reason)
        self._report_disconnect()

    def _send_close_and_linger(self, code: int, reason: str) -> None:
        if self.phase in (OPEN, FAILING):
            self._write(self._codec.encode_close(code, reason))
        self._linger()

    def _linger(self) -> None:
        # Closing a socket with unread input may destroy the last frames.
        settings = self._context.settings
        self.phase = LINGERING
        announced = self._codec.announced_bytes
        self._codec.stop()
        self._receiving_paused = False
        # A client may not read our close frame before it has sent the rest of its message.
        most = min(announced, settings.limits.max_content_bytes or announced)
        most += LINGER_DRAINS * settings.max_drain_bytes
        self._begin_discarding(most, MinimumRate() if announced else None)

    def _look_for_end(self) -> None:
        end = peer_state(self._transport)
        now, seconds = self._context.clock.now, self._context.settings.half_closed_seconds
        if end == HALF_CLOSED and self._eof_since is None:
            self._eof_since = now
        if end == RESET or (self._eof_since is not None and now - self._eof_since >= seconds):
            self.reset()

    def _detach(self) -> None:
        self._codec.stop()

    def _close(self) -> None:
        super()._close()
        self._report_disconnect()
