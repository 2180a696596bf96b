"""ASGI's HTTP, as its specification's version 2.5 has it."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import POST, chunked, request
from tests.helpers import GET, Conversation, settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn.errors import ClientDisconnected, LocalProtocolError

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
BODY = {"type": "http.response.body", "body": b"hello"}
MORE = {"type": "http.response.body", "body": b"more", "more_body": True}
LAST = {"type": "http.response.body"}
TRAILERS = {"type": "http.response.trailers", "headers": [(b"X-Sum", b"1")]}
START_TRAILERS = {**START, "trailers": True}

#: In place of an event: a wait that only cancelling ends. None is a wait of one turn.
FOR_EVER: Any = object()


class App:
    """Sends the given events; keeps its scopes, and what it has received before and after."""

    def __init__(self, *events: Any, receives: int = 0, receives_after: int = 0) -> None:
        self.events = events or (START, BODY)
        self.scopes: list[Scope] = []
        self.received: list[dict[str, Any]] = []
        self.errors: list[BaseException] = []
        self._receives = (receives, receives_after)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        before, after = self._receives
        for _ in range(before):
            self.received.append(await receive())
        for event in self.events:
            if event is FOR_EVER:
                await asyncio.get_running_loop().create_future()
            elif event is None:
                await asyncio.sleep(0)
            else:
                try:
                    await send(event)
                except Exception as error:
                    self.errors.append(error)
                    raise
        for _ in range(after):
            self.received.append(await receive())


async def answered(app: Any, stream: bytes = GET, **settings: Any) -> Conversation:
    conversation = Conversation(app, **settings)
    conversation.send(stream)
    await settle()
    return conversation


# The scope


async def test_asgi_http_scope_has_every_key_with_its_type() -> None:
    app = App()
    await answered(app, request(b"GET /a%20b?c=%20d HTTP/1.1", b"X-Two: 1", b"x-two: 2"))
    assert app.scopes[0] == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=%20d",
        "root_path": "",
        "headers": [(b"host", b"x"), (b"x-two", b"1"), (b"x-two", b"2")],
        "client": ("127.0.0.1", 51234),
        "server": ("127.0.0.1", 8000),
        "extensions": {"http.response.trailers": {}},
    }


async def test_asgi_scopes_share_no_mutable_object() -> None:
    app = App()
    await answered(app, GET * 2)
    first, second = app.scopes
    shared = [key for key in first if first[key] is second[key] and isinstance(first[key], (dict, list))]
    assert shared == []


async def test_asgi_path_includes_the_root_path() -> None:
    app = App()
    await answered(app, GET, root_path="/api")
    assert (app.scopes[0]["root_path"], app.scopes[0]["path"]) == ("/api", "/api/")


# Receiving


async def test_asgi_receive_returns_one_empty_event_for_a_request_without_content() -> None:
    app = App(receives=1)
    await answered(app)
    assert app.received == [{"type": "http.request", "body": b"", "more_body": False}]


async def test_asgi_content_is_received_in_pieces_as_it_arrives() -> None:
    app = App(receives=2)
    conversation = await answered(app, request(POST, b"content-length: 4", content=b"ab"))
    conversation.send(b"cd")
    await settle()
    assert app.received == [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"cd", "more_body": False},
    ]


async def test_asgi_receive_waits_for_http_disconnect_after_the_content() -> None:
    app = App(LAST, receives=2)
    conversation = await answered(app)
    assert app.received[1:] == []
    await conversation.lose()
    assert app.received[1:] == [{"type": "http.disconnect"}]


async def test_asgi_application_can_respond_to_a_half_closed_client() -> None:
    app = App(receives=2)
    conversation = await answered(app)
    conversation.send_eof()
    await settle()
    assert app.received[1:] == [{"type": "http.disconnect"}]
    assert conversation.responses()[0].content == b"hello"


async def test_asgi_application_receives_http_disconnect_if_an_upload_is_interrupted() -> None:
    app = App(receives=2)
    conversation = await answered(app, request(POST, b"content-length: 4", content=b"ab"))
    await conversation.lose()
    assert app.received[1:] == [{"type": "http.disconnect"}]


@pytest.mark.parametrize("stream", [GET, request(POST, b"content-length: 4", content=b"ab")])
async def test_asgi_receive_returns_http_disconnect_after_the_response(stream: bytes) -> None:
    app = App(receives_after=1)
    await answered(app, stream)
    assert app.received == [{"type": "http.disconnect"}]


# Sending


async def test_asgi_start_and_body_are_sent_in_one_write() -> None:
    conversation = await answered(App())
    assert len(conversation.transport.writes) == 1
    response = conversation.responses()[0]
    assert (response.status, response.content) == (200, b"hello")
    assert response.header(b"content-length") == b"5"


async def test_asgi_start_and_body_are_sent_in_one_write_after_an_await() -> None:
    conversation = await answered(App(None, START, BODY))
    assert len(conversation.transport.writes) == 1


@pytest.mark.parametrize("before", [(), (None,)])
async def test_asgi_response_start_is_sent_while_the_application_waits(before: tuple[Any, ...]) -> None:
    conversation = await answered(App(*before, START, FOR_EVER), timeout_disconnect=0.0)
    assert conversation.responses()[0].status == 200
    assert not conversation.responses()[0].complete
    await conversation.lose()
    await until(lambda: not conversation.interface.tasks.running)


async def test_asgi_response_is_complete_if_the_application_waits_between_events() -> None:
    conversation = await answered(App(START, None, None, MORE, None, LAST))
    response = conversation.responses()[0]
    assert (response.content, response.complete) == (b"more", True)


async def test_asgi_body_event_whose_body_is_None_sends_empty_content() -> None:
    conversation = await answered(App(START, {"type": "http.response.body", "body": None}))
    assert conversation.responses()[0].header(b"content-length") == b"0"


async def test_asgi_response_start_may_omit_headers() -> None:
    conversation = await answered(App({"type": "http.response.start", "status": 204}, LAST))
    assert conversation.statuses == [204]


@pytest.mark.parametrize("event", [START, MORE, LAST])
async def test_second_asgi_send_after_a_disconnect_raises_OSError(
    event: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    app = App(START, MORE, event) if event is not START else App(START)
    left = asyncio.Event()

    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        for sent in app.events[:-1]:
            await send(sent)
        await left.wait()
        await send(app.events[-1])
        try:
            await send(app.events[-1])
        except OSError as error:
            app.errors.append(error)
            raise

    caplog.set_level(logging.INFO)
    conversation = await answered(waiting)
    await conversation.lose()
    left.set()
    await settle()
    assert [type(error) for error in app.errors] == [ClientDisconnected]
    assert "Traceback" not in caplog.text


async def test_asgi_send_waits_for_a_slow_client() -> None:
    sent = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for number in range(2):
            await send({**MORE, "body": bytes(70000)})
            sent.append(number)
        await send(LAST)

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    assert sent == []
    conversation.transport.client_takes = True
    conversation.transport.take(80000)
    await settle()
    assert sent == [0, 1]


async def test_asgi_send_raises_after_a_disconnect_during_the_previous_send() -> None:
    app = App(START, {**MORE, "body": bytes(70000)}, MORE)
    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    await conversation.lose()
    assert [type(error) for error in app.errors] == [ClientDisconnected]


async def test_second_asgi_send_raises_while_the_transport_is_closing() -> None:
    go = asyncio.Event()
    raised: list[type[OSError]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await go.wait()
        await send(MORE)
        try:
            await send(MORE)
        except OSError as error:
            raised.append(type(error))

    conversation = await answered(app)
    conversation.transport.closing = True
    go.set()
    await settle()
    assert raised == [ClientDisconnected]


class Streaming:
    """Sends what a generator makes, in a task that is cancelled at http.disconnect, as frameworks do."""

    def __init__(self, size: int) -> None:
        self.go = asyncio.Event()
        self.is_closed = False
        # Kept, so that only the cancellation closes it.
        self.pieces = self._pieces(size)

    async def _pieces(self, size: int) -> AsyncIterator[bytes]:
        try:
            while True:
                await self.go.wait()
                self.go.clear()
                yield bytes(size)
        finally:
            self.is_closed = True

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stream() -> None:
            await send(START)
            async for piece in self.pieces:
                await send({**MORE, "body": piece})

        task = asyncio.ensure_future(stream())
        while (await receive())["type"] != "http.disconnect":
            pass
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.any_loop
async def test_asgi_generator_is_closed_if_send_fails_on_a_closing_transport() -> None:
    app = Streaming(size=1)
    conversation = await answered(app)
    conversation.transport.closing = True
    app.go.set()
    await settle()
    assert app.is_closed


@pytest.mark.any_loop
async def test_asgi_generator_is_closed_if_the_client_disconnects_while_send_waits() -> None:
    app = Streaming(size=70000)
    conversation = await answered(app)
    conversation.transport.client_takes = False
    app.go.set()
    await until(lambda: conversation.connection.write_paused)
    await conversation.lose()
    await settle()
    assert app.is_closed


@pytest.mark.any_loop
async def test_failed_asgi_send_closes_the_generator_without_garbage_collection() -> None:
    go = asyncio.Event()
    closed = []

    async def pieces() -> AsyncIterator[bytes]:
        try:
            await go.wait()
            while True:
                yield b"piece"
        finally:
            closed.append(True)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        stream = pieces()
        await send(START)
        async for piece in stream:
            await send({**MORE, "body": piece})

    gc.disable()
    try:
        conversation = await answered(app)
        await conversation.lose()
        go.set()
        await settle()
        assert closed == [True]
    finally:
        gc.enable()


async def test_asgi_endless_response_lets_other_tasks_run() -> None:
    turns: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while not turns:
            await send(MORE)
        await send(LAST)

    asyncio.get_running_loop().call_soon(turns.append, 1)
    conversation = await answered(app)
    assert conversation.responses()[0].complete


# Events in the wrong order


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((BODY,), "expected http.response.start, got 'http.response.body'"),
        ((START, START), "expected http.response.body, got 'http.response.start'"),
        ((START, MORE, START), "expected http.response.body, got 'http.response.start'"),
        ((START, BODY, LAST), "expected nothing after the end of the response, got 'http.response.body'"),
        ((START_TRAILERS, MORE, TRAILERS), "expected http.response.body, got 'http.response.trailers'"),
        ((START, TRAILERS), "expected http.response.body, got 'http.response.trailers'"),
        ((START_TRAILERS, BODY, LAST), "expected http.response.trailers, got 'http.response.body'"),
        ((START_TRAILERS, BODY, START), "expected http.response.trailers, got 'http.response.start'"),
        (({"type": "http.response.push"},), "expected http.response.start, got 'http.response.push'"),
        (({"status": 200},), "expected http.response.start, got no 'type' in {'status'}"),
        (({"type": "http.response.start"},), "expected http.response.start with 'status', got {'type'}"),
    ],
)
async def test_error_for_an_asgi_event_out_of_order_names_the_expected_event(
    events: tuple[dict[str, Any], ...], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    app = App(*events)
    await answered(app)
    assert [str(error) for error in app.errors] == [f"send: {expected}"]
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize(
    "start",
    [
        {"type": "http.response.start", "status": 99},
        {"type": "http.response.start", "status": 200, "headers": [(b"x", b"a\r\nb")]},
        {"type": "http.response.start", "status": 200, "headers": [("text", "text")]},
    ],
)
@pytest.mark.parametrize("waits", [(), (None, None)])
async def test_asgi_invalid_response_start_raises_in_the_application(
    start: dict[str, Any], waits: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    app = App(start, *waits, MORE)
    conversation = await answered(app)
    assert conversation.statuses == [500]
    assert [type(error) for error in app.errors] == [LocalProtocolError]
    assert caplog.text.count("Traceback") == 1


async def test_invalid_asgi_response_start_without_a_body_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversation = await answered(App({"type": "http.response.start", "status": 99}, None, None))
    assert conversation.statuses == [500]
    assert "status: expected an int" in caplog.text


@pytest.mark.parametrize("trailers", [False, True])
@pytest.mark.parametrize("waits", [(), (None, None)])
async def test_asgi_application_can_send_a_valid_start_after_an_invalid_start(
    waits: tuple[Any, ...], trailers: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 99, "trailers": trailers})
            for _ in waits:
                await asyncio.sleep(0)
            await send(BODY)
        except LocalProtocolError:
            await send({**START, "status": 418})
            await send(BODY)

    assert (await answered(app)).statuses == [418]


async def test_asgi_body_that_is_not_bytes_raises_in_the_application(caplog: pytest.LogCaptureFixture) -> None:
    assert (await answered(App(START, {**BODY, "body": "text"}))).statuses == [500]
    assert "content: expected bytes, got str" in caplog.text


# How the application ends


async def test_asgi_application_that_is_a_synchronous_function_gives_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def app(scope: Any, receive: Any, send: Any) -> None: ...

    assert (await answered(app)).statuses == [500]
    assert "the application returned NoneType None, expected a coroutine" in caplog.text


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((None,), "a response"),
        ((START,), "http.response.body"),
        ((None, START), "http.response.body"),
        ((START, MORE), "the end of its response"),
    ],
)
async def test_server_logs_an_asgi_application_that_returns_before_the_response_ends(
    events: tuple[Any, ...], expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    await answered(App(*events))
    assert f"returned without sending {expected}" in caplog.text


async def test_asgi_application_that_returns_after_http_disconnect_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    caplog.set_level(logging.INFO)
    conversation = await answered(app)
    conversation.send_eof()
    await settle()
    assert [record for record in caplog.records if record.name == "uvicorn.app"] == []
    assert (conversation.received, conversation.transport.aborted) == (b"", True)


@pytest.mark.parametrize("events", [(None,), (START,), (None, START)])
async def test_asgi_application_that_returns_without_a_body_gives_500(events: tuple[Any, ...]) -> None:
    assert (await answered(App(*events))).statuses == [500]


async def test_unfinished_asgi_response_is_aborted() -> None:
    conversation = await answered(App(START, MORE))
    assert conversation.transport.aborted
    assert not conversation.responses()[0].complete


async def failing(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/midway":
        await send(START)
        await send(MORE)
    if scope["path"] == "/later":
        await asyncio.sleep(0)
    if scope["path"] == "/after":
        await send(START)
        await send(BODY)
    raise ValueError("boom")


@pytest.mark.parametrize("path", [b"/", b"/later"])
async def test_asgi_application_that_raises_gives_500(path: bytes, caplog: pytest.LogCaptureFixture) -> None:
    conversation = await answered(failing, request(b"GET %b HTTP/1.1" % path))
    assert conversation.statuses == [500]
    assert caplog.text.count("Traceback") == 1


async def test_asgi_application_that_raises_midway_aborts_the_response() -> None:
    conversation = await answered(failing, request(b"GET /midway HTTP/1.1"))
    assert conversation.transport.aborted


async def test_asgi_exception_after_the_response_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversation = await answered(failing, request(b"GET /after HTTP/1.1"))
    assert conversation.statuses == [200]
    assert caplog.text.count("Traceback") == 1


async def test_asgi_application_that_is_cancelled_gives_500(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        raise asyncio.CancelledError

    assert (await answered(app)).statuses == [500]
    assert "was cancelled before its response was complete" in caplog.text


async def test_asgi_response_is_sent_if_the_application_is_cancelled_later() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY)
        raise asyncio.CancelledError

    assert (await answered(app)).statuses == [200]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_system_exit_in_an_asgi_application_gives_500(error: type[BaseException]) -> None:
    def app(scope: Scope, receive: Receive, send: Send) -> Any:
        raise error

    assert (await answered(app)).statuses == [500]


async def test_asgi_application_may_return_any_awaitable() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            return self.run().__await__()

        async def run(self) -> None:
            await self.send(START)
            await self.send(BODY)

        def __init__(self, send: Send) -> None:
            self.send = send

    conversation = await answered(lambda scope, receive, send: Awaitable(send))
    assert conversation.statuses == [200]


async def test_asgi_application_may_continue_after_its_response() -> None:
    done = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        await send(BODY)
        await asyncio.sleep(0)
        done.append(1)

    conversation = await answered(app)
    await conversation.lose()
    assert done == [1]


async def test_asgi_handler_of_a_disconnected_client_is_cancelled_after_a_timeout() -> None:
    conversation = await answered(App(FOR_EVER), timeout_disconnect=0.0)
    await conversation.lose()
    await until(lambda: not conversation.interface.tasks.running)


# Trailers


@pytest.mark.parametrize("waits", [(), (None,)])
async def test_asgi_trailers_follow_chunked_content(waits: tuple[Any, ...]) -> None:
    more = {**TRAILERS, "headers": [(b"x-more", b"2")], "more_trailers": True}
    conversation = await answered(App(START_TRAILERS, MORE, LAST, *waits, more, TRAILERS))
    assert conversation.received.endswith(b"0\r\nx-more: 2\r\nx-sum: 1\r\n\r\n")
    assert conversation.responses()[0].complete


async def test_asgi_response_with_content_length_omits_trailers() -> None:
    length = {**START_TRAILERS, "headers": [(b"content-length", b"5")]}
    conversation = await answered(App(length, BODY, TRAILERS), GET * 2)
    assert [response.content for response in conversation.responses()] == [b"hello", b"hello"]
    assert b"x-sum" not in conversation.received


async def test_asgi_response_is_aborted_if_announced_trailers_are_missing() -> None:
    conversation = await answered(App(START_TRAILERS, BODY))
    assert conversation.transport.aborted
    assert not conversation.responses()[0].complete


@pytest.mark.parametrize("name", [b"content-length", b"set-cookie", b"a b"])
async def test_asgi_forbidden_trailer_aborts_the_response(name: bytes) -> None:
    app = App(START_TRAILERS, BODY, {**TRAILERS, "headers": [(name, b"1")]})
    conversation = await answered(app)
    assert [type(error) for error in app.errors] == [LocalProtocolError]
    assert conversation.transport.aborted


# Files


CONTENT = bytes(range(256)) * 1024


def pathsend(path: Path) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": str(path)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


async def answered_with_a_file(app: Any, stream: bytes = GET) -> Conversation:
    conversation = await answered(app, stream, pathsend=True)
    await until(lambda: not conversation.interface.tasks.running)
    return conversation


@pytest.mark.parametrize("waits", [(), (None, None)])
@pytest.mark.parametrize("headers", [[], [(b"Content-Length", b"262144")]])
async def test_pathsend_sends_the_file_and_ends_the_response(
    file: Path, waits: tuple[Any, ...], headers: list[Any]
) -> None:
    conversation = await answered_with_a_file(App({**START, "headers": headers}, *waits, pathsend(file)), GET * 2)
    first, second = conversation.responses()
    assert (first.complete, first.content == second.content == CONTENT) == (True, True)


async def test_pathsend_response_to_HEAD_has_content_length_and_no_content(file: Path) -> None:
    conversation = await answered_with_a_file(App(START, pathsend(file)), request(b"HEAD / HTTP/1.1"))
    assert conversation.received.endswith(b"content-length: 262144\r\n\r\n")


async def test_pathsend_of_a_longer_file_stops_at_content_length(file: Path) -> None:
    start = {**START, "headers": [(b"content-length", b"100000")]}
    conversation = await answered_with_a_file(App(start, pathsend(file)))
    assert conversation.responses()[0].content == CONTENT[:100000]


async def test_pathsend_of_a_file_shorter_than_its_content_length_gives_500(file: Path) -> None:
    start = {**START, "headers": [(b"content-length", b"262145")]}
    assert (await answered_with_a_file(App(start, pathsend(file)))).statuses == [500]


async def test_pathsend_of_a_missing_file_gives_500(tmp_path: Path) -> None:
    assert (await answered_with_a_file(App(START, pathsend(tmp_path / "none")))).statuses == [500]


@pytest.mark.parametrize(("name", "length"), [("none", b"1"), ("file", b"262145"), ("file", b"x")])
async def test_asgi_application_can_send_an_error_response_after_a_failed_pathsend(
    file: Path, name: str, length: bytes
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"content-length", length)]})
        try:
            await send(pathsend(file.with_name(name)))
        except (FileNotFoundError, LocalProtocolError):
            await send({**START, "status": 404})
            await send(BODY)

    assert (await answered_with_a_file(app)).statuses == [404]


async def test_pathsend_is_aborted_if_the_client_disconnects(file: Path) -> None:
    app = App(START, pathsend(file))
    conversation = Conversation(app, pathsend=True)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: conversation.connection.write_paused)
    await conversation.lose()
    assert [type(error) for error in app.errors] == [ClientDisconnected]


async def test_pathsend_of_a_file_that_shrinks_aborts_the_response(file: Path) -> None:
    app = App(START, pathsend(file))
    conversation = Conversation(app, pathsend=True)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: conversation.connection.write_paused)
    os.truncate(file, 100000)
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 20)
    await until(lambda: app.errors)
    await settle()
    assert conversation.transport.aborted
    assert not conversation.responses()[0].complete


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((), "expected http.response.start"),
        ((START_TRAILERS,), "expected http.response.body"),
        ((START, BODY), "expected nothing after the end of the response"),
    ],
)
async def test_error_for_a_pathsend_out_of_order_names_the_expected_event(
    file: Path, events: tuple[Any, ...], expected: str
) -> None:
    app = App(*events, pathsend(file))
    await answered(app, pathsend=True)
    assert expected in str(app.errors[0])


async def test_pathsend_event_raises_if_the_extension_was_not_offered(file: Path) -> None:
    app = App(START, pathsend(file))
    conversation = await answered(app)
    assert [str(error) for error in app.errors] == [
        "send: expected http.response.body, got 'http.response.pathsend'",
    ]
    assert conversation.statuses == [500]


@pytest.mark.parametrize("event", [BODY, START, TRAILERS])
async def test_asgi_send_during_a_pathsend_raises(file: Path, event: dict[str, Any]) -> None:
    errors: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        sending = asyncio.ensure_future(send(pathsend(file)))
        await asyncio.sleep(0)
        try:
            await send(event)
        except LocalProtocolError as error:
            errors.append(str(error))
        await sending

    conversation = await answered_with_a_file(app)
    assert conversation.responses()[0].content == CONTENT
    assert errors == [f"send: expected nothing after a pathsend, got {event['type']!r}"]


# ASGI 2


class OldApp:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        await send({**START, "headers": [(b"x-version", self.scope["asgi"]["version"].encode())]})
        await send(BODY)


async def test_asgi_2_application_gets_scope_first_and_then_receive_and_send() -> None:
    conversation = await answered(OldApp)
    assert conversation.responses()[0].header(b"x-version") == b"2.0"


async def test_asgi_2_application_that_raises_in_its_first_call_gives_500() -> None:
    def app(scope: Scope) -> Any:
        raise ValueError("boom")

    assert (await answered(app)).statuses == [500]


async def test_asgi_receive_sets_more_body_to_false_for_a_single_chunk() -> None:
    app = App(receives=1)
    await answered(app, chunked(b"2\r\nab\r\n0\r\n\r\n"))
    assert app.received == [{"type": "http.request", "body": b"ab", "more_body": False}]


def wrapped(error: BaseException) -> BaseException:
    return LookupError("what a framework makes of it")


def grouped(error: BaseException) -> BaseException:
    return BaseExceptionGroup("of a task group", [error])


def grouped_with_another(error: BaseException) -> BaseException:
    return BaseExceptionGroup("of a task group", [error, ValueError("boom")])


@pytest.mark.any_loop
@pytest.mark.parametrize(("of_framework", "tracebacks"), [(wrapped, 0), (grouped, 0), (grouped_with_another, 1)])
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_framework_exception_that_wraps_a_disconnect_error_is_not_logged(
    of_framework: Callable[[BaseException], BaseException],
    tracebacks: int,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    go = asyncio.Event()
    events = (START, MORE) if kind == "http" else ({"type": "websocket.accept"}, {"type": "websocket.send", "text": ""})

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(events[0])
        await go.wait()
        try:
            await send(events[1])
            await send(events[1])
        except OSError as error:
            raise of_framework(error) from error

    caplog.set_level(logging.INFO)
    conversation = WebSocketConversation(app) if kind == "websocket" else Conversation(app)
    if isinstance(conversation, WebSocketConversation):
        await conversation.open()
    else:
        conversation.send(GET)
        await settle()
    await conversation.lose()
    go.set()
    await settle()
    assert caplog.text.count("Exception in ASGI application") == tracebacks
    assert caplog.text.count("client disconnected before the application finished") == 1 - tracebacks


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("name", "tracebacks"),
    [
        ("ClientDisconnect", 0),
        ("ClientDisconnectedError", 0),
        ("MessageAborted", 0),
        ("RequestAborted", 0),
        ("WebSocketDisconnect", 0),
        ("WebSocketDisconnectError", 0),
        ("WebSocketDisconnected", 0),
        ("DatabaseDisconnected", 1),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_framework_disconnect_exception_logs_no_traceback(
    kind: str, name: str, tracebacks: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if kind == "websocket":
            await send({"type": "websocket.accept"})
        while (await receive())["type"] != f"{kind}.disconnect":
            pass
        raise type(name, (Exception,), {})

    caplog.set_level(logging.INFO)
    conversation = WebSocketConversation(app) if kind == "websocket" else Conversation(app)
    if isinstance(conversation, WebSocketConversation):
        await conversation.open()
        await conversation.lose()
    else:
        conversation.send(request(POST, b"content-length: 3", content=b"ab"))
        await settle()
        conversation.send_eof()
        await settle()
    assert caplog.text.count("Traceback") == tracebacks
    assert caplog.text.count("client disconnected before the application finished") == 1 - tracebacks


@pytest.mark.any_loop
async def test_exception_raised_while_handling_a_disconnect_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await go.wait()
        try:
            await send(START)
            await send(LAST)
        except OSError:
            dict[str, int]()["of those who are there"]

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    go.set()
    await settle()
    assert "KeyError" in caplog.text


@pytest.mark.any_loop
async def test_exception_reraised_from_an_exception_group_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(failing(scope, receive, send))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0]  # noqa: B904

    assert (await answered(app)).statuses == [500]
    assert caplog.text.count("Exception in ASGI application") == 1


@pytest.mark.parametrize("offered", [False, True])
async def test_pathsend_is_offered_only_if_the_setting_is_on(offered: bool) -> None:
    app = App(START, BODY)
    await answered(app, GET, pathsend=offered)
    assert ("http.response.pathsend" in app.scopes[0]["extensions"]) is offered
