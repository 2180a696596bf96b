"""The event loop that adapters share, and its end."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import pytest

from uvicorn.concurrency import loop_thread as module
from uvicorn.concurrency.loop_thread import LoopThread, loop_thread
from uvicorn.concurrency.worker_pool import WorkerPool
from uvicorn.errors import ConfigError


async def the_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def nothing() -> None:
    pass


async def hanging() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("name", "question"), [("gevent", "is_module_patched"), ("eventlet", "is_monkey_patched")])
def test_loop_thread_with_monkey_patched_threads_raises_config_error(
    name: str, question: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop_thread().stop()
    monkeypatch.setitem(sys.modules, module.PATCHERS[name][0], SimpleNamespace(**{question: lambda patched: True}))
    with pytest.raises(ConfigError, match=f"{name} has replaced the threads of this process, but"):
        loop_thread()
    monkeypatch.setitem(sys.modules, module.PATCHERS[name][0], SimpleNamespace(**{question: lambda patched: False}))
    assert not loop_thread().is_stopped


def test_concurrent_threads_share_one_loop_thread() -> None:
    loop_thread().stop()
    together = threading.Barrier(8)
    found: list[LoopThread] = []

    def ask() -> None:
        together.wait(30)
        found.append(loop_thread())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == 8
    assert len(set(found)) == 1


def test_loop_thread_is_current_only_for_code_that_runs_on_it() -> None:
    thread = LoopThread()

    async def is_current() -> bool:
        return thread.is_current

    assert thread.calls.start(is_current).result(30)
    assert not thread.is_current
    thread.stop()


def test_loop_thread_runs_without_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    thread = LoopThread()
    assert "uvloop" not in type(thread.calls.start(the_loop).result(30)).__module__
    thread.stop()


@pytest.fixture(params=[True, False], ids=["eventfd", "without eventfd"])
def thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopThread]:
    """With each of the ways to wake it."""
    if not request.param:
        monkeypatch.setattr(module, "HAS_EVENTFD", False)
    thread = LoopThread()
    yield thread
    thread.stop()


def run_all(thread: LoopThread) -> None:
    """Return when it has called all that was posted before."""
    done = threading.Event()
    thread.post(done.set)
    assert done.wait(30)


def test_callbacks_posted_to_the_loop_thread_are_called_in_order(thread: LoopThread) -> None:
    called: list[int] = []
    for number in range(1000):
        thread.post(partial(called.append, number))
    run_all(thread)
    assert called == list(range(1000))


def test_loop_thread_calls_every_callback_that_many_threads_post(thread: LoopThread) -> None:
    called: list[int] = []

    def post() -> None:
        for number in range(1000):
            thread.post(partial(called.append, number))

    posting = [threading.Thread(target=post) for _ in range(8)]
    for one in posting:
        one.start()
    for one in posting:
        one.join(30)
    run_all(thread)
    assert len(called) == 8000


def test_system_exit_in_a_callback_does_not_prevent_the_next_callback(thread: LoopThread) -> None:
    begun, both_posted, called = threading.Event(), threading.Event(), threading.Event()

    def hold_up() -> None:
        begun.set()
        both_posted.wait(30)

    def leave() -> None:
        raise SystemExit

    thread.post(hold_up)
    assert begun.wait(30)
    thread.post(leave)
    thread.post(called.set)
    both_posted.set()
    assert called.wait(30)


def test_posting_to_a_stopped_loop_thread_raises(thread: LoopThread) -> None:
    thread.stop()
    with pytest.raises(RuntimeError, match="the event loop has stopped"):
        thread.post(int)


def test_loop_thread_calls_posted_callbacks_before_it_stops(thread: LoopThread) -> None:
    called = threading.Event()

    def stop_and_post() -> None:
        thread.post(called.set)
        thread._end()

    thread.post(stop_and_post)
    thread._thread.join(30)
    assert called.is_set()


def test_loop_thread_cancels_running_tasks_when_it_stops() -> None:
    thread = LoopThread()
    running = thread.calls.start(hanging)
    thread.stop()
    assert running.cancelled()


@pytest.mark.parametrize("method", ["call", "run", "wait"])
def test_cancelled_task_can_wait_for_a_thread_that_calls_the_loop_thread(method: str) -> None:
    thread = LoopThread()
    pool = WorkerPool(1)
    served: list[object] = []

    async def served_on_the_loop() -> None:
        served.append(method)

    def serve() -> object:
        return served.append(method) if method == "call" else served_on_the_loop()

    async def task() -> None:
        try:
            await hanging()
        finally:
            await asyncio.wrap_future(pool.submit(getattr(thread.calls, method), serve))

    thread.calls.start(task)
    thread.stop()
    pool.shutdown(wait=False)
    assert served == [method]


def test_failing_stop_hook_does_not_prevent_the_next_stop_hook(caplog: pytest.LogCaptureFixture) -> None:
    thread = LoopThread()
    ran: list[bool] = []

    async def fail() -> None:
        raise ValueError("no")

    async def note() -> None:
        ran.append(True)

    thread.at_stop(fail)
    thread.at_stop(note)
    thread.stop()
    assert ran
    assert "exception in the application's shutdown" in caplog.text


def test_loop_thread_ends_although_a_stop_hook_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.05)
    thread = LoopThread()
    thread.at_stop(hanging)
    thread.stop()
    thread._thread.join(30)
    assert thread.loop.is_closed()
    assert "the application's shutdown was cancelled after" in caplog.text


def test_loop_thread_continues_after_SystemExit_in_a_task() -> None:
    thread = LoopThread()

    async def leave() -> None:
        raise SystemExit(3)

    assert isinstance(thread.calls.start(leave).exception(30), SystemExit)
    assert thread.calls.start(the_loop).result(30) is thread.loop
    thread.stop()


def test_loop_thread_logs_the_exception_of_a_callback(thread: LoopThread, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("a bug")

    thread.post(fail)
    run_all(thread)
    assert [record.name for record in caplog.records] == ["asyncio"]
