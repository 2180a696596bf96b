"""Resets of connections on real sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

import pytest

from tests.helpers import FakeSocket, FakeTransport
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.transport import reset


async def test_resetting_the_transport_sends_a_TCP_reset_to_the_client() -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = socket.create_connection(listening.getsockname())
        here, _ = listening.accept()
    there.setblocking(False)
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, here)
    reset(transport)
    with pytest.raises(ConnectionResetError):
        await loop.sock_recv(there, 1)
    there.close()


async def test_unix_socket_client_gets_an_end_of_file_on_reset() -> None:
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    there.setblocking(False)
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, here)
    reset(transport)
    assert await loop.sock_recv(there, 1) == b""
    there.close()


@pytest.mark.parametrize("sock", [None, FakeSocket(fails=True)], ids=["none", "gone"])
async def test_transport_reset_aborts_the_connection_if_the_socket_is_unusable(sock: FakeSocket | None) -> None:
    transport = FakeTransport(cast(HTTP1Connection, asyncio.Protocol()), {"socket": sock})
    reset(transport)
    assert transport.aborted
    await asyncio.sleep(0)
