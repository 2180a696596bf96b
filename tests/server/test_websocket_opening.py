"""Requests to upgrade: which become a websocket, which are refused before the application hears of them."""

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
    """Accepts, and is silent."""


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
async def test_e2_what_is_no_handshake_is_refused_before_the_application(stream: bytes, status: int) -> None:
    app = Recorder(nothing)
    conversation = Conversation(app)
    conversation.send(stream)
    await settle()
    assert (conversation.statuses, app.messages) == ([status], [])
    assert conversation.transport.closing or conversation.transport.eof_written
    if status == 426:
        assert conversation.responses()[0].header(b"sec-websocket-version") == b"13"


async def test_an_application_of_another_kind_sees_a_plain_request() -> None:
    def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"plain"]

    conversation = Conversation(wsgi)
    conversation.send(handshake(b"Sec-WebSocket-Version: 13", KEY))
    while not conversation.received:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert conversation.statuses == [200]
    await conversation.interface.shutdown(1)


async def test_an_application_that_knows_http_only_denies_the_handshake_with_its_reply() -> None:
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
async def test_e1_pages_of_other_hosts_are_refused(
    origin: str | None, allowed: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    conversation = await opened(origin=origin, ws_allowed_origins=allowed)
    assert conversation.status == status
    assert ("--ws-allowed-origins" in caplog.text) is (status == 403)
