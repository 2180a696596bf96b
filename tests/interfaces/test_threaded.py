"""What interfaces with workers have in common, where no other test needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests import wsgi_apps
from tests.helpers import GET, Conversation, settle
from uvicorn.adapters import ASGIAdapter
from uvicorn.interfaces import threaded as pooled
from uvicorn.interfaces.wsgi import WSGIInterface
from uvicorn.settings import Settings


def test_interface_ends_its_worker_threads_without_an_event_loop() -> None:
    interface = WSGIInterface(wsgi_apps.app, Settings())
    pool = interface._own_pool
    assert pool is not None
    begun, release = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        release.wait(30)

    pool.submit(work)
    assert begun.wait(30)
    threading.Timer(0.05, release.set).start()
    interface.end_workers()
    assert pool.alive == 0


def test_interface_stops_waiting_for_a_blocked_worker_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "_CLOSE_SECONDS", 0.02)
    interface = WSGIInterface(wsgi_apps.app, Settings())
    pool = interface._own_pool
    assert pool is not None
    release = threading.Event()
    pool.submit(release.wait)
    interface.end_workers()
    assert pool.alive == 1
    release.set()


def test_interface_does_not_shut_down_the_executor_of_the_caller() -> None:
    with ThreadPoolExecutor(1) as executor:
        WSGIInterface(wsgi_apps.app, Settings(), executor).end_workers()
        assert executor.submit(abs, -1).result(30) == 1


class FullExecutor(Executor):
    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        raise RuntimeError("no more work")


class CancellingExecutor(Executor):
    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.cancel()
        return future


async def test_adapter_answers_503_if_the_executor_rejects_the_call(caplog: pytest.LogCaptureFixture) -> None:
    conversation = Conversation(ASGIAdapter(wsgi_apps.app, executor=FullExecutor()))
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [503]
    assert "the executor rejected the call" in caplog.text
    await conversation.lose()


async def test_adapter_answers_503_if_the_executor_cancels_the_call() -> None:
    conversation = Conversation(ASGIAdapter(wsgi_apps.app, executor=CancellingExecutor()))
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [503]
    await conversation.lose()
