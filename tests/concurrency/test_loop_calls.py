"""`LoopCalls` by itself."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tests.helpers import settle
from uvicorn.concurrency.loop_calls import LoopCalls
from uvicorn.errors import ClientDisconnected

pytestmark = pytest.mark.any_loop


async def test_calls_that_a_thread_posts_run_in_order_on_the_thread_of_the_event_loop() -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    made: list[tuple[int, int]] = []

    def post(number: int) -> None:
        calls.post(lambda: made.append((number, threading.get_ident())))

    thread = threading.Thread(target=lambda: [post(number) for number in range(3)])
    thread.start()
    thread.join()
    await settle()
    assert made == [(number, threading.get_ident()) for number in range(3)]


async def test_call_that_a_loop_call_posts_runs_in_a_later_loop_iteration() -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    made: list[str] = []

    def first() -> None:
        calls.post(lambda: made.append("second"))
        made.append("first")

    calls.post(first)
    calls.flush()
    assert made == ["first"]
    await settle()
    assert made == ["first", "second"]


async def test_loop_call_that_raises_does_not_prevent_the_next_call() -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: None)
    calls = LoopCalls(loop)
    made: list[str] = []

    def fail() -> None:
        raise ValueError

    calls.post(fail)
    calls.post(lambda: made.append("next"))
    await settle()
    assert made == ["next"]


async def test_flushing_within_a_loop_call_runs_each_remaining_call_once() -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    made: list[str] = []
    calls.post(calls.flush)
    calls.post(lambda: made.append("later"))
    await settle()
    assert made == ["later"]


async def test_posting_a_call_to_a_closed_event_loop_returns_false() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert not LoopCalls(loop).post(lambda: None)


async def test_call_returns_the_result_from_the_thread_of_the_event_loop() -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    assert await asyncio.to_thread(calls.call, threading.get_ident) == threading.get_ident()


async def test_call_raises_the_exception_of_its_function() -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(calls.call, lambda: 1 // 0)


def test_call_to_a_closed_event_loop_raises_client_disconnected() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(ClientDisconnected):
        LoopCalls(loop).call(int)
