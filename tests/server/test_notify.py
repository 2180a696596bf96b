"""`callback_notify` of a program that embeds the server."""

from __future__ import annotations

import asyncio

import pytest

import uvicorn
from tests.helpers import hello, until
from uvicorn.server.notify import notifying


def nothing() -> None:
    """Ignore a failure."""


async def test_notify_callback_is_called_at_once_and_after_each_interval() -> None:
    calls = 0

    async def callback() -> None:
        nonlocal calls
        calls += 1

    async with notifying(callback, 0.001, nothing):
        await until(lambda: calls >= 3)


async def test_notify_callback_is_not_called_again_while_a_call_runs() -> None:
    calls = 0
    go_on = asyncio.Event()

    async def callback() -> None:
        nonlocal calls
        calls += 1
        await go_on.wait()

    async with notifying(callback, 0, nothing):
        for _ in range(10):
            await asyncio.sleep(0)
        assert calls == 1


async def test_notify_callback_that_never_returns_is_cancelled_at_shutdown() -> None:
    cancelled = False

    async def callback() -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        finally:
            cancelled = True

    async with notifying(callback, 0, nothing):
        await asyncio.sleep(0)
    assert cancelled


async def test_exception_of_the_notify_callback_stops_the_server_and_is_raised() -> None:
    async def callback() -> None:
        raise RuntimeError("the registry is gone")

    server = uvicorn.Server(uvicorn.Config(hello, port=0, log_config=None, callback_notify=callback))
    with pytest.raises(RuntimeError, match="the registry is gone"):
        await server.serve()


async def test_server_calls_the_notify_callback_while_it_serves() -> None:
    called = asyncio.Event()

    async def callback() -> None:
        assert server.started
        called.set()

    server = uvicorn.Server(uvicorn.Config(hello, port=0, log_config=None, callback_notify=callback, timeout_notify=1))
    task = asyncio.create_task(server.serve())
    await called.wait()
    server.should_exit = True
    await task
