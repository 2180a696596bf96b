"""Calls of applications on worker threads, and the end of the worker threads."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests import wsgi_apps
from tests.core.test_exchange import RecordingGateway, exchange
from tests.helpers import GET, ClosingLoop, Conversation, settle
from uvicorn.adapters import ASGIAdapter
from uvicorn.core.exchange import HTTPExchange
from uvicorn.interfaces import threaded as pooled
from uvicorn.interfaces.threaded import ThreadCall, refuse
from uvicorn.interfaces.wsgi import WSGIInterface
from uvicorn.loop_calls import LoopCalls
from uvicorn.settings import Settings


def test_interface_can_end_its_worker_threads_when_no_event_loop_runs() -> None:
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


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Call(ThreadCall):
    """Calls `app()`, and records its failures."""

    def __init__(self, made: HTTPExchange, app: Callable[[], Any] = lambda: None) -> None:
        super().__init__(made, LoopCalls(asyncio.get_running_loop()), 1)
        self.app = app
        self.failures: list[BaseException] = []

    def _call_application(self) -> Callable[[], None] | None:
        left: Callable[[], None] | None = self.app()
        return left

    def _on_loop_failed(self, error: BaseException) -> None:
        self.failures.append(error)


class Slow(RecordingGateway):
    """The gateway of a client that takes nothing until `caught_up` is set."""

    write_paused = True

    def __init__(self) -> None:
        super().__init__()
        self.drained = asyncio.Event()
        self.caught_up = asyncio.Event()

    async def drain(self) -> None:
        self.drained.set()
        await self.caught_up.wait()


async def test_application_on_a_thread_sees_the_context_variables_of_its_request() -> None:
    token = VARIABLE.set("of the request")
    seen: list[str] = []
    call = Call(exchange()[0], lambda: seen.append(VARIABLE.get()))
    VARIABLE.reset(token)
    call.run()
    assert seen == ["of the request"]


async def test_system_exit_on_a_worker_thread_fails_the_request() -> None:
    def app() -> None:
        raise SystemExit

    call = Call(exchange()[0], app)
    call.run()
    await asyncio.sleep(0)
    assert [type(error) for error in call.failures] == [SystemExit]


async def test_queued_thread_call_is_skipped_if_its_client_has_disconnected() -> None:
    made, _ = exchange()
    called: list[str] = []
    call = Call(made, lambda: called.append("called"))
    made.on_end(call.on_end)
    made.disconnect()
    call.run()
    assert called == []


async def test_function_that_a_thread_call_returns_runs_on_the_event_loop() -> None:
    done: list[str] = []
    Call(exchange()[0], lambda: lambda: done.append("done")).run()
    assert done == []
    await asyncio.sleep(0)
    assert done == ["done"]


async def test_thread_call_holds_its_thread_until_the_application_returns() -> None:
    held: list[bool] = []
    call = Call(exchange()[0], lambda: held.append(call.holds_thread()))
    call.run()
    assert (held, call.holds_thread()) == ([True], False)


async def test_thread_call_drops_content_after_an_invalid_response() -> None:
    made, gateway = exchange()
    call = Call(made)
    call._on_loop_send((0, b"", ()), b"x", True)
    call._on_loop_send(None, b"more", True)
    assert ([str(error) for error in call.failures], gateway.calls) == (["bad status"], [])


async def test_worker_thread_waits_while_unsent_bytes_exceed_the_high_water_mark() -> None:
    made, _ = exchange()
    made.gateway = gateway = Slow()
    call = Call(made)
    call._sent = call._unsent = call.high_water_bytes + 1
    waiting = asyncio.ensure_future(asyncio.to_thread(call._wait_for_room))
    await gateway.drained.wait()
    assert not waiting.done()
    gateway.caught_up.set()
    await waiting
    assert call._taken == call._sent


async def test_worker_thread_stops_waiting_when_the_event_loop_is_closed() -> None:
    loop = asyncio.new_event_loop()
    call = Call(exchange()[0])
    call._loop_calls = LoopCalls(loop)
    call._sent = call.high_water_bytes + 1
    call._loop_calls._wakes = ClosingLoop(loop)
    call._wait_for_room()
    assert call._over


async def test_request_gets_503_if_its_call_on_a_worker_thread_is_cancelled() -> None:
    made, gateway = exchange()
    Call(made).cancel()
    await asyncio.sleep(0)
    assert gateway.calls == [(503, b"Service Unavailable\n", False)]


def test_disconnected_client_gets_no_503_if_its_call_on_a_worker_thread_is_refused() -> None:
    made, gateway = exchange()
    made.disconnect()
    refuse(made)
    assert gateway.calls == []
