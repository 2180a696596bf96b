"""How a call of a WSGI application ends, or never begins: clients that leave, full pools, loops that stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from tests import wsgi_apps
from tests.helpers import GET, Conversation, settle, until
from tests.interfaces.wsgi_conversations import WAYS, Kept, app_of, asking, over, response_of
from uvicorn.adapters import ASGIAdapter
from uvicorn.exchange import Endpoint, HTTPExchange, HTTPGateway
from uvicorn.interfaces.worker_pool import WorkerPool
from uvicorn.interfaces.wsgi import ErrorLog, Outbox, WSGICall
from uvicorn.settings import Settings


@pytest.fixture(autouse=True)
def fresh() -> None:
    wsgi_apps.closed.clear()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["closed", "failing", "big"])
async def test_C10_close_is_called_once_however_it_ends(path: str, way: str) -> None:
    await response_of(asking(path), way)
    assert wsgi_apps.closed == [path]


@pytest.mark.parametrize("way", WAYS)
async def test_C10_a_client_that_leaves_stops_an_endless_generator_and_closes_it(way: str) -> None:
    conversation = Conversation(over(wsgi_apps.app, way))
    conversation.transport.client_takes = False
    conversation.send(asking("endless"))
    await until(lambda: conversation.transport.unsent > 65536)
    await conversation.lose()
    await until(lambda: wsgi_apps.closed)
    assert wsgi_apps.closed == ["endless"]
    await conversation.interface.shutdown(1)


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


async def test_a_slow_client_slows_the_application() -> None:
    made = 0

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        nonlocal made
        start_response("200 OK", [])
        for _ in range(100):
            made += 1
            yield b"x" * 65536

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: conversation.transport.unsent > 65536)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert made < 10
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 30)
    await until(lambda: conversation.context.requests == 0)
    assert made == 100
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("way", WAYS)
async def test_C10_close_runs_on_the_thread_that_iterated(way: str) -> None:
    kept = Kept([b"a", b"b"])
    await response_of(GET, way, app_of(kept))
    assert kept.closed == [kept.iterated]
    assert kept.iterated != threading.get_ident()


async def test_C10_a_close_that_fails_is_logged_and_costs_no_response(caplog: pytest.LogCaptureFixture) -> None:
    response = await response_of(GET, app=app_of(Kept([b"a"], fails=True)))
    assert (response.content, response.complete) == (b"a", True)
    assert "close failed" in caplog.text


@pytest.mark.parametrize("way", WAYS)
async def test_C10_a_generator_whose_head_is_refused_stops_and_is_closed(way: str) -> None:
    kept = Kept(wsgi_apps.endless())
    response = await response_of(GET, way, app_of(kept, [("Content-Length", "x")]))
    assert response.status == 500
    await until(lambda: kept.closed)


@pytest.mark.parametrize("way", WAYS)
async def test_C10_a_generator_that_goes_beyond_its_length_stops_and_is_closed(way: str) -> None:
    kept = Kept(wsgi_apps.endless())
    await response_of(GET, way, app_of(kept, [("Content-Length", "1500")]))
    await until(lambda: kept.closed)


async def test_C10_a_call_whose_client_left_before_its_turn_is_not_made() -> None:
    calls: list[str] = []
    release = threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        calls.append(environ["PATH_INFO"])
        release.wait()
        start_response("200 OK", [])
        return []

    conversation = Conversation(app, threads=1)
    other, transport = conversation.connect()
    conversation.send(asking("first"))
    await until(lambda: calls)
    other.data_received(asking("second"))
    transport.abort()
    await asyncio.sleep(0)
    release.set()
    await until(lambda: conversation.received)
    await conversation.interface.shutdown(1)
    assert calls == ["/first"]


@pytest.mark.parametrize("way", ["direct", "messages"])
async def test_calls_that_wait_when_the_pool_is_shut_down_are_answered_with_503(way: str) -> None:
    begun, release = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        begun.set()
        release.wait()
        start_response("200 OK", [])
        return [b"done"]

    wrapped = over(app, way)
    adapter = ASGIAdapter(app, threads=1)

    async def through(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    conversation = Conversation(wrapped if way == "direct" else through, threads=1)
    other, transport = conversation.connect()
    conversation.send(GET)
    await until(begun.is_set)
    other.data_received(GET)
    stopping = asyncio.ensure_future(conversation.interface.shutdown(30) if way == "direct" else adapter.shutdown())
    await until(lambda: transport.writes)
    assert transport.writes[0].startswith(b"HTTP/1.1 503 ")
    release.set()
    await stopping
    await until(lambda: conversation.received)
    assert conversation.responses()[0].content == b"done"
    await conversation.interface.shutdown(1)


async def test_shutdown_waits_for_calls_that_are_closing() -> None:
    kept = Kept(wsgi_apps.endless())
    conversation = Conversation(app_of(kept))
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: conversation.transport.unsent > 65536)
    conversation.transport.abort()
    await conversation.interface.shutdown(0)
    assert len(kept.closed) == 1


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


async def test_a_client_that_left_is_no_fault_of_an_application_that_had_yet_to_begin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, release = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        begun.set()
        release.wait()
        yield b""

    conversation = Conversation(app)
    conversation.send(GET)
    await until(begun.is_set)
    await conversation.lose()
    release.set()
    await conversation.interface.shutdown(1)
    assert caplog.text == ""


async def test_write_after_the_end_of_the_response_raises() -> None:
    writers: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        writers.append(start_response("200 OK", []))
        return [b"x"]

    response = await response_of(GET, app=app)
    with pytest.raises(OSError, match="the response is over"):
        writers[0](b"late")
    assert response.content == b"x"


def test_C10_a_worker_whose_loop_is_gone_is_told_and_closes() -> None:
    loop = asyncio.new_event_loop()
    exchange = HTTPExchange(HTTPGateway(), Endpoint(loop=loop), "GET", b"/", "1.1", [], has_content=False)
    loop.close()
    kept = Kept(wsgi_apps.endless())
    WSGICall(app_of(kept), exchange, {"wsgi.errors": ErrorLog()}, Outbox(loop)).run()
    assert len(kept.closed) == 1


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


async def test_a_call_that_is_cancelled_after_its_client_has_left_is_not_answered() -> None:
    loop = asyncio.get_running_loop()
    exchange = HTTPExchange(HTTPGateway(), Endpoint(loop=loop), "GET", b"/", "1.1", [], has_content=False)
    exchange.disconnect()
    WSGICall(wsgi_apps.app, exchange, {"wsgi.errors": ErrorLog()}, Outbox(loop)).cancel()
    await settle()
    assert exchange.state_name == "CLOSED"


async def test_a_list_that_comes_after_its_client_has_left_is_dropped() -> None:
    begun, release, closed = threading.Event(), threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        begun.set()
        release.wait()
        closed.set()
        return [b"late"]

    conversation = Conversation(app)
    conversation.send(GET)
    await until(begun.is_set)
    await conversation.lose()
    release.set()
    await until(closed.is_set)
    await conversation.interface.shutdown(1)
    assert conversation.received == b""


def test_wsgi_errors_says_that_it_can_be_written() -> None:
    assert ErrorLog().writable()
