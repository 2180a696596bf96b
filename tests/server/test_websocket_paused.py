"""A disconnect is noticed while reading is paused, because the application is slow."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.corpus import HANDSHAKE, request
from tests.helpers import ManualClock, settle, until
from tests.server.test_paused_reading import tcp_pair
from tests.websocket_streams import TEXT, frame
from uvicorn.interfaces.detect import build_interface
from uvicorn.keywords import build_settings
from uvicorn.server.context import ServerContext
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.websocket import WebSocketConnection


class Site:
    """An application whose handlers never return, on a real socket with a manual clock."""

    def __init__(self, kind: str, **settings: Any) -> None:
        self.ended: list[int] = []
        self.texts: list[str] = []
        app = self.channels if kind == "channels" else self.asgi3
        more = {"access_log": False, "lifespan": "off", "ws_handlers": 2, "ws_max_queue": 2, "ws_ping_interval": 0.0}
        chosen = build_settings({**more, "timeout_disconnect": 0.0, **settings})
        self.interface = build_interface(app, chosen)
        self.clock = ManualClock()
        self.context = ServerContext(self.interface, chosen, self.clock)
        self.clock.on_tick(self.context.tick)
        self.clock.tick()

    async def channels(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.receive":
            self.texts.append(message["text"])
            await asyncio.sleep(3600)
        elif message["channel"] == "websocket.disconnect":
            self.ended.append(message["code"])

    async def asgi3(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        connection = next(iter(self.context.connections))
        assert isinstance(connection, WebSocketConnection)
        connection.session.on_end(lambda: self.ended.append(1006))
        self.texts.append((await receive())["text"])
        await asyncio.sleep(3600)

    async def connect(self) -> socket.socket:
        """Connect a client that has sent so much that reading is paused."""
        here, there = tcp_pair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: HTTP1Connection(self.context), here)
        there.sendall(request(b"GET / HTTP/1.1", *HANDSHAKE))
        await until(lambda: any(isinstance(one, WebSocketConnection) for one in self.context.connections))
        for number in range(9):
            there.sendall(frame(TEXT, b"%d" % number))
        await until(lambda: self.texts and not transport.is_reading())
        await settle()
        return there

    async def end(self) -> None:
        for connection in tuple(self.context.connections):
            connection.reset()
        await settle()
        await self.interface.shutdown(0)


@pytest.mark.parametrize("kind", ["channels", "asgi3"])
async def test_websocket_application_is_notified_after_the_half_closed_timeout(kind: str) -> None:
    site = Site(kind)
    client = await site.connect()
    client.shutdown(socket.SHUT_WR)
    site.clock.advance(5)
    assert site.ended == []
    site.clock.advance(2)
    await settle()
    assert site.ended == [1006]
    client.close()
    await site.end()


@pytest.mark.parametrize("kind", ["channels", "asgi3"])
async def test_client_reset_is_noticed_within_a_second_while_reading_is_paused(kind: str) -> None:
    site = Site(kind)
    client = await site.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    site.clock.advance(1)
    await settle()
    assert site.ended == [1006]
    await site.end()


async def test_half_close_ends_a_paused_websocket_at_once_if_timeout_half_closed_is_0() -> None:
    site = Site("channels", timeout_half_closed=0.0)
    client = await site.connect()
    client.shutdown(socket.SHUT_WR)
    site.clock.advance(1)
    await settle()
    assert site.ended == [1006]
    client.close()
    await site.end()


async def test_connected_websocket_client_is_not_reset_while_reading_is_paused() -> None:
    site = Site("channels")
    client = await site.connect()
    site.clock.advance(100)
    assert (site.ended, site.texts) == ([], ["0", "1"])
    client.close()
    await site.end()
