"""Tunnels between real sockets of a client and of an application that has WebSocket code of its own."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import ssl
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.certificates import Certificates
from tests.helpers import ManualClock, settle, until
from uvicorn.core.exchange import HTTPExchange
from uvicorn.core.websocket_session import CLOSED, CLOSING, CONNECTING, OPEN, WebSocketSession
from uvicorn.errors import ClientDisconnected
from uvicorn.interfaces.base import Interface
from uvicorn.keywords import build_settings
from uvicorn.server.context import ServerContext
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.tunnel import Tunnel
from uvicorn.server.websocket_timeouts import WebSocketPhase

HANDSHAKE: Final = (
    b"GET /chat HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
SWITCHED: Final = b"HTTP/1.1 101 \r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n"
HELLO: Final = b"\x81\x05hello"
CLOSE: Final = b"\x88\x02\x03\xe8"
RESTART: Final = b"\x88\x02\x03\xf4"

# More than the kernel holds for a reader that does not read.
LARGE: Final = os.urandom(1 << 20) * 16


# The socket module does not name this option of Linux.
SO_SNDBUFFORCE: Final = 32


class HandingOver(Interface):
    """An interface that keeps the session of each handshake for the test."""

    name = "handing over"
    serves_websockets = True
    checks_origin = False

    def __init__(self, settings: Any) -> None:
        super().__init__(lambda: None, settings)
        self.sessions: list[WebSocketSession] = []

    def serve_websocket(self, session: WebSocketSession) -> None:
        self.sessions.append(session)

    def serve_http(self, exchange: HTTPExchange) -> None:
        raise NotImplementedError


class Tunnelled:
    """A client's streams, and the application's end of the tunnel."""

    def __init__(
        self,
        context: ServerContext,
        clock: ManualClock,
        session: WebSocketSession,
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.context = context
        self.clock = clock
        self.session = session
        self.reader, self.writer = streams
        self.far: socket.socket | None = None

    def take(self) -> socket.socket:
        """Take the connection over, and return the application's end."""
        self.far = self.session.hand_over()
        self.far.setblocking(False)
        return self.far

    @property
    def tunnel(self) -> Any:
        """The only connection of the server."""
        (tunnel,) = self.context.connections
        return tunnel

    def say(self, data: bytes) -> None:
        """The application sends `data`."""
        assert self.far is not None
        assert self.far.send(data) == len(data)

    async def hear(self, count: int = 65536) -> bytes:
        """The application reads once."""
        assert self.far is not None
        return await asyncio.get_running_loop().sock_recv(self.far, count)

    async def hear_all(self) -> bytes:
        """The application reads to the end."""
        data = bytearray()
        while piece := await self.hear():
            data += piece
        return bytes(data)


@asynccontextmanager
async def tunnelled(
    behind: bytes = b"", tls: Certificates | None = None, takes: bool = True, **options: Any
) -> AsyncIterator[Tunnelled]:
    """A client that has sent a handshake with `behind` behind it. The application has taken over if `takes`."""
    loop = asyncio.get_running_loop()
    settings = build_settings({"access_log": False, **options})
    interface = HandingOver(settings)
    clock = ManualClock()
    context = ServerContext(interface, settings, clock)
    clock.on_tick(context.tick)
    clock.tick()
    encrypted = None
    if tls is not None:
        encrypted = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        encrypted.load_cert_chain(tls.both)
    server = await loop.create_server(lambda: HTTP1Connection(context), "127.0.0.1", 0, ssl=encrypted)
    host, port = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port, ssl=tls.client() if tls is not None else None)
    writer.write(HANDSHAKE + behind)
    await until(lambda: interface.sessions)
    made = Tunnelled(context, clock, interface.sessions.pop(), (reader, writer))
    try:
        if takes:
            made.take()
        yield made
    finally:
        if made.far is not None:
            made.far.close()
        writer.transport.abort()
        server.close()
        await until(lambda: not context.connections)
        await settle()


async def test_tunnel_does_not_change_bytes_of_the_client_or_the_application(tls: Certificates | None) -> None:
    async with tunnelled(tls=tls) as made:
        made.say(SWITCHED + HELLO)
        assert await made.reader.readexactly(len(SWITCHED + HELLO)) == SWITCHED + HELLO
        made.writer.write(b"\x00any bytes\xff")
        assert await made.hear() == b"\x00any bytes\xff"


async def test_bytes_that_follow_the_handshake_reach_the_application(tls: Certificates | None) -> None:
    async with tunnelled(HELLO, tls) as made:
        assert await made.hear() == HELLO


async def test_session_opens_with_status_101_when_the_application_takes_the_socket() -> None:
    async with tunnelled(takes=False) as made:
        assert made.session.state is CONNECTING
        made.take()
        assert (made.session.state, made.session.request.status) == (OPEN, 101)


async def test_client_that_reads_late_receives_16_MiB_from_the_application(tls: Certificates | None) -> None:
    async with tunnelled(tls=tls) as made:
        sending = asyncio.create_task(asyncio.to_thread(send_blocking, made))
        await until(lambda: made.tunnel.write_paused)
        assert await made.reader.readexactly(len(LARGE)) == LARGE
        await sending


def send_blocking(made: Tunnelled) -> None:
    assert made.far is not None
    with made.far.dup() as far:
        far.setblocking(True)
        far.sendall(LARGE)


async def test_application_waits_while_the_client_does_not_read() -> None:
    async with tunnelled() as made:
        transport = made.tunnel._transport
        sent = 0
        while sent < 4 << 24:
            try:
                sent += made.far.send(LARGE)  # type: ignore[union-attr]
            except BlockingIOError:
                if made.tunnel.write_paused:
                    break
                await asyncio.sleep(0)
        assert sent < 4 << 24
        assert transport.get_write_buffer_size() < 3 * 65536


async def test_application_that_reads_late_receives_16_MiB_from_the_client(tls: Certificates | None) -> None:
    async with tunnelled(tls=tls) as made:
        made.writer.write(LARGE)
        await until(lambda: made.tunnel._backlog)
        assert not made.tunnel._transport.is_reading()
        assert len(made.tunnel._backlog) <= 1 << 18
        heard = bytearray()
        while len(heard) < len(LARGE):
            heard += await made.hear(1 << 20)
        assert heard == LARGE
        assert made.tunnel._transport.is_reading()


async def test_application_reads_the_end_of_the_stream_when_the_client_closes(tls: Certificates | None) -> None:
    async with tunnelled(tls=tls) as made:
        made.writer.write(HELLO)
        made.writer.close()
        assert await made.hear_all() == HELLO
        assert made.session.state is CLOSED


async def test_application_reads_the_end_of_the_stream_when_the_client_resets() -> None:
    async with tunnelled() as made:
        reset(made.writer)
        assert await made.hear_all() == b""
        await until(lambda: not made.context.connections)
        assert made.session.state is CLOSED


def reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_client_reset_is_noticed_while_the_application_reads_nothing() -> None:
    async with tunnelled() as made:
        made.writer.write(LARGE)
        await until(lambda: made.tunnel._backlog)
        reset(made.writer)
        tunnel = made.tunnel
        await until(lambda: tunnel._transport.is_closing() or made.clock.advance(1))
        assert made.session.state is CLOSED
        await made.hear_all()


async def test_client_FIN_is_noticed_while_the_application_reads_nothing() -> None:
    async with tunnelled() as made:
        filling = os.urandom(1 << 18)
        made.writer.write(filling)
        await until(lambda: made.tunnel._backlog)
        made.writer.write_eof()
        await until(lambda: made.session.state is CLOSED or made.clock.tick())
        assert await made.hear_all() == filling


async def test_application_may_send_after_the_client_has_half_closed() -> None:
    async with tunnelled() as made:
        made.writer.write_eof()
        assert await made.hear() == b""
        made.say(SWITCHED + HELLO)
        made.far.close()  # type: ignore[union-attr]
        assert await made.reader.read() == SWITCHED + HELLO
        await until(lambda: not made.context.connections)


async def test_half_closed_client_is_reset_after_the_timeout() -> None:
    async with tunnelled(timeout_half_closed=3) as made:
        made.writer.write_eof()
        assert await made.hear() == b""
        made.clock.advance(3)
        assert made.context.connections
        made.clock.advance(1)
        await until(lambda: not made.context.connections)


async def test_client_reads_the_end_of_the_stream_when_the_application_closes(tls: Certificates | None) -> None:
    async with tunnelled(tls=tls) as made:
        made.say(SWITCHED + HELLO)
        made.far.close()  # type: ignore[union-attr]
        assert await made.reader.read() == SWITCHED + HELLO
        made.writer.close()
        await until(lambda: not made.context.connections)


async def test_client_bytes_are_dropped_after_the_application_has_closed() -> None:
    async with tunnelled() as made:
        made.writer.write(HELLO + HELLO)
        assert await made.hear(1)
        # With unread bytes, so that the tunnel's next call fails with ECONNRESET.
        made.far.close()  # type: ignore[union-attr]
        assert await made.reader.read() == b""
        made.writer.write(HELLO)
        await settle()
        assert made.context.connections
        made.clock.advance(2)
        await until(lambda: not made.context.connections)


async def test_connection_ends_if_the_client_sends_after_the_application_has_closed() -> None:
    async with tunnelled() as made:
        made.far.close()  # type: ignore[union-attr]
        assert await made.reader.read() == b""
        made.writer.write(LARGE)
        await until(lambda: not made.context.connections)


async def test_application_that_half_closes_its_socket_may_still_read_client_bytes() -> None:
    async with tunnelled() as made:
        made.say(SWITCHED)
        made.far.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
        assert await made.reader.read() == SWITCHED
        made.writer.write(HELLO)
        assert await made.hear() == HELLO
        made.writer.close()
        await until(lambda: not made.context.connections)
        assert await made.hear() == b""


async def test_tunnel_closes_at_a_timeout_after_its_application_half_closes(
    tls: Certificates | None,
) -> None:
    async with tunnelled(tls=tls, ws_close_timeout=3) as made:
        tunnel = made.tunnel
        made.far.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
        await until(lambda: tunnel.phase > WebSocketPhase.OPEN)
        made.clock.advance(3)
        assert not tunnel._transport.is_closing()
        made.clock.advance(1)
        assert await made.hear() == b""
        assert await made.reader.read() == b""


async def test_client_bytes_are_dropped_after_the_application_half_closes_and_then_closes() -> None:
    async with tunnelled() as made:
        tunnel = made.tunnel
        made.far.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
        await until(lambda: tunnel.phase > WebSocketPhase.OPEN)
        made.far.close()  # type: ignore[union-attr]
        made.writer.write(HELLO)
        await until(lambda: not tunnel._application_reads)
        made.clock.advance(2)
        await until(lambda: not made.context.connections)


async def test_buffered_bytes_are_dropped_when_the_application_closes_after_a_half_close() -> None:
    async with tunnelled() as made:
        made.far.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
        tunnel = made.tunnel
        await until(lambda: tunnel.phase > WebSocketPhase.OPEN)
        made.writer.write(LARGE[: 1 << 19])
        await until(lambda: tunnel._backlog)
        made.far.close()  # type: ignore[union-attr]
        await until(lambda: not tunnel._backlog)
        made.writer.close()
        await until(lambda: not made.context.connections)


async def test_stopping_server_closes_a_tunnel_that_the_application_has_half_closed() -> None:
    async with tunnelled() as made:
        made.far.shutdown(socket.SHUT_WR)  # type: ignore[union-attr]
        tunnel = made.tunnel
        await until(lambda: tunnel.phase > WebSocketPhase.OPEN)
        tunnel.stop()
        assert await made.hear() == b""


async def test_stopping_tunnel_buffers_at_most_512_KiB_of_an_endless_application_stream() -> None:
    async with tunnelled() as made:
        sending = asyncio.create_task(asyncio.to_thread(send_until_it_fails, made))
        await until(lambda: made.tunnel.write_paused)
        tunnel = made.tunnel
        before = tunnel._transport.get_write_buffer_size()
        tunnel.stop()
        assert tunnel._transport.get_write_buffer_size() - before <= 1 << 19
        await sending


@pytest.mark.parametrize("code", [1000, 1011])
async def test_session_close_sends_a_close_frame_if_the_application_sent_none(
    code: int, tls: Certificates | None
) -> None:
    async with tunnelled(tls=tls) as made:
        made.say(SWITCHED + HELLO)
        made.session.close(code)
        assert await made.reader.readexactly(len(SWITCHED + HELLO) + 4) == (
            SWITCHED + HELLO + b"\x88\x02" + code.to_bytes(2)
        )
        assert await made.hear() == b""
        with pytest.raises(BrokenPipeError):
            made.say(HELLO)


async def test_session_close_sends_no_second_close_frame(tls: Certificates | None) -> None:
    async with tunnelled(tls=tls) as made:
        made.say(SWITCHED + CLOSE)
        made.session.close(1000)
        made.far.close()  # type: ignore[union-attr]
        assert await made.reader.read() == SWITCHED + CLOSE


async def test_application_reads_client_bytes_received_after_the_session_close() -> None:
    async with tunnelled() as made:
        made.say(SWITCHED + CLOSE)
        made.session.close(1000)
        made.writer.write(b"answer")
        assert await made.hear() == b"answer"


async def test_client_that_ignores_the_close_frame_is_reset_after_the_close_timeout() -> None:
    async with tunnelled(ws_close_timeout=3) as made:
        made.say(SWITCHED + CLOSE)
        await made.reader.readexactly(len(SWITCHED + CLOSE))
        made.clock.advance(3)
        assert made.context.connections
        made.clock.advance(1)
        await until(lambda: not made.context.connections)
        assert await made.hear() == b""


async def test_session_is_closing_after_the_application_sends_a_close_frame() -> None:
    async with tunnelled() as made:
        made.say(SWITCHED + CLOSE)
        made.session.gateway.catch_up()
        assert made.session.state is CLOSING


async def test_session_is_closing_after_the_client_sends_a_close_frame() -> None:
    async with tunnelled() as made:
        made.writer.write(b"\x88\x80mask")
        assert await made.hear() == b"\x88\x80mask"
        assert made.session.state is CLOSING


async def test_tunnel_ends_after_ws_close_timeout_if_a_close_frame_is_ignored() -> None:
    async with tunnelled(ws_close_timeout=3) as made:
        made.writer.write(b"\x88\x80mask")
        assert await made.hear() == b"\x88\x80mask"
        made.clock.advance(4)
        assert await made.hear() == b""
        await until(lambda: not made.context.connections)


async def test_session_is_closing_after_the_application_closes_its_socket() -> None:
    async with tunnelled() as made:
        made.far.close()  # type: ignore[union-attr]
        made.session.gateway.catch_up()
        assert made.session.state is CLOSING
        made.session.gateway.catch_up()


@pytest.mark.skipif(sys.platform != "linux", reason="an option of Linux sets the size of the buffer")
async def test_tunnel_sends_all_bytes_of_a_large_socket_buffer_before_closing() -> None:
    async with tunnelled() as made:
        assert made.far is not None
        try:
            made.far.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 4 << 20)
        except PermissionError:
            pytest.skip("only root may exceed the limit of the kernel for buffers")
        sent = SWITCHED + b"\x82\x7f" + (1 << 20).to_bytes(8, "big") + bytes(1 << 20)
        made.say(sent)
        made.session.close(1000)
        assert await made.reader.readexactly(len(sent)) == sent


async def test_server_stop_between_two_frames_sends_a_close_frame_with_code_1012(tls: Certificates | None) -> None:
    async with tunnelled(tls=tls) as made:
        made.say(SWITCHED + HELLO)
        made.tunnel.stop()
        expected = SWITCHED + HELLO + RESTART
        assert await made.reader.readexactly(len(expected)) == expected
        assert await made.hear() == b""
        made.clock.advance(2)
        assert await made.reader.read() == b""
        assert made.session.state is CLOSED


@pytest.mark.parametrize(
    "sent",
    [b"", SWITCHED[:-1], SWITCHED + HELLO[:3], SWITCHED + CLOSE, b"HTTP/1.1 400 \r\n\r\n"],
    ids=["nothing", "part of the head", "part of a frame", "a close frame", "another response"],
)
async def test_stopping_server_sends_a_close_frame_only_between_websocket_frames(sent: bytes) -> None:
    async with tunnelled() as made:
        if sent:
            made.say(sent)
        made.tunnel.stop()
        assert await made.reader.read() == sent


async def test_second_stop_of_a_tunnel_sends_no_second_close_frame() -> None:
    async with tunnelled() as made:
        made.say(SWITCHED)
        made.tunnel.stop()
        made.tunnel.stop()
        assert await made.reader.read() == SWITCHED + RESTART


async def test_application_can_read_buffered_client_bytes_after_the_server_stops() -> None:
    async with tunnelled(HELLO) as made:
        made.say(SWITCHED)
        made.tunnel.stop()
        assert await made.hear_all() == HELLO


async def test_client_that_reads_nothing_is_reset_after_the_write_timeout(caplog: pytest.LogCaptureFixture) -> None:
    async with tunnelled(timeout_write_stall=5) as made:
        sending = asyncio.create_task(asyncio.to_thread(send_until_it_fails, made))
        await until(lambda: made.tunnel.write_paused)
        tunnel = made.tunnel
        await until(lambda: tunnel.phase > WebSocketPhase.OPEN or made.clock.advance(1))
        assert await sending is BrokenPipeError
        host, port = made.writer.get_extra_info("sockname")
        assert [record.getMessage() for record in caplog.records] == [
            f"{host}:{port} websocket reset: the client read no byte for 5 seconds"
        ]


async def test_warning_about_a_stalled_tunnel_names_the_forwarded_client(caplog: pytest.LogCaptureFixture) -> None:
    async with tunnelled(timeout_write_stall=5) as made:
        made.session.request.forwarded = ("192.0.2.1", 7), "https"
        sending = asyncio.create_task(asyncio.to_thread(send_until_it_fails, made))
        await until(lambda: made.tunnel.write_paused)
        tunnel = made.tunnel
        await until(lambda: tunnel.phase > WebSocketPhase.OPEN or made.clock.advance(1))
        await sending
        assert [record.getMessage().partition(" ")[0] for record in caplog.records] == ["192.0.2.1:7"]


def send_until_it_fails(made: Tunnelled) -> type[BaseException]:
    assert made.far is not None
    with made.far.dup() as far:
        far.setblocking(True)
        try:
            while True:
                far.sendall(LARGE)
        except OSError as error:
            return type(error)


async def test_application_reads_the_end_of_the_stream_after_a_tunnel_reset() -> None:
    async with tunnelled() as made:
        made.tunnel.reset()
        assert await made.hear() == b""
        assert made.session.state is CLOSED
        await until(lambda: not made.context.connections)


async def test_client_that_does_not_read_all_bytes_is_reset_after_ws_close_timeout() -> None:
    async with tunnelled(ws_close_timeout=3) as made:
        sending = asyncio.create_task(asyncio.to_thread(send_until_it_fails, made))
        await until(lambda: made.tunnel.write_paused)
        made.tunnel.stop()
        await sending
        made.clock.advance(3)
        assert made.context.connections
        made.clock.advance(1)
        await until(lambda: not made.context.connections)


async def test_application_may_retry_a_socket_takeover_that_found_no_free_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> Any:
        raise OSError(errno.EMFILE, "Too many open files")

    async with tunnelled(takes=False) as made:
        with monkeypatch.context() as patched:
            patched.setattr(socket, "socketpair", fail)
            with pytest.raises(OSError, match="Too many open files"):
                made.take()
        assert made.session.state is CONNECTING
        made.take()
        made.say(SWITCHED)
        assert await made.reader.readexactly(len(SWITCHED)) == SWITCHED


async def test_socket_takeover_on_a_closing_connection_raises_ClientDisconnected() -> None:
    async with tunnelled(takes=False) as made:
        (connection,) = made.context.connections
        connection._transport.close()  # type: ignore[attr-defined]
        with pytest.raises(ClientDisconnected):
            made.take()
        assert made.session.state is CLOSED


async def test_tunnel_keeps_bytes_that_arrive_while_reading_is_paused() -> None:
    async with tunnelled() as made:
        made.writer.write(LARGE[: 1 << 19])
        await until(lambda: made.tunnel._backlog)
        backlog = made.tunnel._backlog
        made.tunnel.data_received(HELLO)
        assert made.tunnel._backlog == backlog + HELLO


@pytest.mark.parametrize("end", [lambda made: made.writer.close(), lambda made: made.far.close()])
async def test_ended_tunnel_is_freed_without_garbage_collection(end: Callable[[Tunnelled], None]) -> None:
    gc.collect()
    gc.disable()
    try:
        async with tunnelled() as made:
            made.say(SWITCHED)
            await made.reader.readexactly(len(SWITCHED))
            end(made)
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Tunnel)]
    finally:
        gc.enable()
