"""Connects a client with an application that has its own WebSocket code."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final, final

from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.errors import ClientDisconnected
from uvicorn.server.access_log import trace
from uvicorn.server.connection import LINGER_DRAINS
from uvicorn.server.context import ServerContext
from uvicorn.server.http1_gateway import HTTP1Gateway
from uvicorn.server.transport import HALF_CLOSED, RESET, peer_state, socket_state, unread_bytes
from uvicorn.server.websocket_timeouts import CLOSING, LINGERING, OPEN, WebSocketTransport
from uvicorn.wire.websocket.encoder import MessageEncoder
from uvicorn.wire.websocket.frame_follower import FrameFollower

# 64 KiB: as the high-water mark of the transport.
_READ_BYTES: Final = 65536


def open_tunnel(context: ServerContext, http: HTTP1Gateway, session: WebSocketSession) -> socket.socket:
    """Open a tunnel, and return the application's socket. Raises ClientDisconnected and OSError."""
    if http.is_closing:
        # A closing TLS transport reports its end to the HTTP connection, even if its protocol is replaced.
        session.request.disconnect()
        raise ClientDisconnected("the client has disconnected")
    near, far = socket.socketpair()
    near.setblocking(False)
    # Whatever `socket.setdefaulttimeout` has set: with a timeout, `send` may send a part only.
    far.setblocking(True)
    transport, received = http.switch()
    tunnel = session.gateway = Tunnel(context, session, transport, near)
    if received:
        # The client has sent these bytes after its request.
        tunnel.data_received(received)
    return far


@final
class Tunnel(WebSocketTransport):
    """Forwards bytes between a client and the application's end of a socket pair."""

    __slots__ = ("_application_reads", "_backlog", "_near", "_received", "_sent")

    def __init__(
        self, context: ServerContext, session: WebSocketSession, transport: asyncio.Transport, near: socket.socket
    ) -> None:
        super().__init__(context, OPEN, context.clock.now)
        self.session = session
        self._transport = transport
        # The application uses the other end on its own threads.
        self._near = near
        self._sent = FrameFollower(has_head=True)
        self._received = FrameFollower(has_head=False)
        # The bytes of the client that the pair had no room for. While there are any, reading is paused.
        self._backlog = b""
        # False after the application has closed its end: then the client's bytes are dropped.
        self._application_reads = True
        context.connections.add(self)
        transport.set_protocol(self)
        trace(session.endpoint.client, "WebSocket passed to the application")
        context.loop.add_reader(near.fileno(), self._read_application)

    # What the event loop calls for the client

    def data_received(self, data: bytes) -> None:
        if not self._application_reads:
            if self.phase is LINGERING:
                self._discard(len(data))
            return
        self._follow(self._received, data)
        if self._backlog:
            # The event loop may have read before reading was paused.
            self._backlog += data
        else:
            sent = self._send_application(data)
            if self._application_reads and sent < len(data):
                self._backlog = data[sent:]
                self._context.loop.add_writer(self._near.fileno(), self._send_backlog)
                self._reading_paused = True
                self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._note_end()
        # TLS has no half-close.
        if self.phase is LINGERING or self.session.endpoint.scheme == "https":
            self._close()
            return False
        if not self._backlog:
            self._end_input()
        return True

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.phase < LINGERING:
            self._context.loop.remove_reader(self._near.fileno())

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.phase < LINGERING:
            self._context.loop.add_reader(self._near.fileno(), self._read_application)

    # What the event loop calls for the pair

    def _read_application(self) -> bool:
        try:
            data = self._near.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except ConnectionError:
            # The application has closed its end without reading everything.
            data = b""
        if not data:
            self._application_ended()
            return False
        self._follow(self._sent, data)
        # After a failed write the event loop calls `connection_lost` in its next iteration.
        if not self._transport.is_closing():
            self._transport.write(data)
            self._written += len(data)
        return True

    def _follow(self, follower: FrameFollower, data: bytes) -> None:
        follower.follow(data)
        if follower.has_closed and self.phase is OPEN:
            self.phase = CLOSING
            self._since = self._context.clock.now
            self.session.close_begun()

    def _send_backlog(self) -> None:
        sent = self._send_application(self._backlog)
        self._backlog = self._backlog[sent:]
        if self._application_reads and not self._backlog:
            self._context.loop.remove_writer(self._near.fileno())
            self._read_on()
            if self._eof_since is not None:
                self._end_input()

    # What the session calls

    def catch_up(self) -> None:
        # A bounded number, because the application may write at the same time. The last read finds the end.
        for _ in range(unread_bytes(self._near) // _READ_BYTES + 2):
            if self.phase >= LINGERING or not self._read_application():
                break

    def send_close(self, code: int, reason: str) -> None:
        self.catch_up()
        # The application's call has ended without a close frame.
        if self.phase is OPEN:
            self._close_with(code)

    # What the server calls

    def tick(self) -> None:
        context = self._context
        if self.phase < LINGERING:
            if self._reading_paused:
                self._look_for_end()
            seconds = context.settings.half_closed_seconds
            if self._eof_since is not None and context.clock.is_over(self._eof_since, seconds):
                self.reset()
        super().tick()

    def stop(self) -> None:
        self.catch_up()
        if self.phase < LINGERING:
            self._close_with(1012)
        elif self._application_reads:
            self._linger()

    # The two ends

    def _send_application(self, data: bytes) -> int:
        try:
            return self._near.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            # The application has closed its end.
            self._drop_input()
            return len(data)

    def _end_input(self) -> None:
        with suppress(OSError):
            self._near.shutdown(socket.SHUT_WR)

    def _drop_input(self) -> None:
        self._application_reads = False
        if self._backlog:
            self._backlog = b""
            self._context.loop.remove_writer(self._near.fileno())
        if self.phase is LINGERING:
            self._linger()
        else:
            self._read_on()

    def _application_ended(self) -> None:
        self._context.loop.remove_reader(self._near.fileno())
        self.session.close_begun()
        if self._application_reads and socket_state(self._near) != RESET and self._eof_since is None:
            # Half-closed: the application still reads.
            self.phase = LINGERING
            self._since = self._context.clock.now
            self._send_fin()
        elif self._transport.can_write_eof():
            self._linger()
        else:
            # TLS has no half-close: the client would wait.
            self._close()

    def _close_with(self, code: int) -> None:
        if self._sent.is_between_frames and not self._transport.is_closing():
            self._transport.write(MessageEncoder().encode_close(code, ""))
        self._close_code = code
        self._linger()
        self._report_disconnect()

    def _linger(self) -> None:
        self._detach()
        self.phase = LINGERING
        if self._eof_since is None:
            self._begin_discarding(LINGER_DRAINS * self._context.settings.max_drain_bytes, None)
        else:
            self._since = self._context.clock.now
            self._close()

    def _has_lingered(self) -> bool:
        if not self._application_reads:
            return super()._has_lingered()
        return self._context.clock.is_over(self._since, self._context.settings.ws_close_seconds)

    def _detach(self) -> None:
        near, loop = self._near, self._context.loop
        self._application_reads = False
        self._backlog = b""
        if near.fileno() < 0:
            return
        loop.remove_reader(near.fileno())
        loop.remove_writer(near.fileno())
        with suppress(OSError):
            # The application reads the end of the stream.
            near.shutdown(socket.SHUT_RDWR)
            # With unread bytes, `close` would make the application's next call raise ConnectionResetError.
            while near.recv(_READ_BYTES):
                pass
        near.close()

    def _look_for_end(self) -> None:
        end = peer_state(self._transport)
        if end == HALF_CLOSED:
            self._note_end()
        if end == RESET:
            self.reset()

    def _note_end(self) -> None:
        if self._eof_since is None:
            self._eof_since = self._context.clock.now
        self._report_disconnect()
