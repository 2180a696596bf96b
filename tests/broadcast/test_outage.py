"""The log while applications send and Redis is down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.broadcast.test_middleware import running
from tests.helpers import GET, Conversation, settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn.broadcast import Publisher
from uvicorn.broadcast.outage import Outage
from uvicorn.errors import BroadcastUnavailable

Message = dict[str, Any]
SENT: Message = {"group": "chat", "send": {"text": "a"}}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_outage_is_logged_every_minute_from_its_start_to_its_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    outage = Outage(clock)
    for _ in range(150):
        outage.failed(BroadcastUnavailable("Redis is down"))
        clock.now += 1
    outage.succeeded()
    outage.succeeded()
    assert caplog.messages == [
        "groups: publishing fails: Redis is down",
        "groups: publishing still fails; 60 messages failed since the last log line: Redis is down",
        "groups: publishing still fails; 60 messages failed since the last log line: Redis is down",
        "groups: publishing works again after 150.0 s; 150 messages failed",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_alternating_publish_failures_and_successes_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    outage = Outage(clock)
    for _ in range(600):
        outage.failed(BroadcastUnavailable("one group is denied"))
        outage.succeeded()
        clock.now += 0.1
    assert len(caplog.messages) == 2
    clock.now += 1
    outage.failed(BroadcastUnavailable("one group is denied"))
    assert len(caplog.messages) == 3


def test_outage_marks_the_publish_error_as_reported() -> None:
    error = BroadcastUnavailable("Redis is down")
    assert not error.reported
    Outage().failed(error)
    assert error.reported


# Applications of all kinds that do not catch it.


def has_answered(client: Conversation, count: int) -> bool:
    return len(client.statuses) == count


class Site:
    async def channels(self, message: Message, channels: dict[str, Any]) -> None:
        if message["channel"] != "websocket.disconnect":
            await channels["groups"].send(SENT)

    async def in_a_task_group(self, message: Message, channels: dict[str, Any]) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(channels["groups"].send(SENT))

    async def consumer(self, message: Message) -> None:
        await message["groups"].send(SENT)

    def consumer_thread(self, message: Message) -> None:
        message["groups"].send(SENT)

    async def asgi(self, scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        await scope["groups"].send(SENT)

    def wsgi(self, environ: Message, start_response: Callable[..., Any]) -> list[bytes]:
        environ["uvicorn.groups"].send(SENT)
        raise AssertionError


@pytest.mark.parametrize("kind", ["channels", "in_a_task_group", "consumer", "consumer_thread", "asgi", "wsgi"])
async def test_failed_publish_in_a_request_gives_500_without_a_traceback(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(getattr(Site(), kind)) as (app, backend):
        backend.failure = BroadcastUnavailable("Redis is down")
        client = Conversation(app)
        for count in range(1, 4):
            client.send(GET)
            await until(partial(has_answered, client, count))
        assert client.statuses == [500, 500, 500]
        assert caplog.messages == ["groups: publishing fails: Redis is down"]
        await client.interface.shutdown(1)


@pytest.mark.parametrize("kind", ["channels", "asgi"])
async def test_a_websocket_whose_publish_fails_logs_no_traceback(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async with running(getattr(Site(), kind)) as (app, backend):
        backend.failure = BroadcastUnavailable("Redis is down")
        client = WebSocketConversation(app)
        await client.open()
        await settle()
        assert caplog.messages == ["groups: publishing fails: Redis is down"]
        await client.lose()


async def test_failed_publishes_of_websocket_messages_log_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(message: Message, channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.receive":
            await channels["groups"].send(SENT)

    async with running(talk) as (app, backend):
        client = WebSocketConversation(app)
        await client.open()
        backend.failure = BroadcastUnavailable("Redis is down")
        await client.say("a", "b", "c")
        assert caplog.messages == ["groups: publishing fails: Redis is down"]
        await client.lose()


async def test_failed_publish_in_a_gap_handler_logs_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(message: Message, channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.connect":
            await channels["groups"].send({"group": "chat", "add": channels["reply"].name})
        elif message["channel"] == "groups.gap":
            await channels["groups"].send(SENT)

    async with running(talk) as (app, backend):
        client = WebSocketConversation(app)
        await client.open()
        backend.failure = BroadcastUnavailable("Redis is down")
        caplog.clear()
        backend.lose("chat")
        await settle()
        assert [message[:25] for message in caplog.messages] == [
            "messages may have been lo",
            "groups: publishing fails:",
        ]
        await client.lose()


async def test_broadcast_error_of_the_application_is_logged_with_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: Message, channels: dict[str, Any]) -> None:
        raise BroadcastUnavailable("of my own")

    client = Conversation(app)
    client.send(GET)
    await settle()
    assert "WAITING>: of my own" in caplog.text and "Traceback" in caplog.text


def test_synchronous_publisher_logs_an_outage_once(caplog: pytest.LogCaptureFixture) -> None:
    with Publisher("unix:///nowhere/redis.sock") as publisher:
        for _ in range(3):
            with pytest.raises(BroadcastUnavailable) as caught:
                publisher.publish("chat", {})
            assert caught.value.reported
    assert len(caplog.messages) == 1
    assert "groups: publishing fails: unix:///nowhere/redis.sock" in caplog.messages[0]
