"""`Server.server_state`, which other programs read."""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.server import ServerState


def test_server_state_is_empty_before_the_startup() -> None:
    state = ServerState()
    assert (state.total_requests, len(state.connections), len(state.tasks), state.default_headers) == (0, 0, 0, [])


async def test_a_running_server_counts_requests_connections_and_handlers() -> None:
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reached.set()
        await go_on.wait()
        await channels["reply"].send({"status": 204})

    config = uvicorn.Config(app, port=0, log_config=None)
    [sock] = config.open_sockets()
    address = sock.getsockname()
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([sock]))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    await reached.wait()
    state = server.server_state
    counts = state.total_requests, len(state.connections), len(state.tasks)
    go_on.set()
    await reader.read()
    writer.close()
    server.should_exit = True
    await serving
    assert counts == (1, 1, 1)
