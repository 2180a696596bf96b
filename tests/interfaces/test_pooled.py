"""Applications on threads: full pools, executors of the user's own, and the way back to the loop."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from tests import wsgi_apps
from tests.helpers import GET, Conversation, until
from tests.interfaces.wsgi_conversations import asking, response_of
from uvicorn.adapters import ASGIAdapter
from uvicorn.interfaces.pooled import Outbox
from uvicorn.interfaces.worker_pool import WorkerPool
from uvicorn.settings import Settings


async def test_C9_beyond_the_queue_requests_are_503_with_retry_after() -> None:
    release = threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        release.wait()
        start_response("200 OK", [])
        return []

    conversation = Conversation(app, threads=1, thread_queue=1)
    others = [conversation.connect() for _ in range(2)]
    conversation.send(GET)
    for connection, _ in others:
        connection.data_received(GET)
    await until(lambda: others[1][1].writes)
    assert others[1][1].writes[0].startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in others[1][1].writes[0]
    release.set()
    await until(lambda: conversation.received and others[0][1].writes)
    await conversation.interface.shutdown(1)


async def test_the_users_own_executor_is_used() -> None:
    names: list[str] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        names.append(threading.current_thread().name)
        start_response("200 OK", [])
        return []

    with ThreadPoolExecutor(thread_name_prefix="mine") as executor:
        conversation = Conversation(ASGIAdapter(app, executor=executor))
        conversation.send(GET)
        await until(lambda: conversation.received)
        await conversation.interface.shutdown(1)
    assert names[0].startswith("mine")


async def test_shutdown_does_not_wait_for_ever() -> None:
    release = threading.Event()
    conversation = Conversation(lambda environ, start_response: release.wait(), interface="wsgi")
    conversation.send(GET)
    await conversation.interface.shutdown(0)
    await conversation.lose()
    release.set()


class Full(Executor):
    """An executor of the user's that takes nothing."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        raise BlockingIOError("full")


async def test_an_executor_that_refuses_is_503(caplog: pytest.LogCaptureFixture) -> None:
    response = await response_of(GET, app=ASGIAdapter(wsgi_apps.app, executor=Full()))
    assert response.status == 503
    assert "the executor takes no call: BlockingIOError('full')" in caplog.text


async def test_an_executor_that_was_shut_down_is_503() -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    assert (await response_of(GET, app=ASGIAdapter(wsgi_apps.app, executor=executor))).status == 503


async def test_calls_that_an_executor_cancels_are_503() -> None:
    begun, release = threading.Event(), threading.Event()
    executor = ThreadPoolExecutor(1)
    executor.submit(lambda: begun.set() or release.wait())  # type: ignore[func-returns-value]
    begun.wait()
    conversation = Conversation(ASGIAdapter(wsgi_apps.app, executor=executor))
    conversation.send(GET)
    executor.shutdown(wait=False, cancel_futures=True)
    await until(lambda: conversation.received)
    assert conversation.statuses == [503]
    release.set()
    executor.shutdown()


async def test_a_worker_pool_may_be_the_users_own() -> None:
    with WorkerPool(threads=1) as pool:
        assert (await response_of(GET, app=ASGIAdapter(wsgi_apps.app, executor=pool))).content == b"Hello"


async def test_a_message_that_fails_does_not_hold_up_those_behind_it() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, report: reports.append(report["exception"]))
    done: list[int] = []
    outbox.post(lambda: 1 / 0)  # type: ignore[arg-type]
    outbox.post(lambda: done.append(1))
    await until(lambda: done)
    assert isinstance(reports[0], ZeroDivisionError)


async def test_messages_without_end_leave_others_their_turn() -> None:
    outbox = Outbox(asyncio.get_running_loop())
    turns = 0

    def again() -> None:
        nonlocal turns
        turns += 1
        if turns < 1000:
            outbox.post(again)

    outbox.post(again)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert turns < 1000
    await until(lambda: turns == 1000)


def test_one_interface_serves_on_several_loops_at_a_time() -> None:
    adapter = ASGIAdapter(wsgi_apps.app, threads=4)
    interface = adapter.__uvicorn_interface__(Settings())
    answers: list[bytes] = []

    async def serve() -> None:
        for _ in range(20):
            conversation = Conversation(interface.app, interface="wsgi")
            conversation.context.interface = interface
            conversation.send(asking("generator"))
            await until(lambda conversation=conversation: conversation.context.requests == 0)  # type: ignore[misc]
            answers.append(conversation.responses()[0].content)
            await conversation.lose()

    threads = [threading.Thread(target=lambda: asyncio.run(serve())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [b"0\n1\n2\n3\n4\n"] * 40
    asyncio.run(interface.shutdown(1))
