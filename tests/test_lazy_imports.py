"""Modules that are imported on first use, so that a server with 200 connections has an RSS of under 32 MiB."""

from __future__ import annotations

import subprocess
import sys

_SERVE_ONE_REQUEST = r"""
import asyncio, sys, uvicorn.main

async def app(message, channels):
    await channels["reply"].send({"status": 200, "content": b"hello"})

async def serve():
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0)
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    assert (await reader.read()).endswith(b"hello")
    server.should_exit = True
    await task

asyncio.run(serve())
print(*sys.modules)
"""

_NOT_NEEDED = {
    "difflib",
    "secrets",
    "uvicorn.broadcast",
    "uvicorn.interfaces.asgi3",
    "uvicorn.interfaces.consumer",
    "uvicorn.interfaces.wsgi",
    "uvicorn.routing",
    "uvicorn.server.reloader",
    "uvicorn.server.supervisor",
    "uvicorn.wire.websocket.frames",
    "websockets",
}


def test_server_imports_only_needed_modules_for_a_channels_application() -> None:
    output = subprocess.check_output([sys.executable, "-c", _SERVE_ONE_REQUEST], text=True)
    assert _NOT_NEEDED.isdisjoint(output.split())


def test_supervisor_with_a_metrics_listener_imports_no_event_loop() -> None:
    code = "import sys, uvicorn.server.supervisor, uvicorn.server.metrics_listener; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    assert {"asyncio", "uvicorn.core.exchange", "uvicorn.server.server"}.isdisjoint(modules)
