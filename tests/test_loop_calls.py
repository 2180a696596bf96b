"""`LoopCalls` by itself."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any

import pytest

from tests.forks import exit_code_in_child
from tests.helpers import settle
from tests.waits import LONGEST_WAIT
from uvicorn import loop_calls
from uvicorn.errors import ChannelClosed, ClientDisconnected
from uvicorn.loop_calls import LoopCalls
from uvicorn.server.loops import loop_factory

pytestmark = pytest.mark.any_loop

VARIABLE: ContextVar[str] = ContextVar("variable")


async def test_posted_calls_run_in_order_on_the_event_loop_thread() -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    made: list[tuple[int, int]] = []

    def post(number: int) -> None:
        calls.post(lambda: made.append((number, threading.get_ident())))

    thread = threading.Thread(target=lambda: [post(number) for number in range(3)])
    thread.start()
    thread.join()
    await settle()
    assert made == [(number, threading.get_ident()) for number in range(3)]


async def test_call_posted_by_a_posted_call_runs_in_a_later_loop_iteration() -> None:
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


async def test_call_posted_after_run_soon_runs_although_the_event_loop_is_not_woken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    made: list[str] = []
    wakes: list[LoopCalls] = []
    monkeypatch.setattr(LoopCalls, "wake", lambda calls: wakes.append(calls))
    calls.run_soon()
    calls.post(lambda: made.append("expected"))
    await asyncio.sleep(0)
    assert (made, wakes) == (["expected"], [])
    calls.post(lambda: made.append("unexpected"))
    assert wakes == [calls]


async def test_next_posted_call_runs_after_a_posted_call_has_raised() -> None:
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


async def test_posted_call_that_calls_flush_runs_each_remaining_posted_call_once() -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    made: list[str] = []
    calls.post(calls.flush)
    calls.post(lambda: made.append("later"))
    await settle()
    assert made == ["later"]


async def test_post_to_a_closed_event_loop_returns_False() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    assert not LoopCalls(loop).post(lambda: None)


async def test_function_called_from_another_thread_runs_on_the_event_loop_thread() -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    assert await asyncio.to_thread(calls.call, threading.get_ident) == threading.get_ident()


async def test_thread_gets_the_exception_of_a_function_called_on_the_event_loop() -> None:
    calls = LoopCalls(asyncio.get_running_loop())
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(calls.call, lambda: 1 // 0)


def test_function_call_on_a_closed_event_loop_raises_ClientDisconnected() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(ClientDisconnected):
        LoopCalls(loop).call(int)


async def test_all_threads_get_the_same_LoopCalls_object_for_an_event_loop() -> None:
    loop = asyncio.get_running_loop()
    assert LoopCalls.of(loop) is await asyncio.to_thread(LoopCalls.of, loop)


def test_threads_that_ask_at_the_same_time_get_the_same_LoopCalls_object() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as workers:
            for _ in range(300):
                loop = asyncio.new_event_loop()
                barrier = threading.Barrier(4)
                asking = [workers.submit(lambda: (barrier.wait(), LoopCalls.of(loop))[1]) for _ in range(4)]  # noqa: B023
                found = {id(future.result(LONGEST_WAIT)) for future in asking}
                loop.close()
                assert len(found) == 1
    finally:
        sys.setswitchinterval(interval)


def test_forked_child_gets_a_LoopCalls_object_while_the_parent_holds_the_lock() -> None:
    def child() -> None:
        loop = asyncio.new_event_loop()
        # In a thread of its own, because the lock is reentrant.
        thread = threading.Thread(target=LoopCalls.of, args=(loop,), daemon=True)
        thread.start()
        thread.join(LONGEST_WAIT)
        assert not thread.is_alive()
        loop.close()

    with loop_calls._creating:
        assert exit_code_in_child(child) == 0


async def test_coroutine_that_a_thread_runs_has_the_context_variables_of_the_thread() -> None:
    async def context() -> Any:
        return VARIABLE.get()

    def run() -> Any:
        VARIABLE.set("of the thread")
        return calls.run(context)

    calls = LoopCalls.of(asyncio.get_running_loop())
    assert await asyncio.to_thread(run) == "of the thread"


async def test_thread_gets_the_exception_of_a_coroutine_that_it_runs() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(LoopCalls.of(asyncio.get_running_loop()).run, fail)


# The end of the event loop


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop = loop_factory(request.param)()
    yield loop
    loop.close()


@pytest.fixture
def worker() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as worker:
        yield worker


async def hang() -> None:
    await asyncio.Event().wait()


WAITS: dict[str, tuple[Callable[[LoopCalls], object], object]] = {
    "call": (lambda calls: calls.call(int), ClientDisconnected),
    "run": (lambda calls: calls.run(hang), ChannelClosed),
    "wait": (lambda calls: calls.wait(hang), False),
}


@pytest.mark.parametrize("wait", WAITS)
def test_thread_that_waits_for_a_stopped_loop_wakes_when_the_loop_closes(
    wait: str, loop: asyncio.AbstractEventLoop, worker: ThreadPoolExecutor
) -> None:
    function, expected = WAITS[wait]
    calls = LoopCalls.of(loop)
    loop.run_until_complete(asyncio.sleep(0))
    blocked = threading.Event()
    wakes = calls._wakes = Noting(blocked)
    outcome = worker.submit(outcome_of, function, calls)
    assert blocked.wait(LONGEST_WAIT)
    assert wakes
    loop.close()
    assert outcome.result(LONGEST_WAIT) == expected


@pytest.mark.parametrize("fails_in_coroutine", [False, True])
def test_waiting_thread_wakes_if_its_function_raises(
    fails_in_coroutine: bool, loop: asyncio.AbstractEventLoop, worker: ThreadPoolExecutor
) -> None:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, report: reports.append(report))

    async def fail_later() -> None:
        raise ValueError("fail")

    def fail() -> Any:
        if fails_in_coroutine:
            return fail_later()
        raise ValueError("fail")

    waiting = loop.run_in_executor(worker, LoopCalls.of(loop).wait, fail)
    assert loop.run_until_complete(asyncio.wait_for(waiting, LONGEST_WAIT))
    gc.collect()
    loop.run_until_complete(settle())
    assert [str(report["exception"]) for report in reports] == ["fail"]


@pytest.mark.parametrize("wait", WAITS)
def test_thread_does_not_wait_for_a_loop_that_closed_with_queued_calls(
    wait: str, loop: asyncio.AbstractEventLoop, worker: ThreadPoolExecutor
) -> None:
    function, expected = WAITS[wait]
    calls = LoopCalls.of(loop)
    calls.post(lambda: None)
    loop.close()
    assert worker.submit(outcome_of, function, calls).result(LONGEST_WAIT) == expected


def test_post_to_a_loop_that_closed_with_queued_calls_returns_False(loop: asyncio.AbstractEventLoop) -> None:
    calls = LoopCalls.of(loop)
    assert calls.post(lambda: None)
    loop.close()
    assert not calls.post(lambda: None)


def test_waiting_thread_wakes_when_the_loop_closes_before_the_coroutine_ends(
    loop: asyncio.AbstractEventLoop, worker: ThreadPoolExecutor
) -> None:
    async def stop_the_loop() -> None:
        loop.stop()
        await left

    left = loop.create_future()
    calls = LoopCalls.of(loop)
    outcome = worker.submit(outcome_of, lambda calls: calls.run(stop_the_loop), calls)
    loop.run_forever()
    loop.close()
    assert outcome.result(LONGEST_WAIT) == ChannelClosed
    for task in tuple(calls._tasks):
        # As asyncio reports it when it is freed.
        task._log_destroy_pending = False  # type: ignore[attr-defined]


@pytest.fixture
def collecting() -> Iterator[Callable[[int, Callable[[], object]], None]]:
    """Return a function `start(allocations, function)`. Each garbage collection calls `function`."""
    thresholds = gc.get_threshold()

    def start(allocations: int, function: Callable[[], object]) -> None:
        gc.callbacks.append(lambda phase, info: function())
        gc.collect()
        gc.set_threshold(allocations)

    yield start
    gc.set_threshold(*thresholds)
    gc.callbacks.pop()


@pytest.mark.parametrize("allocations", [1, 2, 3])
def test_end_of_an_event_loop_wakes_threads_while_garbage_collection_removes_others(
    allocations: int,
    loop: asyncio.AbstractEventLoop,
    collecting: Callable[[int, Callable[[], object]], None],
) -> None:
    calls = LoopCalls.of(loop)
    woken: list[int] = []
    # More than 20, because Python does not allocate shorter tuples.
    wakes = [partial(woken.append, number) for number in range(50)]
    calls._wakes.update(wakes)
    collecting(allocations, lambda: len(calls._wakes) > 40 and calls._wakes.pop())
    calls.end()
    assert len(woken) >= 40


def test_event_loop_is_freed_if_it_is_never_closed() -> None:
    gc.collect()
    loop = asyncio.new_event_loop()
    LoopCalls.of(loop)
    loop.run_until_complete(asyncio.sleep(0))
    freed = weakref.ref(loop)
    with pytest.warns(ResourceWarning):
        del loop
        gc.collect()
    assert freed() is None


class Noting(set[Callable[[], object]]):
    """The wake-ups of blocked threads. Sets an event for the first."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def add(self, wake: Callable[[], object]) -> None:
        super().add(wake)
        self._event.set()


def outcome_of(function: Callable[[LoopCalls], object], calls: LoopCalls) -> object:
    """Return the result of `function`, or the type of its exception."""
    try:
        return function(calls)
    except (Exception, asyncio.CancelledError) as error:
        return type(error)
