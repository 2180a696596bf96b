"""ASGI 3 connections as members of groups."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.helpers import settle
from uvicorn.broadcast.asgi3 import ASGI3Reply
from uvicorn.errors import LocalProtocolError

Event = dict[str, Any]
ACCEPT: Event = {"type": "websocket.accept"}
START: Event = {"type": "http.response.start", "status": 200, "headers": []}


class Client:
    """Records the events of the application."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)


async def opened(kind: str) -> tuple[Client, ASGI3Reply]:
    client = Client()
    reply = ASGI3Reply(kind, client)
    await reply.send_as_application(ACCEPT if kind == "websocket" else START)
    client.events.clear()
    return client, reply


@pytest.mark.parametrize(
    ("message", "events"),
    [
        ({"text": "a"}, [{"type": "websocket.send", "text": "a"}]),
        ({"text": None, "bytes": b"a"}, [{"type": "websocket.send", "bytes": b"a"}]),
        ({"close": True}, [{"type": "websocket.close", "code": 1000, "reason": ""}]),
        (
            {"text": "a", "close": 4000, "reason": "bye"},
            [{"type": "websocket.send", "text": "a"}, {"type": "websocket.close", "code": 4000, "reason": "bye"}],
        ),
    ],
)
async def test_group_message_becomes_asgi_websocket_events(message: Event, events: list[Event]) -> None:
    client, reply = await opened("websocket")
    await reply.send(message)
    assert client.events == events


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ({"content": b"a", "more_content": True}, {"type": "http.response.body", "body": b"a", "more_body": True}),
        ({"content": b"a"}, {"type": "http.response.body", "body": b"a", "more_body": False}),
    ],
)
async def test_group_message_with_content_becomes_an_asgi_response_chunk(message: Event, event: Event) -> None:
    client, reply = await opened("http")
    await reply.send(message)
    assert client.events == [event]


@pytest.mark.parametrize(
    ("kind", "message"), [("http", {"text": "a"}), ("http", {"status": 200, "content": b""}), ("websocket", {})]
)
async def test_asgi_reply_channel_rejects_a_message_that_does_not_fit_the_connection(kind: str, message: Event) -> None:
    _, reply = await opened(kind)
    with pytest.raises(LocalProtocolError, match="expected"):
        await reply.send(message)


async def test_no_group_message_is_sent_before_an_asgi_connection_is_open() -> None:
    client = Client()
    reply = ASGI3Reply("websocket", client)
    sending = asyncio.ensure_future(reply.send({"text": "a"}))
    await settle()
    assert client.events == []
    await reply.send_as_application(ACCEPT)
    await sending
    assert [event["type"] for event in client.events] == ["websocket.accept", "websocket.send"]


async def test_no_group_message_is_sent_to_a_rejected_handshake() -> None:
    client = Client()
    reply = ASGI3Reply("websocket", client)
    sending = asyncio.ensure_future(reply.send({"text": "a"}))
    await settle()
    await reply.send_as_application({"type": "websocket.close"})
    await sending
    assert [event["type"] for event in client.events] == ["websocket.close"]


@pytest.mark.parametrize(
    ("kind", "last"),
    [("websocket", {"type": "websocket.close"}), ("http", {"type": "http.response.body", "body": b""})],
)
async def test_the_last_event_of_an_asgi_application_closes_the_reply_channel(kind: str, last: Event) -> None:
    _, reply = await opened(kind)
    closed: list[str] = []
    reply.on_close(lambda: closed.append("once"))
    await reply.send_as_application(last)
    reply.close()
    assert closed == ["once"]


async def test_closed_reply_channel_calls_a_new_callback_at_once() -> None:
    _, reply = await opened("http")
    reply.close()
    closed: list[str] = []
    reply.on_close(lambda: closed.append("late"))
    assert closed == ["late"]


async def test_asgi_reply_channel_has_a_constant_name_with_the_prefix_reply() -> None:
    _, reply = await opened("http")
    assert reply.name.startswith("reply.") and reply.name is reply.name
