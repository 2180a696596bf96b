"""Subclasses of `Server` in other programs, and the attributes that they use."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import uvicorn
from tests.helpers import hello


def config(**options: Any) -> uvicorn.Config:
    return uvicorn.Config(hello, port=0, log_config=None, **options)


async def test_overridden_method_on_tick_is_called_until_it_returns_True() -> None:
    counters: list[int] = []

    class Ticking(uvicorn.Server):
        async def on_tick(self, counter: int) -> bool:
            counters.append(counter)
            return await super().on_tick(counter) or counter == 2

    await Ticking(config()).serve()
    assert counters == [0, 1, 2]


async def test_server_stops_if_the_overridden_method_on_tick_sets_should_exit() -> None:
    class Ticking(uvicorn.Server):
        async def on_tick(self, counter: int) -> bool:
            self.should_exit = True
            return False

    server = Ticking(config())
    await server.serve()
    assert server.should_exit


async def test_overridden_main_loop_may_call_the_method_on_tick() -> None:
    class Looping(uvicorn.Server):
        async def main_loop(self) -> None:
            assert not await self.on_tick(0)
            self.should_exit = True
            assert await self.on_tick(1)

    server = Looping(config())
    await server.serve()
    assert server.should_exit


async def test_overridden_startup_and_shutdown_methods_are_called_with_the_sockets() -> None:
    calls: list[tuple[str, Any]] = []

    class Stepping(uvicorn.Server):
        async def startup(self, sockets: Any) -> None:  # type: ignore[override]
            calls.append(("startup", sockets))
            await super().startup(sockets=sockets)
            self.should_exit = True

        async def shutdown(self, sockets: Any) -> None:  # type: ignore[override]
            calls.append(("shutdown", sockets))
            await super().shutdown(sockets=sockets)

    made = config()
    sockets = made.open_sockets()
    await Stepping(made).serve(sockets=sockets)
    assert calls == [("startup", sockets), ("shutdown", sockets)]


async def test_server_records_the_time_of_the_last_notify_callback() -> None:
    server: uvicorn.Server

    async def notify() -> None:
        server.should_exit = True

    server = uvicorn.Server(config(callback_notify=notify))
    before = server.last_notified
    await server.serve()
    assert (before, server.last_notified > 0) == (0, True)


@pytest.mark.any_loop
async def test_server_uses_a_setting_that_is_changed_after_the_server_is_created() -> None:
    made = config()
    server = uvicorn.Server(made)
    made.server_header = False

    sockets = made.open_sockets()
    address = sockets[0].getsockname()
    serving = asyncio.create_task(server.serve(sockets))
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    server.should_exit = True
    await serving
    assert b"server:" not in answer.lower()
