"""Connections that redis-py opens."""

from __future__ import annotations

import asyncio

import pytest
from redis._parsers import _AsyncRESP2Parser

from tests.helpers import settle
from uvicorn.broadcast.redis.connection import ConnectFailed
from uvicorn.broadcast.redis.redis_py import _build_connection, _take_over, connect_to


async def test_taking_over_a_closed_transport_reports_a_lost_connection() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    opened = _build_connection({}, host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    await opened.connect()
    assert opened._writer is not None
    opened._writer.transport.abort()
    await settle()
    connection = _take_over(opened)
    assert await connection.lost == "Redis closed the connection"
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "reply", [b":abc\r\n", b"$-5\r\n", b"*1\r\n" * 5000, b"+" + b"x" * 70_000, b"!"], ids=lambda reply: repr(reply[:6])
)
async def test_malformed_login_reply_without_hiredis_raises_ConnectFailed(reply: bytes) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(reply)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    options = {"password": "secret", "parser_class": _AsyncRESP2Parser}
    with pytest.raises(ConnectFailed):
        await connect_to("127.0.0.1", server.sockets[0].getsockname()[1], options)
    server.close()
    await server.wait_closed()
