"""How a WSGI application takes the connection of a handshake over (rules W1 to W9)."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests import wsgi_apps
from tests.helpers import Conversation, FakeTransport, settle, until
from tests.interfaces.test_wsgi_websocket import echo
from tests.interfaces.wsgi_websockets import Call, Site, opened
from uvicorn.adapters import ASGIAdapter
from uvicorn.errors import ClientDisconnected
from uvicorn.interfaces.wsgi_websocket import WSGIWebSocket

HANDSHAKE = (
    b"GET /chat HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def ignore(websocket: WSGIWebSocket) -> None:
    pass


async def response_to(request: bytes, app: Callable[..., Any], **settings: Any) -> bytes:
    conversation = Conversation(app, **settings)
    conversation.send(request)
    await until(lambda: conversation.context.requests == 0)
    received = conversation.received
    await conversation.lose()
    await conversation.interface.shutdown(1)
    return received


# What is not taken over


async def test_W3_http_response_to_a_handshake_is_the_same_if_websockets_are_off() -> None:
    served = await response_to(HANDSHAKE, Call(ignore), date_header=False)
    assert served == await response_to(HANDSHAKE, Call(ignore), date_header=False, ws=False)
    assert served.endswith(b"ordinary")


async def test_W3_half_closed_client_gets_the_ordinary_response_to_its_handshake() -> None:
    proceed = threading.Event()
    conversation = Conversation(Call(lambda websocket: proceed.wait()))
    conversation.send(HANDSHAKE)
    conversation.send_eof()
    proceed.set()
    await until(lambda: conversation.context.requests == 0)
    assert conversation.statuses == [200]
    await conversation.interface.shutdown(1)


async def test_websocket_accept_raises_ClientDisconnected_for_a_half_closed_client() -> None:
    closed = threading.Event()

    def serve(websocket: WSGIWebSocket) -> None:
        closed.wait()
        websocket.accept()

    call = Call(serve)
    conversation = Conversation(call)
    conversation.send(HANDSHAKE)
    conversation.send_eof()
    closed.set()
    await until(lambda: conversation.context.requests == 0)
    assert (type(call.error), conversation.statuses) == (ClientDisconnected, [400])
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize(
    ("request_bytes", "settings"),
    [
        (HANDSHAKE.replace(b"Version: 13", b"Version: 8"), {}),
        (HANDSHAKE.replace(b"GET", b"POST"), {}),
        (b"GET /chat HTTP/1.1\r\nHost: example.org\r\n\r\n", {}),
        (HANDSHAKE, {"ws": False}),
        (HANDSHAKE, {"ws_threads": 0}),
    ],
    ids=["other version", "POST", "no upgrade", "--ws none", "--ws-threads 0"],
)
async def test_W1_environ_has_no_websocket_if_the_server_cannot_accept_it(
    request_bytes: bytes, settings: dict[str, Any]
) -> None:
    environs: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environs.append(environ)
        start_response("204 No Content", [])
        return []

    await response_to(request_bytes, app, **settings)
    assert "uvicorn.websocket" not in environs[0]


async def test_W6_wsgi_application_gets_no_websocket_if_its_adapter_has_a_custom_executor() -> None:
    # No thread of it can be replaced.
    call = Call(ignore)
    with ThreadPoolExecutor(1) as executor:
        await response_to(HANDSHAKE, ASGIAdapter(call, executor=executor))
    assert not call.thread


async def test_W3_wsgi_write_answers_a_handshake_with_an_ordinary_response() -> None:
    response = await response_to(HANDSHAKE, wsgi_apps.write)
    assert response.startswith(b"HTTP/1.1 200 ")


# What the application returns or raises after the takeover


def generated() -> Iterator[bytes]:
    raise AssertionError("a response that is not sent is not iterated")
    yield b""


@pytest.mark.parametrize("content", [[b"late"], [], ["no bytes"], None, generated()])
async def test_W2_websocket_closes_with_1000_when_the_wsgi_application_returns(
    content: Any, caplog: pytest.LogCaptureFixture
) -> None:
    site = await opened(Call(lambda websocket: websocket.accept(), content))
    assert await site.close_frame() == 1000
    assert b"late" not in site.received
    assert caplog.text == ""
    await site.end()


async def test_W2_close_method_of_the_wsgi_iterable_is_called_after_a_websocket() -> None:
    class Response(list[bytes]):
        has_closed = False

        def close(self) -> None:
            self.has_closed = True

    response = Response()
    site = await opened(Call(lambda websocket: websocket.accept(), response))
    assert await site.close_frame() == 1000
    assert response.has_closed
    await site.end()


async def test_W2_websocket_closes_with_1011_if_the_wsgi_application_sends_500() -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["uvicorn.websocket"].accept()
        write = start_response("500 Internal Server Error", [("Content-Length", "4")])
        write(b"late")
        start_response("500 Internal Server Error", [])
        return []

    site = await opened(app)
    assert await site.close_frame() == 1011
    assert b"late" not in site.received
    await site.end()


def stop(websocket: WSGIWebSocket) -> None:
    websocket.accept()
    raise StopIteration


async def test_W2_StopIteration_in_a_wsgi_websocket_handler_closes_with_1000(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = await opened(Call(stop))
    assert await site.close_frame() == 1000
    assert caplog.text == ""
    await site.end()


@pytest.mark.parametrize("error", [ValueError("wrong"), SystemExit(3), OSError("no file")])
async def test_W2_exception_in_a_wsgi_websocket_handler_closes_with_1011(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        raise error

    site = await opened(Call(serve))
    assert await site.close_frame() == 1011
    assert [(record.levelname, record.exc_info is not None) for record in caplog.records] == [("ERROR", True)]
    await site.end()


async def test_W2_exception_that_a_handler_raises_after_a_disconnect_is_logged_at_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "uvicorn.app")

    def serve(websocket: WSGIWebSocket) -> None:
        for _ in websocket:
            pass
        raise ConnectionError("as of engineio")

    site = await opened(Call(serve))
    await site.answer()
    await site.lose()
    await until(lambda: caplog.records)
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    await site.end()


async def test_W2_exception_after_close_does_not_change_the_close_code(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        websocket.close(3001)
        raise ValueError("wrong")

    site = await opened(Call(serve))
    assert await site.close_frame() == 3001
    await until(lambda: caplog.records)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    await site.end()


async def test_W2_wsgi_generator_that_yields_after_a_websocket_send_is_closed() -> None:
    steps: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        try:
            environ["uvicorn.websocket"].send("taken")
            start_response("200 OK", [])
            yield b"late"
            steps.append("went on")
        finally:
            steps.append("closed")

    site = await opened(app)
    assert await site.close_frame() == 1000
    assert (site.heard, steps) == (["taken"], ["closed"])
    await site.end()


async def test_W2_wsgi_websocket_has_one_access_log_line_with_status_101() -> None:
    lines: list[tuple[int, str]] = []
    site = Site(Call(echo))
    site.context.response_clock = site.clock.monotonic
    site.context.access_log = lambda exchange, sent, seconds, outcome: lines.append((exchange.status, outcome))
    await site.open()
    await site.answer()
    await site.lose()
    await site.interface.shutdown(30)
    assert lines == [(101, "")]


async def test_wsgi_websocket_is_freed_without_the_garbage_collector() -> None:
    freed: list[weakref.ref[Any]] = []

    class Marker:
        pass

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["marker"] = marker = Marker()
        freed.append(weakref.ref(marker))
        echo(environ["uvicorn.websocket"])
        return []

    gc.disable()
    try:
        site = await opened(app)
        await site.answer()
        await site.say("x")
        await site.hears()
        await site.end()
        await until(lambda: freed[0]() is None)
    finally:
        gc.enable()


# Origin


async def test_W4_wsgi_websocket_from_a_foreign_origin_gets_403(caplog: pytest.LogCaptureFixture) -> None:
    call = Call(echo)
    site = await opened(call, origin="http://evil.example")
    assert await site.answer() == 403
    await until(call.has_ended.is_set)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "--ws-allowed-origins" in caplog.text
    assert site.context.ws_threads.count == 0
    await site.end()


async def test_W4_use_of_a_rejected_websocket_raises_ClientDisconnected() -> None:
    errors: list[str] = []

    def serve(websocket: WSGIWebSocket) -> None:
        for act in (websocket.accept, websocket.receive, lambda: websocket.send("x")):
            try:
                act()
            except ClientDisconnected as error:
                errors.append(str(error))
        websocket.close()

    call = Call(serve)
    site = await opened(call, origin="http://evil.example")
    assert await site.answer() == 403
    await until(call.has_ended.is_set)
    assert len(errors) == 3
    assert "rejected" in errors[0]
    assert call.error is None
    await site.end()


async def test_W4_wsgi_application_may_skip_start_response_after_a_403(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return list(environ["uvicorn.websocket"])

    caplog.set_level(logging.DEBUG, "uvicorn.app")
    site = await opened(app, origin="http://evil.example")
    assert await site.answer() == 403
    await site.end()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_wsgi_application_may_skip_start_response_after_a_disconnect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        websocket = environ["uvicorn.websocket"]
        half_closed.wait()
        return list(websocket)

    half_closed = threading.Event()
    caplog.set_level(logging.INFO, "uvicorn.app")
    site = await opened(app)
    site.send_eof()
    half_closed.set()
    assert await site.answer() == 400
    assert [record.levelname for record in caplog.records] == ["INFO"]
    await site.end()


async def test_W4_exception_after_a_rejected_origin_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "uvicorn.app")
    site = await opened(Call(lambda websocket: websocket.receive()), origin="http://evil.example")
    assert await site.answer() == 403
    await until(lambda: len(caplog.records) == 2)
    assert [record.levelname for record in caplog.records] == ["WARNING", "DEBUG"]
    await site.end()


async def test_W4_page_of_an_allowed_origin_opens_a_websocket() -> None:
    site = await opened(Call(echo), origin="http://other.example", ws_allowed_origins="http://other.example")
    assert await site.answer() == 101
    await site.end()


async def test_W4_handshake_from_a_foreign_origin_may_get_an_ordinary_response() -> None:
    site = await opened(Call(ignore), origin="http://evil.example")
    assert await site.answer() == 200
    await site.end()


# Threads


async def test_W6_websocket_occupies_no_thread_of_the_pool() -> None:
    call = Call(echo)
    site = await opened(call, threads=1)
    assert await site.answer() == 101
    http, transport = site.connect()
    http.data_received(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
    await until(lambda: transport.writes)
    assert transport.writes[0].startswith(b"HTTP/1.1 200 ")
    await site.end()


async def answered_handshake(site: Site) -> FakeTransport:
    """A handshake on another connection, with the first write of the response."""
    http, transport = site.connect()
    http.data_received(HANDSHAKE)
    await until(lambda: transport.writes)
    return transport


async def test_W6_handshake_gets_503_until_a_websocket_thread_is_free(caplog: pytest.LogCaptureFixture) -> None:
    call = Call(echo)
    site = await opened(call, ws_threads=1)
    assert await site.answer() == 101
    transport = await answered_handshake(site)
    assert transport.writes[0].startswith(b"HTTP/1.1 503 ")
    assert "raise --ws-threads" in caplog.text
    assert (site.context.ws_threads.count, site.context.ws_threads.refused) == (1, 1)
    await site.lose()
    await until(lambda: site.context.ws_threads.count == 0)
    transport = await answered_handshake(site)
    assert transport.writes[0].startswith(b"HTTP/1.1 101 ")
    transport.reset()
    await site.interface.shutdown(30)


async def test_W6_handshake_gets_503_if_the_client_has_too_many_websocket_threads(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = await opened(Call(echo), threads=2, threads_per_client=1, ws_threads=2)
    assert await site.answer() == 101
    transport = await answered_handshake(site)
    assert transport.writes[0].startswith(b"HTTP/1.1 503 ")
    assert "raise --threads-per-client or --ws-threads" in caplog.text
    await site.end()


async def test_W6_thread_of_a_websocket_is_busy_until_its_handler_ends() -> None:
    proceed = threading.Event()

    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        proceed.wait()

    call = Call(serve)
    site = await opened(call)
    assert await site.answer() == 101
    await site.lose()
    assert site.context.ws_threads.count == 1
    proceed.set()
    await until(lambda: site.context.ws_threads.count == 0)
    await site.end()


async def test_W6_accept_on_a_second_thread_detaches_the_worker_thread_from_its_pool() -> None:
    def serve(websocket: WSGIWebSocket) -> None:
        taking = threading.Thread(target=websocket.accept)
        taking.start()
        taking.join()
        websocket.receive()

    site = await opened(Call(serve), threads=1)
    assert await site.answer() == 101
    assert site.interface.executor.detached == 1  # type: ignore[attr-defined]
    await site.end()


@pytest.mark.parametrize("content", [(b"ordinary",), {b"ordi": 1, b"nary": 2}], ids=["whole", "pieces"])
async def test_accept_on_a_second_thread_during_the_response_succeeds_or_raises(
    caplog: pytest.LogCaptureFixture, content: Any
) -> None:
    refused: list[ClientDisconnected] = []

    def accept(websocket: WSGIWebSocket) -> None:
        try:
            websocket.accept()
        except ClientDisconnected as error:
            refused.append(error)

    def serve(websocket: WSGIWebSocket) -> None:
        taking = threading.Thread(target=accept, args=(websocket,))
        threads.append(taking)
        taking.start()

    for _ in range(20):
        threads: list[threading.Thread] = []
        refused.clear()
        site = await opened(Call(serve, content))
        status = await site.answer()
        await until(lambda: not threads[0].is_alive())  # noqa: B023
        assert status == (200 if refused else 101)
        if status == 101:
            assert await site.close_frame() == 1000
        await site.end()
    assert not caplog.records


async def test_W6_accept_after_the_response_leaves_every_worker_thread_in_its_pool() -> None:
    kept: list[WSGIWebSocket] = []
    site = await opened(Call(kept.append), threads=1)
    assert await site.answer() == 200
    with pytest.raises(ClientDisconnected, match="has responded"):
        await asyncio.to_thread(kept[0].accept)
    assert site.interface.executor.detached == 0  # type: ignore[attr-defined]
    await site.end()


async def test_wsgi_websocket_does_not_count_towards_the_thread_limit_of_a_client() -> None:
    site = await opened(Call(echo), threads_per_client=1)
    assert await site.answer() == 101
    http, transport = site.connect()
    http.data_received(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
    await until(lambda: transport.writes)
    assert transport.writes[0].startswith(b"HTTP/1.1 200 ")
    await site.lose()
    await until(lambda: site.context.ws_threads.count == 0)
    # Not twice: the share is one call at a time as before.
    shares = site.interface._shares  # type: ignore[attr-defined]
    assert shares._taken == {}
    await site.end()


async def test_W6_handshake_gets_503_when_no_file_descriptor_is_free(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError(errno.EMFILE, "too many open files")

    call = Call(lambda websocket: websocket._takeover.take(fail))
    site = await opened(call)
    assert await site.answer() == 503
    await until(lambda: caplog.records)
    assert isinstance(call.error, OSError)
    await site.end()


# The end of the server


async def test_W7_websocket_receive_raises_with_1012_when_the_server_stops() -> None:
    call = Call(lambda websocket: websocket.receive())
    site = await opened(call)
    assert await site.answer() == 101
    site.transport.protocol.stop()
    assert await site.close_frame() == 1012
    await until(call.has_ended.is_set)
    assert isinstance(call.error, ClientDisconnected)
    assert call.error.code == 1012
    await site.end()


async def test_W7_shutdown_waits_for_a_handler_until_the_disconnect_timeout() -> None:
    release = threading.Event()

    def serve(websocket: WSGIWebSocket) -> None:
        websocket.accept()
        release.wait()

    site = await opened(Call(serve), timeout_disconnect=0)
    assert await site.answer() == 101
    await site.lose()
    # Without this rule the shutdown would take an hour.
    await site.interface.shutdown(3600)
    assert site.interface.executor.detached == 1  # type: ignore[attr-defined]
    release.set()
    await until(lambda: not site.interface.executor.detached)  # type: ignore[attr-defined]


async def test_W7_shutdown_waits_until_websocket_handlers_have_ended() -> None:
    call = Call(echo)
    site = await opened(call)
    assert await site.answer() == 101
    await site.lose()
    await site.interface.shutdown(3600)
    assert site.interface.executor.detached == 0  # type: ignore[attr-defined]


async def test_websocket_accept_raises_ClientDisconnected_after_a_disconnect() -> None:
    gone = threading.Event()

    def serve(websocket: WSGIWebSocket) -> None:
        gone.wait()
        websocket.accept()

    call = Call(serve)
    site = await opened(call)
    await site.lose()
    await settle()
    gone.set()
    await until(call.has_ended.is_set)
    assert isinstance(call.error, ClientDisconnected)
    assert site.context.ws_threads.count == 0
    await site.interface.shutdown(30)


async def test_frame_sent_together_with_the_handshake_is_the_first_message() -> None:
    call = Call(lambda websocket: websocket.receive())
    conversation = Conversation(call)
    # "hi" in one frame, masked with zeros.
    conversation.send(HANDSHAKE + b"\x81\x82\0\0\0\0hi")
    await until(call.has_ended.is_set)
    assert call.returned == "hi"
    await conversation.lose()
    await conversation.interface.shutdown(30)
