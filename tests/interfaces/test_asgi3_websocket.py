"""ASGI's websockets, as its specification's version 2.5 has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.helpers import settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn.errors import ClientDisconnected, LocalProtocolError

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
TEXT = {"type": "websocket.send", "text": "a"}
DENIAL = {"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Basic")]}
DENIAL_BODY = {"type": "websocket.http.response.body", "body": b"who?"}


class App:
    """Sends the given events, then receives until the connection has ended, unless it is to return at once."""

    def __init__(self, *events: dict[str, Any], returns: bool = False) -> None:
        self.events = events or (ACCEPT,)
        self.returns = returns
        self.scopes: list[Scope] = []
        self.received: list[dict[str, Any]] = []
        self.errors: list[BaseException] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.received.append(await receive())
        for event in self.events:
            try:
                await send(event)
            except Exception as error:
                self.errors.append(error)
                raise
        while not self.returns:
            self.received.append(await receive())
            self.returns = self.received[-1]["type"] == "websocket.disconnect"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(ACCEPT)
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"], "bytes": event["bytes"]})


async def opened(app: Any, **settings: Any) -> WebSocketConversation:
    conversation = WebSocketConversation(app, **settings)
    await conversation.open()
    return conversation


async def test_asgi_websocket_scope_has_every_key_with_its_type() -> None:
    app = App()
    conversation = await opened(app, path="/a%20b?c=d", subprotocols=["chat"])
    await conversation.lose()
    scope = app.scopes[0]
    headers = scope.pop("headers")
    assert (b"host", b"example.org") in headers
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=d",
        "root_path": "",
        "client": ("127.0.0.1", 51234),
        "server": ("127.0.0.1", 8000),
        "subprotocols": ["chat"],
        "extensions": {"websocket.http.response": {}},
    }


async def test_asgi_websocket_events_are_received_in_order() -> None:
    app = App()
    conversation = await opened(app)
    await conversation.say("hi", b"\x00")
    conversation.client.send_close(4000, "bye")
    await conversation.flush()
    assert app.received == [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hi", "bytes": None},
        {"type": "websocket.receive", "text": None, "bytes": b"\x00"},
        {"type": "websocket.disconnect", "code": 4000, "reason": "bye"},
    ]


async def test_asgi_websocket_application_echoes_text_and_binary_messages() -> None:
    conversation = await opened(echo)
    await conversation.say("a", b"b", "")
    assert conversation.heard == ["a", b"b", ""]
    await conversation.lose()


async def test_asgi_receive_returns_websocket_disconnect_repeatedly() -> None:
    received = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        received.extend([await receive(), await receive()])

    conversation = await opened(app)
    await conversation.lose()
    assert received == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}] * 2


async def test_asgi_receive_returns_pending_websocket_messages_before_the_disconnect() -> None:
    go = asyncio.Event()
    received = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await go.wait()
        received.extend([(await receive())["type"], (await receive())["type"]])

    conversation = await opened(app)
    await conversation.say("hi")
    await conversation.lose()
    go.set()
    await settle()
    assert received == ["websocket.receive", "websocket.disconnect"]


async def test_websocket_reading_pauses_while_many_messages_wait_for_asgi_receive() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        await go.wait()
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})

    conversation = await opened(app)
    for number in range(32):
        await conversation.say(str(number))
    assert not conversation.transport.reading
    go.set()
    await settle()
    assert conversation.heard == [str(number) for number in range(32)]
    await conversation.say("more")
    assert conversation.heard[-1] == "more"
    await conversation.lose()


async def test_websocket_reading_pauses_while_a_large_message_waits_for_asgi_receive() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await go.wait()

    conversation = await opened(app)
    await conversation.say(bytes(65537))
    assert not conversation.transport.reading
    go.set()
    await settle()
    await conversation.lose()


async def test_asgi_websocket_opens_from_any_origin_by_default() -> None:
    conversation = await opened(echo, origin="https://elsewhere.example")
    assert conversation.status == 101
    await conversation.lose()


async def test_asgi_accept_sends_the_subprotocol_and_headers_of_the_application() -> None:
    accept = {**ACCEPT, "subprotocol": "b", "headers": [(b"Set-Cookie", b"a=1")]}
    conversation = await opened(App(accept), subprotocols=["a", "b"])
    assert conversation.client.subprotocol == "b"
    assert conversation.response is not None
    assert conversation.response.headers["set-cookie"] == "a=1"
    await conversation.lose()


# Denial


async def test_asgi_websocket_close_before_accept_gives_403() -> None:
    app = App(CLOSE)
    conversation = await opened(app)
    assert conversation.status == 403
    assert app.received[1:] == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


async def test_asgi_denial_response_rejects_the_handshake() -> None:
    conversation = await opened(App(DENIAL, DENIAL_BODY))
    assert conversation.status == 401
    assert conversation.responses()[0].header(b"www-authenticate") == b"Basic"
    assert conversation.responses()[0].content == b"who?"


async def test_asgi_streamed_denial_response_rejects_the_handshake() -> None:
    conversation = await opened(App(DENIAL, {**DENIAL_BODY, "more_body": True}, DENIAL_BODY))
    assert conversation.responses()[0].content == b"who?who?"
    assert conversation.responses()[0].complete


async def test_unfinished_asgi_denial_response_is_aborted() -> None:
    conversation = await opened(App(DENIAL, {**DENIAL_BODY, "more_body": True}, returns=True))
    assert conversation.transport.aborted


# How the application ends


async def test_asgi_websocket_application_that_returns_without_accept_or_close_gives_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()

    assert (await opened(app)).status == 500
    assert "returned without accepting or rejecting" in caplog.text


@pytest.mark.parametrize("event", [{"type": "websocket.http.response.start", "status": 401}])
async def test_asgi_denial_response_without_a_body_gives_500(
    event: dict[str, Any],
) -> None:
    assert (await opened(App(event, returns=True))).status == 500


async def test_asgi_websocket_is_closed_when_the_application_returns() -> None:
    conversation = await opened(App(ACCEPT, returns=True))
    assert (conversation.status, conversation.close_code) == (101, 1000)


async def test_asgi_websocket_application_that_raises_before_accept_gives_500(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("boom")

    assert (await opened(app)).status == 500
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize("error", [ValueError, SystemExit])
async def test_asgi_websocket_application_that_cannot_be_called_gives_500(error: type[BaseException]) -> None:
    def app(scope: Scope, receive: Receive, send: Send) -> Any:
        raise error

    assert (await opened(app)).status == 500


async def test_asgi_websocket_application_that_raises_after_accept_closes_with_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await receive()
        raise ValueError("boom")

    assert (await opened(app)).close_code == 1011
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize(("events", "status", "code"), [((), 500, None), ((ACCEPT,), 101, 1011)])
async def test_asgi_websocket_is_closed_if_its_application_is_cancelled(
    events: tuple[Any, ...], status: int, code: int | None
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)
        raise asyncio.CancelledError

    conversation = await opened(app)
    assert (conversation.status, conversation.close_code) == (status, code)


async def test_asgi_handshake_is_rejected_after_the_accept_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.get_running_loop().create_future()

    conversation = await opened(app, ws_accept_timeout=0.0, timeout_disconnect=0.0)
    await until(lambda: conversation.received)
    assert conversation.status == 403
    assert "no decision on the handshake within" in caplog.text
    await until(lambda: not conversation.interface.tasks.running)


async def test_asgi_denial_response_can_stream_beyond_the_accept_timeout() -> None:
    go = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(DENIAL)
        await send({**DENIAL_BODY, "more_body": True})
        await go.wait()
        await send(DENIAL_BODY)

    conversation = await opened(app, ws_accept_timeout=0.0)
    await asyncio.sleep(0.001)
    go.set()
    await settle()
    assert conversation.responses()[0].complete


async def test_asgi_receive_reports_a_disconnect_during_the_handshake() -> None:
    received = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        received.extend([await receive(), await receive()])

    conversation = await opened(app)
    await conversation.lose()
    assert received[1] == {"type": "websocket.disconnect", "code": 1006, "reason": ""}


async def test_asgi_application_may_continue_after_its_websocket_has_closed() -> None:
    done = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await receive()
        await receive()
        await asyncio.sleep(0)
        done.append(1)

    conversation = await opened(app)
    await conversation.lose()
    assert done == [1]


async def test_asgi_websocket_receive_works_after_earlier_receives_are_cancelled() -> None:
    received = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        for _ in range(3):
            waiting = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            waiting.cancel()
        received.append(await receive())

    conversation = await opened(app)
    await conversation.say("a")
    assert received == [{"type": "websocket.receive", "text": "a", "bytes": None}]


async def test_asgi_websocket_message_is_received_after_a_receive_is_cancelled() -> None:
    received = []
    waiting: list[asyncio.Future[Any]] = []
    gave_up = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPT)
        waiting.append(asyncio.ensure_future(receive()))
        await gave_up.wait()
        received.append(await receive())

    conversation = await opened(app)
    waiting[0].cancel()
    gave_up.set()
    await conversation.say("a")
    assert received == [{"type": "websocket.receive", "text": "a", "bytes": None}]


# Events that do not fit


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ((TEXT,), "expected websocket.accept, websocket.close or websocket.http.response.start, got 'websocket.send'"),
        ((ACCEPT, ACCEPT), "expected websocket.send or websocket.close, got 'websocket.accept'"),
        (
            (ACCEPT, {"type": "http.response.start"}),
            "expected websocket.send or websocket.close, got 'http.response.st",
        ),
        ((ACCEPT, CLOSE, TEXT), "expected nothing after websocket.close, got 'websocket.send'"),
        ((CLOSE, ACCEPT), "expected nothing after the handshake was denied, got 'websocket.accept'"),
        ((DENIAL, ACCEPT), "expected websocket.http.response.body, got 'websocket.accept'"),
        ((DENIAL, {**DENIAL_BODY, "more_body": True}, ACCEPT), "expected websocket.http.response.body, got 'websock"),
        (({"type": "websocket.http.response.start"},), "expected websocket.http.response.start with 'status', got {"),
        ((ACCEPT, {"type": "websocket.send"}), "expected 'text' or 'bytes' in websocket.send, got both or neither"),
        ((ACCEPT, {**TEXT, "bytes": b"a"}), "expected 'text' or 'bytes' in websocket.send, got both or neither"),
    ],
)
async def test_error_for_an_asgi_websocket_event_out_of_order_names_the_expected_event(
    events: tuple[dict[str, Any], ...], expected: str
) -> None:
    app = App(*events)
    conversation = await opened(app)
    await conversation.lose()
    assert [str(error)[: len(expected) + 6] for error in app.errors] == [f"send: {expected}"]
    assert isinstance(app.errors[0], LocalProtocolError)


@pytest.mark.parametrize("event", [{**ACCEPT, "subprotocol": "c"}, {**ACCEPT, "headers": [(b"a", b"b\r\n")]}])
async def test_asgi_accept_with_an_invalid_subprotocol_or_header_gives_500(event: dict[str, Any]) -> None:
    assert (await opened(App(event))).status == 500


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"subprotocol": "c"}, r"subprotocol: expected one of \['a', 'b'\], got 'c'"),
        ({"headers": [(b"sec-websocket-protocol", b"a")]}, "expected the subprotocol in 'subprotocol'"),
    ],
)
async def test_asgi_application_can_accept_after_an_invalid_accept(fields: dict[str, Any], expected: str) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        with pytest.raises(LocalProtocolError, match=expected):
            await send({**ACCEPT, **fields})
        await send(ACCEPT)
        await receive()

    conversation = await opened(app, subprotocols=["a", "b"])
    assert (conversation.status, conversation.client.subprotocol) == (101, None)
    await conversation.lose()


async def test_second_close_of_an_asgi_websocket_is_ignored() -> None:
    conversation = await opened(App(ACCEPT, {**CLOSE, "code": 4001, "reason": "bye"}, CLOSE))
    assert conversation.close_code == 4001
    await conversation.lose()


@pytest.mark.parametrize(("event", "error"), [(TEXT, ClientDisconnected), (CLOSE, None)])
async def test_asgi_send_to_a_disconnected_websocket_raises_OSError(
    event: dict[str, Any], error: type[OSError] | None
) -> None:
    left = asyncio.Event()
    raised: list[type[OSError] | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        await left.wait()
        try:
            await send(event)
            raised.append(None)
        except OSError as failure:
            raised.append(type(failure))
            raise

    conversation = await opened(app)
    await conversation.lose()
    left.set()
    await settle()
    assert raised == [error]


async def test_asgi_websocket_send_waits_for_a_slow_client() -> None:
    sent = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        for number in range(2):
            await send({"type": "websocket.send", "bytes": bytes(70000)})
            sent.append(number)

    conversation = WebSocketConversation(app)
    conversation.transport.client_takes = False
    await conversation.open()
    assert sent == []
    conversation.transport.client_takes = True
    conversation.transport.take(80000)
    await settle()
    assert sent == [0, 1]
    await conversation.lose()


async def test_asgi_websocket_send_stops_waiting_when_the_client_disconnects() -> None:
    app = App(ACCEPT, {"type": "websocket.send", "bytes": bytes(70000)})
    conversation = WebSocketConversation(app)
    conversation.transport.client_takes = False
    await conversation.open()
    await conversation.lose()
    assert [type(error) for error in app.errors] == [ClientDisconnected]


async def test_endless_asgi_websocket_sends_let_other_tasks_run() -> None:
    turns: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        asyncio.get_running_loop().call_soon(turns.append, 1)
        while not turns:
            await send(TEXT)

    conversation = await opened(app)
    assert conversation.close_code == 1000
