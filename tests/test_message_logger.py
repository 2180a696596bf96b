"""`--log-level trace`: the messages of an ASGI application in the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

import uvicorn
from tests.helpers import GET, Conversation, hello, settle
from uvicorn.logging import TRACE_LOG_LEVEL


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"tea"})


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


async def test_channels_application_is_not_wrapped_at_level_trace(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(TRACE_LOG_LEVEL, "uvicorn.asgi"):
        assert uvicorn.Config(hello, log_config=None).load().app is hello
