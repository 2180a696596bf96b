"""Connections that redis-py opens."""

from __future__ import annotations

import asyncio

from tests.helpers import until
from uvicorn.broadcast.redis.redis_py import _build_connection, _take_over


async def test_connection_that_redis_closes_before_its_transport_is_taken_over_is_lost() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    opened = _build_connection({}, host="127.0.0.1", port=server.sockets[0].getsockname()[1])
    await opened.connect()
    reader = opened._reader
    assert reader is not None
    await until(reader.at_eof)
    connection = _take_over(opened)
    assert await connection.lost == "Redis closed the connection"
    await connection.close("the test has ended")
    server.close()
    await server.wait_closed()
