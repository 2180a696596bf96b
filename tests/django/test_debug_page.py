"""With DEBUG, an exception of a coroutine inside `DjangoThreads` is shown by Django's debug page."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

import tests.django.site  # noqa: F401 - configures Django.
from tests.helpers import Conversation, until
from tests.websocket_client import WebSocketConversation
from uvicorn.django import DjangoThreads

GET = b"GET /page HTTP/1.1\r\nhost: site.example\r\n\r\n"


async def channels_app(message: Any, channels: Any) -> None:
    raise LookupError("of the application")


async def asgi3_app(scope: Any, receive: Any, send: Any) -> None:
    raise LookupError("of the application")


async def late_app(message: Any, channels: Any) -> None:
    await channels["reply"].send({"status": 200, "content": b"begun", "more_content": True})
    raise LookupError("of the application")


async def asked(app: Any) -> Conversation:
    conversation = Conversation(DjangoThreads(app))
    await conversation.interface.startup()
    conversation.send(GET)
    await until(lambda: not conversation.interface.tasks.running and conversation.received)
    await conversation.interface.shutdown(0)
    await conversation.lose()
    return conversation


@pytest.mark.parametrize("app", [channels_app, asgi3_app])
async def test_exception_is_shown_on_the_debug_page_if_debug_is_on(app: Any) -> None:
    with override_settings(DEBUG=True):
        [response] = (await asked(app)).responses()
    assert (response.status, b"LookupError at /page" in response.content) == (500, True)


@pytest.mark.parametrize("app", [channels_app, asgi3_app])
async def test_exception_gives_a_plain_500_response_if_debug_is_off(app: Any) -> None:
    with override_settings(DEBUG=False):
        [response] = (await asked(app)).responses()
    assert (response.status, response.content) == (500, b"Internal Server Error\n")


async def test_exception_is_logged_even_if_debug_is_on(caplog: pytest.LogCaptureFixture) -> None:
    with override_settings(DEBUG=True):
        await asked(channels_app)
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [LookupError]


async def test_started_response_is_aborted_without_a_debug_page() -> None:
    with override_settings(DEBUG=True):
        conversation = await asked(late_app)
    assert b"LookupError" not in conversation.received and conversation.transport.aborted


async def test_failed_handshake_is_answered_with_the_debug_page() -> None:
    with override_settings(DEBUG=True):
        conversation = WebSocketConversation(DjangoThreads(channels_app), path="/page")
        await conversation.open()
        assert conversation.response is not None and conversation.response.status_code == 500
        await conversation.lose()
