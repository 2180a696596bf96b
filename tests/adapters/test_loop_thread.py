"""The event loop that adapters share, and its end."""

from __future__ import annotations

import asyncio
import sys
import threading

import pytest

from uvicorn.adapters import loop_thread as module
from uvicorn.adapters.loop_thread import LoopThread, loop_thread


async def the_loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


async def hanging() -> None:
    await asyncio.Event().wait()


def test_there_is_one_for_all_threads_however_many_ask_at_once() -> None:
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


def test_it_tells_its_own_thread_from_others() -> None:
    thread = LoopThread()

    async def is_current() -> bool:
        return thread.is_current

    assert thread.submit(is_current()).result(30)
    assert not thread.is_current
    thread.stop()


def test_it_runs_without_uvloop_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    thread = LoopThread()
    assert "uvloop" not in type(thread.submit(the_loop()).result(30)).__module__
    thread.stop()


def test_what_still_runs_when_it_stops_is_cancelled() -> None:
    thread = LoopThread()
    running = thread.submit(hanging())
    thread.stop()
    assert running.cancelled()


def test_a_hook_that_fails_keeps_no_other_from_running(caplog: pytest.LogCaptureFixture) -> None:
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
    assert "the application's shutdown failed" in caplog.text


def test_a_hook_that_hangs_does_not_keep_the_process_from_ending(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_STOP_SECONDS", 0.05)
    thread = LoopThread()
    thread.at_stop(hanging)
    thread.stop()
    thread._thread.join(30)
    assert thread.loop.is_closed()
    assert "takes longer than" in caplog.text


def test_a_task_that_exits_ends_itself_and_not_the_loop() -> None:
    thread = LoopThread()

    async def leave() -> None:
        raise SystemExit(3)

    assert isinstance(thread.submit(leave()).exception(30), SystemExit)
    assert thread.submit(the_loop()).result(30) is thread.loop
    thread.stop()
