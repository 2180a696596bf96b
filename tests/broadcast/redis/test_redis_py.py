"""Connections that redis-py opens."""

from __future__ import annotations

import asyncio

from tests.helpers import settle
from uvicorn.broadcast.redis.redis_py import _build_connection, _take_over


async def test_connection_that_is_lost_before_its_transport_is_taken_over_reports_the_loss() -> None:
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
