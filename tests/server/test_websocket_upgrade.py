"""Requests to upgrade: accepted, rejected by the server, or rejected by the application."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.helpers import Conversation, Recorder, hello, settle
from tests.websocket_client import WebSocketConversation

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


def handshake(*fields: bytes, line: bytes = b"GET /chat HTTP/1.1") -> bytes:
    return b"\r\n".join((line, b"Host: example.org", b"Upgrade: websocket", b"Connection: Upgrade", *fields, b"", b""))


async def nothing(message: dict[str, Any], channels: dict[str, Any]) -> None:
    """Accept, and send nothing."""


async def opened(app: Any = nothing, **settings: Any) -> WebSocketConversation:
    conversation = WebSocketConversation(app, **settings)
    await conversation.open()
    return conversation


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        (handshake(b"Sec-WebSocket-Version: 13"), 400),
        (handshake(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: short"), 400),
        (handshake(b"Sec-WebSocket-Version: 13", KEY, line=b"POST /chat HTTP/1.1"), 400),
        (handshake(b"Sec-WebSocket-Version: 8", KEY), 426),
        (handshake(b"Sec-WebSocket-Version: 13", KEY, b"Content-Length: 1") + b"x", 400),
    ],
)
async def test_e2_malformed_handshake_is_rejected_without_calling_the_application(stream: bytes, status: int) -> None:
    app = Recorder(nothing)
    conversation = Conversation(app)
    conversation.send(stream)
    await settle()
    assert (conversation.statuses, app.messages) == ([status], [])
    assert conversation.transport.closing or conversation.transport.eof_written
    if status == 426:
        assert conversation.responses()[0].header(b"sec-websocket-version") == b"13"


async def test_application_without_websockets_serves_a_handshake_as_an_http_request() -> None:
    def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"plain"]

    conversation = Conversation(wsgi)
    conversation.send(handshake(b"Sec-WebSocket-Version: 13", KEY))
    while not conversation.received:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert conversation.statuses == [200]
    await conversation.interface.shutdown(1)


async def test_http_response_of_a_channels_application_rejects_the_handshake() -> None:
    conversation = await opened(hello)
    assert conversation.status == 200
    assert conversation.responses()[0].content == b"hello"


@pytest.mark.parametrize(
    ("origin", "allowed", "status"),
    [
        (None, "", 101),
        ("http://example.org", "", 101),
        ("https://example.org:8001", "", 101),
        ("http://evil.example", "", 403),
        ("http://example.org.evil.example", "", 403),
        ("null", "", 403),
        ("http://evil.example", "*", 101),
        ("https://a.example", "https://b.example, https://a.example", 101),
        ("http://example.org", "https://a.example", 403),
    ],
)
async def test_e1_handshake_from_another_origin_is_rejected(
    origin: str | None, allowed: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    conversation = await opened(origin=origin, ws_allowed_origins=allowed)
    assert conversation.status == status
    assert ("--ws-allowed-origins" in caplog.text) is (status == 403)


GET = b"GET /later HTTP/1.1\r\nHost: example.org\r\n\r\n"
OPENING = handshake(b"Sec-WebSocket-Version: 13", KEY)


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
async def test_pipelined_handshake_after_a_request_is_accepted_in_pieces_of_any_size(piece: int) -> None:
    app = Recorder(hello)

    async def served(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "http.request":
            await app(message, channels)
        else:
            app.messages.append(message)

    conversation = Conversation(served)
    conversation.send(GET + OPENING + b"\x81\x81\0\0\0\0a" + b"\x88\x80\0\0\0\0", piece)
    await settle()
    assert [message["channel"].partition(".")[2] for message in app.messages] == [
        "request",
        "connect",
        "receive",
        "disconnect",
    ]
    assert conversation.received.count(b"HTTP/1.1 101") == 1
    await conversation.lose()


@pytest.mark.parametrize("answer", [{"accept": False}, {"status": 401, "content": b"who?"}])
async def test_a18_input_after_a_rejected_handshake_is_not_served_as_a_request(answer: dict[str, Any]) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        assert message["channel"] == "websocket.connect"
        await channels["reply"].send(answer)

    conversation = Conversation(app)
    conversation.send(OPENING + GET)
    await settle()
    assert len(conversation.statuses) == 1
    assert conversation.responses()[0].header(b"connection") == b"close"
    assert conversation.transport.closing or conversation.transport.eof_written
    await conversation.lose()


async def test_r14_path_of_a_websocket_includes_the_root_path() -> None:
    app = Recorder(nothing)
    conversation = await opened(app, path="/a", root_path="/api")
    await conversation.say("x")
    await conversation.lose()
    assert [message["path"] for message in app.messages] == ["/api/a"] * 3
    assert app.messages[0]["root_path"] == "/api"


@pytest.mark.parametrize(
    "headers",
    [
        [[b"sec-websocket-accept", b"x"]],
        [[b"connection", b"close"]],
        [[b"x", b"a\r\nb: c"]],
        [[b"bad name", b"x"]],
        [["x", b"y"]],
        [[b"x"]],
    ],
)
async def test_b1_invalid_field_in_an_accept_message_rejects_the_handshake_with_500(
    headers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"accept": True, "headers": headers})

    conversation = await opened(app)
    assert conversation.status == 500
    assert b"101" not in conversation.received
    assert "header" in caplog.text


async def test_server_field_of_an_accept_message_replaces_the_default_server_field() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.connect":
            await channels["reply"].send({"accept": True, "headers": ((b"Server", b"mine"), (b"X-Y", b"z"))})

    conversation = await opened(app)
    assert conversation.response is not None
    assert conversation.response.headers["server"] == "mine"
    assert conversation.response.headers["x-y"] == "z"
    await conversation.lose()


@pytest.mark.any_loop
async def test_application_that_accepts_after_a_client_disconnect_sends_nothing() -> None:
    """A closing TLS transport reports its end to the HTTP connection, even if its protocol is replaced."""
    decided = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await decided.wait()
        await channels["reply"].send({"accept": True, "text": "welcome"})

    conversation = await opened(app)
    decided.set()
    conversation.transport.close()
    await settle()
    assert not conversation.context.connections
    assert not conversation.received
