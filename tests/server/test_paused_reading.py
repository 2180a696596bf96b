"""While reading is paused, the server asks the kernel whether the client has disconnected."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.helpers import ManualClock, settle, until
from uvicorn.interfaces.detect import build_interface
from uvicorn.keywords import build_settings
from uvicorn.server.context import ServerContext
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.transport import CONNECTED, HALF_CLOSED, RESET, peer_state


class Site:
    """A channels application that never reads its content, on a real socket with a manual clock."""

    def __init__(self) -> None:
        self.closed = 0
        self.ended = 0
        self.began = False
        chosen = build_settings({"access_log": False, "read_buffer_bytes": 1000})
        self.interface = build_interface(self.app, chosen)
        self.clock = ManualClock()
        self.context = ServerContext(self.interface, chosen, self.clock)
        self.clock.on_tick(self.context.tick)
        self.clock.tick()

    async def app(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        self.began = True
        channels["reply"].on_close(self._count_closed)
        channels["reply"].on_end(self._count_ended)
        await asyncio.sleep(3600)

    async def upload(self) -> socket.socket:
        """Connect, and send more than the server buffers."""
        loop = asyncio.get_running_loop()
        here, there = tcp_pair()
        transport, _ = await loop.connect_accepted_socket(lambda: HTTP1Connection(self.context), here)
        there.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 30000\r\n\r\n" + bytes(20000))
        await until(lambda: self.began and not transport.is_reading())
        there.sendall(bytes(1000))
        return there

    async def end(self) -> None:
        for connection in tuple(self.context.connections):
            connection.reset()
        await settle()
        await self.interface.shutdown(0)

    def _count_closed(self) -> None:
        self.closed += 1

    def _count_ended(self) -> None:
        self.ended += 1


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = socket.create_connection(listening.getsockname())
        here, _ = listening.accept()
        return here, there


async def test_server_notices_a_client_close_during_paused_reading_at_the_next_tick() -> None:
    site = Site()
    client = await site.upload()
    client.close()
    await until(lambda: [site.clock.advance(1)] and site.closed)
    assert (site.closed, site.ended) == (1, 0)
    await site.end()


async def test_half_close_during_paused_reading_ends_the_upload_after_the_timeout() -> None:
    site = Site()
    client = await site.upload()
    client.shutdown(socket.SHUT_WR)
    await until(lambda: [site.clock.advance(1)] and site.closed)
    site.clock.advance(7)
    assert site.ended == 1
    client.close()
    await site.end()


async def test_client_reset_during_paused_reading_ends_the_exchange_at_the_next_tick() -> None:
    site = Site()
    client = await site.upload()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    await until(lambda: [site.clock.advance(1)] and site.ended)
    assert (site.closed, site.ended) == (1, 1)
    await site.end()


class Transport(asyncio.Transport):
    def __init__(self, sock: socket.socket | None) -> None:
        super().__init__({"socket": sock})


def test_peer_state_distinguishes_connected_and_half_closed_and_reset_clients() -> None:
    here, there = tcp_pair()
    transport = Transport(here)
    there.sendall(b"unread")
    states = [peer_state(transport)]
    there.shutdown(socket.SHUT_WR)
    states.append(peer_state(transport))
    there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    there.close()
    states.append(peer_state(transport))
    assert states == [CONNECTED, HALF_CLOSED, RESET]
    here.close()


@pytest.mark.parametrize("sock", [None, socket.socket()])
def test_client_of_a_transport_without_an_open_socket_counts_as_connected(sock: socket.socket | None) -> None:
    if sock is not None:
        sock.close()
    assert peer_state(Transport(sock)) == CONNECTED
