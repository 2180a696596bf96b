"""A server as part of another program: in a task, in a thread, step by step."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

import uvicorn
from tests.helpers import hello, until
from uvicorn.errors import StartupError


class Application:
    """Says hello, and keeps what happened to it."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def startup(self) -> None:
        self.events.append("startup")

    async def shutdown(self) -> None:
        self.events.append("shutdown")

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        await hello(message, channels)


def server_of(app: Callable[..., Any], **options: Any) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, **options))


def get(server: uvicorn.Server) -> bytes:
    host, port = server.servers[0].sockets[0].getsockname()
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=30) as response:
        content: bytes = response.read()
        return content


async def test_a_server_runs_in_a_task() -> None:
    server = server_of(Application())
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    assert await asyncio.to_thread(get, server) == b"hello"
    server.should_exit = True
    await task


def test_a_server_runs_in_a_thread() -> None:
    started = threading.Event()

    class ThreadedServer(uvicorn.Server):
        def install_signal_handlers(self) -> None:
            pass

        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            started.set()

    server = ThreadedServer(uvicorn.Config(Application(), port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(30)
    try:
        assert get(server) == b"hello"
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


async def test_a_server_is_run_step_by_step() -> None:
    app = Application()
    server = server_of(app)
    await server.startup()
    assert server.started
    assert await asyncio.to_thread(get, server) == b"hello"
    main_loop = asyncio.create_task(server.main_loop())
    server.should_exit = True
    await main_loop
    await server.shutdown()
    assert not server.started
    assert app.events == ["startup", "shutdown"]


async def test_sockets_may_be_given() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        server = server_of(Application())
        await server.startup(sockets=[listening])
        assert server.servers[0].sockets[0].getsockname()[1] == port
        await server.shutdown()


async def test_a_server_that_is_cancelled_shuts_its_application_down() -> None:
    app = Application()
    server = server_of(app)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.events == ["startup", "shutdown"]


async def test_a_server_that_is_cancelled_while_it_starts_leaves_no_task() -> None:
    class Starting(Application):
        async def startup(self) -> None:
            await super().startup()
            await asyncio.Event().wait()

    app = Starting()
    task = asyncio.create_task(server_of(app).serve())
    await until(lambda: app.events)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_startup_that_fails_leaves_nothing_open(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Application):
        async def startup(self) -> None:
            raise RuntimeError("no database")

    server = server_of(Failing())
    with caplog.at_level(logging.CRITICAL), pytest.raises(StartupError):
        await server.serve()
    assert not server.servers
    assert not server.started
