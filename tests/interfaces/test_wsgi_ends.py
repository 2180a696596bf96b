"""How a call of a WSGI application ends, or never begins: clients that leave, full pools, loops that stop."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests import wsgi_apps
from tests.helpers import GET, ClosingLoop, Conversation, settle, until
from tests.interfaces.wsgi_conversations import WAYS, Kept, app_of, asking, over, response_of
from uvicorn.adapters import ASGIAdapter
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.interfaces.file_wrapper import FileWrapper
from uvicorn.interfaces.wsgi import ErrorLog, WSGICall, WSGIInterface
from uvicorn.loop_calls import LoopCalls
from uvicorn.settings import Settings


@pytest.fixture(autouse=True)
def fresh() -> None:
    wsgi_apps.closed.clear()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["closed", "failing", "big"])
async def test_C10_close_method_of_a_wsgi_iterable_is_called_once(path: str, way: str) -> None:
    await response_of(asking(path), way)
    assert wsgi_apps.closed == [path]


@pytest.mark.parametrize("way", WAYS)
async def test_C10_disconnect_stops_and_closes_an_endless_wsgi_generator(way: str) -> None:
    conversation = Conversation(over(wsgi_apps.app, way))
    conversation.transport.client_takes = False
    conversation.send(asking("endless"))
    await until(lambda: conversation.transport.unsent > 65536)
    await conversation.lose()
    await until(lambda: wsgi_apps.closed)
    assert wsgi_apps.closed == ["endless"]
    await conversation.interface.shutdown(1)


async def test_wsgi_application_waits_for_a_slow_client() -> None:
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
async def test_C10_close_method_of_a_wsgi_iterable_runs_on_the_iterating_thread(way: str) -> None:
    kept = Kept([b"a", b"b"])
    await response_of(GET, way, app_of(kept))
    assert kept.closed == [kept.iterated]
    assert kept.iterated != threading.get_ident()


async def test_C10_exception_in_the_close_method_of_a_wsgi_iterable_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = await response_of(GET, app=app_of(Kept([b"a"], fails=True)))
    assert (response.content, response.complete) == (b"a", True)
    assert "close failed" in caplog.text


@pytest.mark.parametrize("way", WAYS)
async def test_C10_wsgi_generator_is_closed_after_an_invalid_response_head(way: str) -> None:
    kept = Kept(wsgi_apps.endless())
    response = await response_of(GET, way, app_of(kept, [("Content-Length", "x")]))
    assert response.status == 500
    await until(lambda: kept.closed)


@pytest.mark.parametrize("way", WAYS)
async def test_C10_wsgi_generator_that_exceeds_its_content_length_is_closed(way: str) -> None:
    kept = Kept(wsgi_apps.endless())
    await response_of(GET, way, app_of(kept, [("Content-Length", "1500")]))
    await until(lambda: kept.closed)


async def test_C10_wsgi_application_is_not_called_for_a_disconnected_client() -> None:
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
    transport.reset()
    await asyncio.sleep(0)
    release.set()
    await until(lambda: conversation.received)
    await conversation.interface.shutdown(1)
    assert calls == ["/first"]


@pytest.mark.parametrize("way", ["direct", "messages"])
async def test_shutdown_answers_queued_wsgi_requests_with_503(way: str) -> None:
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


async def test_shutdown_waits_for_the_close_method_of_a_wsgi_iterable() -> None:
    kept = Kept(wsgi_apps.endless())
    conversation = Conversation(app_of(kept))
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: conversation.transport.unsent > 65536)
    conversation.transport.reset()
    await conversation.interface.shutdown(0)
    assert len(kept.closed) == 1


async def test_nothing_is_logged_if_a_wsgi_client_disconnects_before_the_response(
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


async def test_wsgi_write_after_the_end_of_the_response_raises() -> None:
    writers: list[Any] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        writers.append(start_response("200 OK", []))
        return [b"x"]

    response = await response_of(GET, app=app)
    with pytest.raises(OSError, match="the response has ended"):
        writers[0](b"late")
    assert response.content == b"x"


def test_C10_wsgi_iterable_is_closed_after_the_event_loop_has_closed() -> None:
    loop = asyncio.new_event_loop()
    exchange = HTTPExchange(HTTPGateway(), Endpoint(loop=loop), "GET", b"/", "1.1", ((), ()), has_content=False)
    loop.close()
    kept = Kept(wsgi_apps.endless())
    WSGICall(WSGIInterface(app_of(kept), Settings()), exchange, {"wsgi.errors": ErrorLog()}, LoopCalls(loop)).run()
    assert len(kept.closed) == 1


def test_C10_wsgi_file_is_closed_if_the_event_loop_closes_before_the_send() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        calls._wakes = ClosingLoop(loop)
        return FileWrapper(file)

    loop = asyncio.new_event_loop()
    calls = LoopCalls(loop)
    exchange = HTTPExchange(SendsFiles(), Endpoint(loop=loop), "GET", b"/", "1.1", ((), ()), has_content=False)
    with tempfile.TemporaryFile() as file:
        file.write(bytes(100_000))
        file.seek(0)
        WSGICall(WSGIInterface(app, Settings()), exchange, {"wsgi.errors": ErrorLog()}, calls).run()
        assert (file.closed, loop.is_closed()) == (True, True)


class SendsFiles(HTTPGateway):
    sends_files = True


async def test_cancelled_wsgi_call_of_a_disconnected_client_sends_nothing() -> None:
    loop = asyncio.get_running_loop()
    exchange = HTTPExchange(HTTPGateway(), Endpoint(loop=loop), "GET", b"/", "1.1", ((), ()), has_content=False)
    exchange.disconnect()
    WSGICall(WSGIInterface(wsgi_apps.app, Settings()), exchange, {"wsgi.errors": ErrorLog()}, LoopCalls(loop)).cancel()
    await settle()
    assert exchange.state.name == "CLOSED"


async def test_wsgi_list_returned_after_a_disconnect_is_dropped() -> None:
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


def test_wsgi_errors_is_writable() -> None:
    assert ErrorLog().writable()
