"""Acknowledgements, error replies and gaps. The test sends the replies of Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.broadcast.recorder import Gap, Message, Recorder
from tests.helpers import settle, until
from uvicorn.broadcast.backend import RECONNECT, BackendMetrics, Receiver
from uvicorn.broadcast.redis import reconnecting as supervised
from uvicorn.broadcast.redis.connection import RedisConnection
from uvicorn.broadcast.redis.resp import RedisRefusal
from uvicorn.broadcast.redis.subscriber import Subscriber
from uvicorn.broadcast.redis.subscription import PLAIN, SHARDED, Subscription, Verbs

from .test_reconnecting import ObedientConnection


class Conversation:
    """A subscriber and its recorded messages. The test sends replies on the subscriber's connections."""

    def __init__(self, verbs: Verbs = PLAIN) -> None:
        self.recorder = Recorder()
        self.connections: list[ObedientConnection] = []
        self.moved: list[Subscription] = []
        self.metrics = BackendMetrics()
        receiver = Receiver(self.recorder.on_message, self.recorder.on_gap, self.metrics)
        on_moved = self.moved.append if verbs is SHARDED else None
        self.subscriber = Subscriber(self._connect, "there", 5, receiver, on_moved)

    async def _connect(self) -> RedisConnection:
        self.connections.append(ObedientConnection())
        return self.connections[-1]

    @property
    def connection(self) -> ObedientConnection:
        return self.connections[-1]

    async def until_connected(self, count: int) -> None:
        await until(lambda: len(self.connections) == count and self.subscriber.current is self.connection)

    def answer(self, *replies: object) -> None:
        for reply in replies:
            self.connection.reply_received(reply)

    def subscribe(self, *groups: str) -> asyncio.Task[None]:
        subscriptions = [Subscription(group, group.encode()) for group in groups]
        return asyncio.create_task(self.subscriber.subscribe(subscriptions))


@asynccontextmanager
async def conversation(verbs: Verbs = PLAIN) -> AsyncIterator[Conversation]:
    """A connected subscriber without groups."""
    talk = Conversation(verbs)
    starting = asyncio.create_task(talk.subscriber.start())
    await talk.until_connected(1)
    talk.answer(b"PONG")
    await starting
    yield talk
    await talk.subscriber.stop()
    # Those that wait for it go on.
    await settle()


def acknowledged(group: bytes) -> list[object]:
    return [b"subscribe", group, 1]


def message(group: bytes, payload: bytes) -> list[object]:
    return [b"message", group, payload]


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervised, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(supervised, "LONGEST_DELAY_SECONDS", 0.001)


async def test_subscribing_waits_for_the_acknowledgement_of_each_group() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a", "b")
        await settle()
        talk.answer(acknowledged(b"a"))
        await settle()
        assert not subscribing.done()
        talk.answer(acknowledged(b"b"))
        await subscribing
        assert talk.connection.sent == [(b"PING",), (b"SUBSCRIBE", b"a", b"b")]


async def test_each_group_reports_a_gap_before_its_first_message_after_a_reconnect() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a", "b")
        await settle()
        talk.answer(acknowledged(b"a"), acknowledged(b"b"))
        await subscribing
        talk.connection.abort("it fell")
        await talk.until_connected(2)
        talk.answer(acknowledged(b"a"), message(b"a", b"x"))
        assert [type(event) for event in talk.recorder.events] == [Gap, Message]
        talk.answer(acknowledged(b"b"), b"PONG")
        assert [gap.group for gap in talk.recorder.gaps] == ["a", "b"]


async def test_late_acknowledgement_does_not_confirm_a_new_subscription() -> None:
    async with conversation() as talk:
        talk.subscribe("a")
        await settle()
        talk.subscriber.unsubscribe([b"a"])
        again = talk.subscribe("a")
        await settle()
        talk.answer(acknowledged(b"a"), message(b"a", b"of the time before"))
        await settle()
        assert not again.done()
        talk.answer([b"unsubscribe", b"a", 0], acknowledged(b"a"), message(b"a", b"x"))
        await again
        assert talk.recorder.payloads == [b"x"]


async def test_pending_subscribe_call_returns_when_the_group_is_unsubscribed() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a")
        await settle()
        talk.subscriber.unsubscribe([b"a"])
        await subscribing


async def test_pending_subscribe_call_reports_a_gap_when_the_connection_is_lost() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a")
        await settle()
        talk.connection.abort("it fell")
        await subscribing
        await talk.until_connected(2)
        talk.answer(acknowledged(b"a"), b"PONG")
        assert [(gap.group, gap.reason) for gap in talk.recorder.gaps] == [("a", RECONNECT)]


async def test_an_unreported_gap_is_merged_with_the_next_gap() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a", "b")
        await settle()
        talk.answer(acknowledged(b"a"), acknowledged(b"b"))
        await subscribing
        talk.connection.last_byte_at -= 100
        talk.connection.abort("it fell")
        await talk.until_connected(2)
        talk.answer(acknowledged(b"a"))
        talk.connection.abort("and again")
        await talk.until_connected(3)
        talk.answer(acknowledged(b"a"), acknowledged(b"b"), b"PONG")
        assert [gap.group for gap in talk.recorder.gaps] == ["a", "b"]
        assert all(gap.since < time.time() - 99 for gap in talk.recorder.gaps)


async def test_each_group_of_a_refused_subscribe_command_is_retried_alone() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a", "b", "c")
        await settle()
        talk.answer(RedisRefusal("NOPERM no"))
        assert talk.connection.sent[-3:] == [(b"SUBSCRIBE", b"a"), (b"SUBSCRIBE", b"b"), (b"SUBSCRIBE", b"c")]
        talk.answer(acknowledged(b"a"), RedisRefusal("NOPERM no"), acknowledged(b"c"))
        await subscribing
        talk.answer(message(b"a", b"1"), message(b"b", b"2"), message(b"c", b"3"))
        assert talk.recorder.payloads == [b"1", b"3"]


async def test_refused_group_is_not_retried_after_it_is_unsubscribed() -> None:
    async with conversation() as talk:
        talk.subscribe("a", "b")
        await settle()
        talk.subscriber.unsubscribe([b"a", b"b"])
        sent = len(talk.connection.sent)
        talk.answer(RedisRefusal("NOPERM no"))
        assert len(talk.connection.sent) == sent


@pytest.mark.parametrize("reply", [b"surprise", [b"subscribe", b"a", 1], [b"unsubscribe", b"a", 0]])
async def test_an_unexpected_reply_aborts_the_connection(reply: object) -> None:
    async with conversation() as talk:
        first = talk.connection
        talk.answer(reply)
        assert first.aborted
        await talk.until_connected(2)


async def test_exception_in_the_on_gap_callback_does_not_stop_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    async with conversation() as talk:

        def fail(*gap: object) -> None:
            raise RuntimeError("dropped it")

        monkeypatch.setattr(talk.subscriber, "_on_gap", fail)
        subscribing = talk.subscribe("a")
        await settle()
        talk.connection.abort("it fell")
        await subscribing
        await talk.until_connected(2)
        talk.answer(acknowledged(b"a"), b"PONG", message(b"a", b"x"))
        assert talk.recorder.payloads == [b"x"]


# Of a cluster.


async def test_MOVED_reply_reports_the_moved_group_and_begins_a_gap() -> None:
    async with conversation(SHARDED) as talk:
        subscribing = talk.subscribe("a")
        await settle()
        talk.answer(RedisRefusal("MOVED 1 elsewhere:6379"))
        await subscribing
        assert [(entry.name, entry.gap_since is not None) for entry in talk.moved] == [("a", True)]
        assert not talk.subscriber.channels


async def test_moved_group_is_reported_once_after_two_unsubscribe_pushes() -> None:
    async with conversation(SHARDED) as talk:
        subscribing = talk.subscribe("a")
        await settle()
        talk.answer([b"ssubscribe", b"a", 1])
        await subscribing
        talk.answer([b"sunsubscribe", b"a", 0], [b"sunsubscribe", b"a", 0])
        assert [entry.name for entry in talk.moved] == ["a"]
        assert not talk.connection.aborted


async def test_subscriber_reports_the_gap_of_a_moved_group_after_subscribing_again() -> None:
    async with conversation(SHARDED) as talk:
        entry = Subscription("a", b"a")
        entry.gap_since = 1.0
        talk.subscriber.adopt([entry])
        assert not talk.recorder.gaps
        talk.answer([b"ssubscribe", b"a", 1])
        assert talk.recorder.gaps == [Gap("a", RECONNECT, 1.0)]
