"""`--log-level trace`: the messages of an application, and connections, in the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import uvicorn
from tests.helpers import GET, Conversation, hello, settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.logging import TRACE_LOG_LEVEL


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"tea"})


async def silent(message: dict[str, Any], channels: dict[str, Any]) -> None: ...


async def messages_of(app: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    """The first words of the lines on `uvicorn.asgi` for one request."""
    interface: Any = uvicorn.Config(app, log_config=None).load()
    conversation = Conversation(interface.app, lifespan="off")
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [200]
    await conversation.lose()
    return [
        " ".join(record.getMessage().partition("] ")[2].split()[:3])
        for record in caplog.records
        if record.name == "uvicorn.asgi"
    ]


async def test_messages_of_an_asgi_application_are_logged_at_level_trace(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(TRACE_LOG_LEVEL, "uvicorn.asgi"):
        lines = await messages_of(app, caplog)
    assert lines == [
        "Started scope={'type': 'http',",
        "Send {'type': 'http.response.start',",
        "Send {'type': 'http.response.body',",
        "Completed",
    ]


async def test_messages_are_not_logged_at_level_debug(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "uvicorn.asgi"):
        assert await messages_of(app, caplog) == []


async def test_channels_messages_are_logged_at_level_trace(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(TRACE_LOG_LEVEL, "uvicorn.asgi"):
        lines = await messages_of(hello, caplog)
    assert lines == ["Receive {'channel': 'http.request',", "Send {'status': 200,"]


async def test_websocket_messages_are_logged_at_level_trace_without_their_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def echo(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.receive":
            await channels["reply"].send({"text": message["text"]})

    with caplog.at_level(TRACE_LOG_LEVEL, "uvicorn.asgi"):
        interface: Any = uvicorn.Config(echo, log_config=None).load()
        conversation = WebSocketConversation(interface.app)
        await conversation.open()
        await conversation.say("secret")
        await conversation.lose()
    lines = [line.partition("] ")[2] for line in caplog.messages if "Channels [" in line]
    assert conversation.heard == ["secret"]
    assert [line for line in lines if line.startswith("Send")] == ["Send {'text': '<6 characters>'}"]
    assert not any("secret" in line for line in lines)


async def test_reply_channel_can_join_a_group_while_messages_are_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def member(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.connect":
            await channels["groups"].send({"group": "tea", "add": channels["reply"].name})
        if message["channel"] == "websocket.receive":
            await channels["groups"].send({"group": "tea", "send": {"text": message["text"]}})

    with caplog.at_level(TRACE_LOG_LEVEL, "uvicorn.asgi"):
        interface: Any = uvicorn.Config(BroadcastMiddleware(member), log_config=None).load()
        conversation = WebSocketConversation(interface.app)
        await conversation.open()
        await until(lambda: conversation.status == 101)
        await conversation.say("green")
        await until(lambda: conversation.heard == ["green"])
        await conversation.lose()


async def test_message_logger_does_not_wrap_a_consumer(caplog: pytest.LogCaptureFixture) -> None:
    async def consumer(message: dict[str, Any]) -> None: ...

    with caplog.at_level(TRACE_LOG_LEVEL, "uvicorn.asgi"):
        interface: Any = uvicorn.Config(consumer, log_config=None).load()
    assert interface.app is consumer


async def test_http_and_websocket_connections_are_logged_at_level_trace(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(TRACE_LOG_LEVEL, "uvicorn.error"):
        conversation = WebSocketConversation(silent)
        await conversation.open()
        await conversation.lose()
        plain = Conversation(hello)
        plain.send(GET)
        await settle()
        await plain.lose()
    lines = [line for line in caplog.messages if " - " in line]
    assert [line.partition(" - ")[2] for line in lines] == [
        "HTTP connection made",
        "Upgrading to WebSocket",
        "WebSocket connection made",
        "WebSocket connection lost",
        "HTTP connection made",
        "HTTP connection lost",
    ]


def test_M20_message_logger_wraps_every_application_of_a_router(caplog: pytest.LogCaptureFixture) -> None:
    table = uvicorn.Router(uvicorn.Route("/a", app), uvicorn.Mount("/in", uvicorn.Router(default=hello)))
    with caplog.at_level(TRACE_LOG_LEVEL, "uvicorn.asgi"):
        interface = uvicorn.Config(table, log_config=None).load()
    assert [type(part.app).__name__ for part in interface.parts] == ["MessageLoggerMiddleware", "ChannelsMessageLogger"]
