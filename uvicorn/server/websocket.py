"""One WebSocket connection: a transport on one side, the codec and the session on the other (RFC 6455).

It comes into being with a request to upgrade (`websocket_upgrade`), as the gateway of its session, and takes the
transport over from the HTTP connection when the session is accepted.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, final

from uvicorn.core.unsent import UNAWAITED_MESSAGES
from uvicorn.core.websocket_session import CLOSED, WebSocketGateway, WebSocketSession
from uvicorn.errors import WebSocketProtocolError
from uvicorn.server.connection import TransportConnection
from uvicorn.server.context import ServerContext
from uvicorn.server.slow_clients import MinimumRate
from uvicorn.server.transport import HALF_CLOSED, RESET, peer_state, reset
from uvicorn.types import Headers
from uvicorn.wire.websocket.frame_cache import FrameCache
from uvicorn.wire.websocket.frames import WebSocketCodec
from uvicorn.wire.websocket.handshake import WebSocketHandshake

# What a connection is doing; deadlines depend on it.
_OPENING: Final = 0  # the handshake has not been accepted
_OPEN: Final = 1
_CLOSING: Final = 2  # our close frame is out, the client's is awaited
_LINGERING: Final = 3  # all has been said: input is dropped until the client has closed
_CLOSED: Final = 4

# What is read and dropped after our last words, beside the rest of a message that has begun: so many times what is
# drained for an honest client.
_LINGER_DRAINS: Final = 4


class Upgrading(Protocol):
    """What is asked of the connection that carried the handshake."""

    @property
    def is_closing(self) -> bool:
        """Return whether the connection has ended, or is about to."""

    def switch(self) -> tuple[asyncio.Transport, bytes]:
        """Let go of the transport; returned with what has arrived behind the handshake."""


@final
class WebSocketConnection(TransportConnection, asyncio.Protocol, WebSocketGateway):
    """The protocol object that the event loop drives, and the gateway of its session."""

    __slots__ = (
        "_close_code",
        "_close_reason",
        "_codec",
        "_faulty",
        "_handshake",
        "_http",
        "_last",
        "_last_pong",
        "_phase",
        "_pinged",
        "_receiving_paused",
        "_resuming",
        "session",
    )

    _codec: WebSocketCodec
    session: WebSocketSession

    def __init__(self, context: ServerContext, http: Upgrading, handshake: WebSocketHandshake) -> None:
        # `_since`: when something last came from the client; when closing, when that began.
        super().__init__(context, 0.0)
        self._http: Upgrading | None = http
        self._handshake: WebSocketHandshake | None = handshake
        self._phase = _OPENING
        self._pinged = False
        self._last_pong: bytes | None = None
        self._close_code = 1006
        self._close_reason = ""
        # Whether the client has broken the protocol, and the close frame is about to be sent.
        self._faulty = False
        # `_reading_paused` lasts longer: held input is handed over before more is read.
        self._receiving_paused = False
        # Whether held input is about to be handed over.
        self._resuming = False

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._phase == _OPEN:
            self._since = self._context.clock.now
            self._pinged = False
        elif self._phase >= _LINGERING:
            self._discard(len(data))
            return
        try:
            self._codec.receive_data(data)
        except WebSocketProtocolError as error:
            self._refuse(error)

    def eof_received(self) -> bool:
        """The client sends no more; if it has not said goodbye, the connection is broken."""
        if self._faulty:
            self._close_faulty()
        self._close()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The transport is gone."""
        self._phase = _CLOSED
        self._context.connections.discard(self)
        self._codec.stop()
        self.resume_writing()
        self._report_disconnect()
        # It holds the endpoint in turn: neither is to wait for the garbage collector.
        self.session.endpoint.context = None

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        self._unsent = None
        pong, self._last_pong = self._last_pong, None
        if pong is not None and self._phase == _OPEN:
            self._write(self._codec.encode_pong(pong))
        self._wake_drainers()

    # What the codec calls

    def on_text(self, text: str) -> None:
        """A text message."""
        if self._phase == _OPEN:
            self._context.messages += 1
            self.session.listener.on_text(text)  # type: ignore[union-attr]

    def on_bytes(self, data: bytes) -> None:
        """A binary message."""
        if self._phase == _OPEN:
            self._context.messages += 1
            self.session.listener.on_bytes(data)  # type: ignore[union-attr]

    def on_ping(self, data: bytes) -> None:
        """Answer; to a client that does not read its pongs only the latest is owed (section 5.5.3)."""
        if self.write_paused:
            self._last_pong = data
        elif self._phase == _OPEN:
            self._write(self._codec.encode_pong(data))

    def on_pong(self, data: bytes) -> None:
        """The client is there, which `data_received` has noted."""

    def on_close(self, code: int, reason: str) -> None:
        """The client's close frame: answer it if it is not an answer itself, and close (section 5.5.1)."""
        self._close_code, self._close_reason = code, reason
        if self._phase == _OPEN:
            # An application must not be heard after our close frame.
            self._phase = _CLOSING
            self._write(self._codec.encode_close(code, ""))
        self._report_disconnect()
        if self._transport.can_write_eof():
            self._linger()
        else:
            # TLS has no half-close: the client would wait. Nothing follows its close frame, so nothing is lost.
            self._close()

    def on_busy(self) -> None:
        """A client that sends without a pause: others have their turn before it goes on."""
        self._pause()
        self.resume_receiving()

    # What the session calls

    def send_accept(self, session: WebSocketSession, subprotocol: str | None, headers: Headers) -> None:
        """Answer the handshake and take the transport over."""
        context = self._context
        settings = context.settings
        assert self._http is not None and self._handshake is not None
        if self._http.is_closing:
            # A closing TLS transport reports its end to the HTTP connection, whatever its protocol is set to.
            session.request.disconnect()
            return
        answer, deflate = self._handshake.accept(
            subprotocol, headers, context.defaults, settings.ws_per_message_deflate
        )
        self._transport, received = self._http.switch()
        # Neither is needed any more, and thousands of idle connections would keep them.
        self._http = self._handshake = None
        self._codec = WebSocketCodec(self, settings.ws_max_size, settings.ws_max_fragments, deflate, context.last_frame)
        # One that compresses is asked each time.
        self._last = context.last_frame if deflate is None else FrameCache()
        self._phase = _OPEN
        self._since = context.clock.now - settings.ws_ping_interval * context.clock.jitter() / 10
        context.connections.add(self)
        self._transport.set_protocol(self)
        self._write(answer)
        if received:
            # Read, but not from within the handler that has just accepted, and before anything that comes now.
            self.pause_receiving()
            self._codec.receive_data(received)
            self.resume_receiving()

    def send_text(self, text: str) -> None:
        """Send a text message."""
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
        """Send a binary message."""
        self._send(self._codec.encode_bytes(data))

    def send_close(self, code: int, reason: str) -> None:
        """Send our close frame, and wait for the client's."""
        self._phase = _CLOSING
        self._since = self._context.clock.now
        self._write(self._codec.encode_close(code, reason))
        self.resume_receiving()

    def pause_receiving(self) -> None:
        """The application is behind: hold back what has arrived, and read no more."""
        if self._phase == _OPEN:
            self._pause()

    def resume_receiving(self) -> None:
        """The application has caught up."""
        if self._receiving_paused and not self._resuming:
            self._resuming = True
            self._context.loop.call_soon(self._resume_reading, context=self._context.variables)

    # What the server calls

    def tick(self) -> None:
        """Check the deadlines of the current phase. Called once a second."""
        settings = self._context.settings
        is_over = self._context.clock.is_over
        if self._phase == _OPEN:
            if self._reading_paused:
                self._look_for_end()
            if self._phase != _OPEN:
                pass
            elif self._pinged:
                if self._receiving_paused:
                    # Receiving is paused: the pong may be among the unread bytes.
                    self._pinged = False
                elif is_over(self._since, settings.ws_ping_timeout):
                    self._fail(1011, "keepalive ping timeout")
            elif settings.ws_ping_interval and is_over(self._since, settings.ws_ping_interval):
                # One that is owed much would have it late: whether it takes anything is seen below.
                if not self.write_paused:
                    self._since = self._context.clock.now
                    # An answer is not waited for while it is we who do not listen, but a client that has gone is
                    # noticed only by writing to it.
                    self._pinged = not self._receiving_paused
                    self._write(self._codec.encode_ping(b""))
        elif self._phase == _CLOSING:
            if is_over(self._since, settings.ws_close_seconds):
                self.reset()
        elif self._phase == _LINGERING:
            if self._transport.get_write_buffer_size() or self._transport.is_closing():
                if is_over(self._since, settings.ws_close_seconds):
                    self.reset()
            elif self._has_lingered():
                # Not reset: the kernel may still be sending.
                self._close()
        if self._phase < _LINGERING:
            self._check_stall()

    def stop(self) -> None:
        """Notify the application that the server is stopping, then the client."""
        if self._phase == _OPEN:
            self._close_code = 1012
            self._report_disconnect()
            self._send_close_and_linger(1012, "")

    def reset(self) -> None:
        """Reset the connection, and notify the application at once: the server may stop next."""
        if self._phase != _CLOSED:
            self._phase = _CLOSED
            self._codec.stop()
            reset(self._transport)
            self._report_disconnect()

    # In and out

    def _send(self, data: bytes) -> None:
        transport = self._transport
        if transport.is_closing():
            # A write has failed; the loop reports it on its next turn.
            return
        if self.write_paused:
            if not self._has_room(len(data)):
                self._fail(1013, "")
                return
            self._unsent.add(len(data))  # type: ignore[union-attr]
        transport.write(data)
        if self._stall is not None:
            self._written += len(data)

    def _has_room(self, size: int) -> bool:
        """Whether a slow client may be sent a message of `size` bytes more; warns if not."""
        settings = self._context.settings
        buffered = self._transport.get_write_buffer_size()
        shortage = self._track_unsent(buffered).shortage(
            size, buffered, settings.max_unsent_bytes, settings.max_pending_bytes, UNAWAITED_MESSAGES
        )
        if shortage:
            self._context.warnings.warn(
                self.session.request.client, f"websocket closed: it does not read what it is sent, {shortage} (1013)"
            )
        return not shortage

    def _write(self, data: bytes) -> None:
        # A write has failed, and the loop would log each further one: up to 256 pongs before it reports the end.
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if self._unsent is not None:
            self._unsent.add_other(len(data))
        if self._stall is not None:
            self._written += len(data)

    def _resume_reading(self) -> None:
        if self._resuming and self._phase < _LINGERING:
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

    def _read_on(self) -> None:
        # A transport that is closing does not read on, and one for TLS may have let go of what would.
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    # The end

    def _refuse(self, error: WebSocketProtocolError) -> None:
        context = self._context
        context.warnings.warn(self.session.request.client, f"websocket closed: {error}")
        self._close_code, self._close_reason = error.code, error.reason
        # Handlers of the messages before it may not have begun: what they answer at once is still sent, however the
        # stream was cut.
        self._faulty = True
        context.loop.call_soon(self._close_faulty, context=context.variables)

    def _close_faulty(self) -> None:
        if self._phase < _LINGERING:
            self._fail(self._close_code, self._close_reason)

    def _fail(self, code: int, reason: str) -> None:
        """Close without waiting for the client's consent (section 7.1.7)."""
        self._close_code, self._close_reason = code, reason
        self._send_close_and_linger(code, reason)
        self._report_disconnect()

    def _send_close_and_linger(self, code: int, reason: str) -> None:
        if self._phase == _OPEN:
            self._write(self._codec.encode_close(code, reason))
        self._linger()

    def _linger(self) -> None:
        """Drop what still comes: closing a socket with unread input resets it, and may destroy our last words."""
        settings = self._context.settings
        self._phase = _LINGERING
        self._since = self._context.clock.now
        announced = self._codec.announced_bytes
        self._linger_bytes = _LINGER_DRAINS * settings.max_drain_bytes
        if announced:
            # A client in the middle of a message may read our close frame only behind it.
            self._linger_bytes += min(announced, settings.limits.max_content_bytes or announced)
            self._pace = MinimumRate()
        self._codec.stop()
        self._receiving_paused = False
        self._read_on()
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _look_for_end(self) -> None:
        """While we do not read, the loop does not report that the client has left.

        What has arrived is handed over before that, as a request's content is, but not for longer.
        """
        end = peer_state(self._transport)
        clock = self._context.clock
        if end == HALF_CLOSED and self._eof_since is None:
            self._eof_since = clock.now
        if end == RESET or (
            self._eof_since is not None and clock.now - self._eof_since >= self._context.settings.half_closed_seconds
        ):
            self.reset()

    def _close(self) -> None:
        """Close as soon as what is unsent has been sent, for which there is as much time as for a goodbye."""
        if self._phase < _LINGERING:
            self._phase = _LINGERING
            self._since = self._context.clock.now
            self._codec.stop()
        # Only once: asyncio's transports for TLS let go of everything the second time, and can be aborted no more.
        if not self._transport.is_closing():
            self._transport.close()
        self._report_disconnect()

    def _report_disconnect(self) -> None:
        """Notify the application that the client has disconnected, once."""
        if self.session.state is not CLOSED:
            self.session.disconnect(self._close_code, self._close_reason)
        # Nothing that they wait for the client to take is followed by more.
        self._wake_drainers()

    def _check_stall(self) -> None:
        """Reset a client that exceeds the write timeout."""
        if self._has_stalled(self._transport.get_write_buffer_size()):
            seconds = self._context.settings.write_stall_seconds
            self._context.warnings.warn(
                self.session.request.client, f"websocket reset: took no byte for {seconds:g} seconds"
            )
            self.reset()
