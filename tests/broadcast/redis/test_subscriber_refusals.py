"""Subscriptions that Redis refuses (B17b). Transient errors are retried soon, denials every 30 s."""

from __future__ import annotations

import asyncio
import logging

import pytest

from tests.broadcast.recorder import Gap
from tests.helpers import settle, until
from uvicorn.broadcast.backend import RECONNECT
from uvicorn.broadcast.redis import reconnecting as supervised
from uvicorn.broadcast.redis import subscriber as module
from uvicorn.broadcast.redis.resp import RedisRefusal
from uvicorn.broadcast.redis.subscription import SHARDED

from .test_subscriber import Conversation, acknowledged, conversation, message

BUSY = RedisRefusal("BUSY Redis is busy running a script.")
DENIED = RedisRefusal("NOPERM this user has no permissions")
PASSING = ("BUSY a", "LOADING b", "READONLY c", "CLUSTERDOWN d", "TRYAGAIN e", "MASTERDOWN f")


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_DELAY_SECONDS", "LONGEST_DELAY_SECONDS"):
        monkeypatch.setattr(supervised, name, 0.001)
    for name in ("FIRST_DELAY_SECONDS", "LONGEST_DELAY_SECONDS", "DENIED_SECONDS"):
        monkeypatch.setattr(module, name, 0.001)


async def until_asked(talk: Conversation, *command: bytes, times: int) -> None:
    await until(lambda: talk.connection.sent.count(command) >= times)


async def joined(talk: Conversation, *groups: str) -> None:
    subscribing = talk.subscribe(*groups)
    await settle()
    talk.answer(*(acknowledged(group.encode()) for group in groups))
    await subscribing


@pytest.mark.parametrize("said", PASSING)
async def test_subscription_is_retried_without_a_gap_after_a_transient_error(said: str) -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a")
        await settle()
        for times in (2, 3):
            talk.answer(RedisRefusal(said))
            await until_asked(talk, b"SUBSCRIBE", b"a", times=times)
        assert not subscribing.done()
        talk.answer(acknowledged(b"a"), message(b"a", b"x"))
        await subscribing
        assert (talk.recorder.payloads, talk.recorder.gaps) == ([b"x"], [])


async def test_redis_error_BUSYKEY_counts_as_a_denial_of_the_group() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a")
        await settle()
        talk.answer(RedisRefusal("BUSYKEY no"))
        await subscribing
        assert talk.metrics.denied_groups == 1


async def test_groups_with_a_transient_error_are_retried_in_one_command() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a", "b")
        await settle()
        talk.answer(BUSY)
        await until_asked(talk, b"SUBSCRIBE", b"a", b"b", times=2)
        talk.answer(acknowledged(b"a"), acknowledged(b"b"))
        await subscribing


async def test_reconnect_is_complete_only_after_the_last_group_is_subscribed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with conversation() as talk:
        await joined(talk, "a", "b")
        talk.connection.abort("it fell")
        await talk.until_connected(2)
        talk.answer(BUSY, BUSY)
        assert not talk.subscriber.all_subscribed
        assert "there: connected after" not in caplog.text
        await until_asked(talk, b"SUBSCRIBE", b"a", b"b", times=2)
        talk.answer(acknowledged(b"a"))
        assert not talk.subscriber.all_subscribed
        talk.answer(acknowledged(b"b"))
        assert talk.subscriber.all_subscribed
        assert "there: connected after" in caplog.text
        assert [(gap.group, gap.reason) for gap in talk.recorder.gaps] == [("a", RECONNECT), ("b", RECONNECT)]
        assert talk.recorder.gap_calls == 1


async def test_all_subscribed_is_false_until_redis_accepts_a_refused_group() -> None:
    async with conversation() as talk:
        changes: list[bool] = []
        talk.subscriber.on_change = lambda: changes.append(talk.subscriber.all_subscribed)
        talk.subscribe("a")
        await settle()
        talk.answer(BUSY)
        await until_asked(talk, b"SUBSCRIBE", b"a", times=2)
        talk.answer(acknowledged(b"a"))
        assert changes == [False, True]


async def test_subscribing_to_a_busy_redis_returns_and_reports_a_gap_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SUBSCRIBE_SECONDS", 0.01)
    async with conversation() as talk:
        subscribing = talk.subscribe("a")
        await settle()
        talk.answer(BUSY)
        await subscribing
        talk.answer(acknowledged(b"a"))
        assert [(gap.group, gap.reason) for gap in talk.recorder.gaps] == [("a", RECONNECT)]


async def test_transient_errors_of_several_groups_are_logged_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async with conversation() as talk:
        caplog.clear()
        talk.subscribe("a", "b")
        await settle()
        for times in (2, 3, 4):
            talk.answer(BUSY)
            await until_asked(talk, b"SUBSCRIBE", b"a", b"b", times=times)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        assert "Redis refuses SUBSCRIBE: BUSY" in caplog.text


async def test_starting_a_backend_does_not_wait_for_a_busy_redis() -> None:
    talk = Conversation()
    await talk.subscriber.subscribe([])
    talk.subscribe("a")
    await settle()
    starting = talk.subscriber.start()
    task = asyncio.create_task(starting)
    await talk.until_connected(1)
    talk.answer(BUSY, BUSY)
    await task
    assert not talk.subscriber.all_subscribed
    await talk.subscriber.stop()


async def test_a_group_that_is_unsubscribed_while_redis_is_busy_is_not_retried() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a")
        await settle()
        talk.answer(BUSY)
        talk.subscriber.unsubscribe([b"a"])
        await subscribing
        talk.answer(BUSY)
        await until_asked(talk, b"UNSUBSCRIBE", b"a", times=2)
        assert talk.connection.sent.count((b"SUBSCRIBE", b"a")) == 1
        assert talk.subscriber.all_subscribed


async def test_refused_unsubscribe_is_not_retried_after_the_group_is_joined_again() -> None:
    async with conversation() as talk:
        await joined(talk, "a")
        talk.subscriber.unsubscribe([b"a"])
        talk.answer(BUSY)
        await joined(talk, "a")
        talk.subscribe("b")
        await settle()
        talk.answer(BUSY)
        await until_asked(talk, b"SUBSCRIBE", b"b", times=2)
        assert talk.connection.sent.count((b"UNSUBSCRIBE", b"a")) == 1


async def test_group_that_redis_denies_repeatedly_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with conversation() as talk:
        caplog.clear()
        subscribing = talk.subscribe("a\n")
        await settle()
        for times in (2, 3):
            talk.answer(DENIED)
            await until_asked(talk, b"SUBSCRIBE", b"a\n", times=times)
        await subscribing
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert r"group 'a\n' is not subscribed: Redis refuses SUBSCRIBE: NOPERM" in caplog.text


async def test_denied_group_reports_a_gap_when_redis_accepts_it_later() -> None:
    async with conversation() as talk:
        subscribing = talk.subscribe("a")
        await settle()
        talk.answer(DENIED)
        await subscribing
        assert talk.metrics.denied_groups == 1
        await until_asked(talk, b"SUBSCRIBE", b"a", times=2)
        talk.answer(acknowledged(b"a"), message(b"a", b"x"))
        assert [type(event).__name__ for event in talk.recorder.events] == ["Gap", "Message"]
        assert talk.metrics.denied_groups == 0


async def test_denied_group_does_not_prevent_a_complete_reconnect() -> None:
    async with conversation() as talk:
        await joined(talk, "a", "b")
        talk.connection.abort("it fell")
        await talk.until_connected(2)
        talk.answer(DENIED, b"PONG", acknowledged(b"a"), DENIED)
        assert talk.subscriber.all_subscribed
        assert [gap.group for gap in talk.recorder.gaps] == ["a"]


async def test_denied_group_does_not_delay_other_groups_after_a_reconnect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DENIED_SECONDS", 1000.0)
    async with conversation() as talk:
        await joined(talk, "a", "b")
        denied = talk.subscribe("c")
        await settle()
        talk.answer(DENIED)
        await denied
        talk.connection.abort("it fell")
        await talk.until_connected(2)
        assert talk.connection.sent == [(b"SUBSCRIBE", b"a", b"b"), (b"SUBSCRIBE", b"c"), (b"PING",)]
        assert talk.metrics.denied_groups == 0


async def test_denials_of_many_groups_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with conversation() as talk:
        caplog.clear()
        names = [str(number) for number in range(300)]
        subscribing = talk.subscribe(*names)
        await settle()
        talk.answer(*[DENIED] * 301)
        await subscribing
        assert len(caplog.records) == 100


async def test_denied_group_is_logged_once_although_it_is_joined_repeatedly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with conversation() as talk:
        caplog.clear()
        for _ in range(3):
            subscribing = talk.subscribe("a")
            await settle()
            talk.answer(DENIED)
            await subscribing
            talk.subscriber.unsubscribe([b"a"])
            talk.answer([b"unsubscribe", b"a", 0])
        assert [record.levelname for record in caplog.records].count("ERROR") == 1
        assert talk.metrics.denied_groups == 0


async def test_subscriber_retries_a_busy_cluster_server_without_changing_servers() -> None:
    async with conversation(SHARDED) as talk:
        subscribing = talk.subscribe("a")
        await settle()
        talk.answer(BUSY)
        await until_asked(talk, b"SSUBSCRIBE", b"a", times=2)
        talk.answer([b"ssubscribe", b"a", 1])
        await subscribing
        assert (talk.moved, talk.recorder.gaps) == ([], [])


async def test_subscriber_does_not_retry_a_group_after_releasing_it() -> None:
    async with conversation(SHARDED) as talk:
        talk.subscribe("a")
        await settle()
        talk.answer(BUSY)
        entry = talk.subscriber.release(b"a")
        assert entry.gap_since is not None
        talk.subscribe("b")
        await settle()
        talk.answer(BUSY)
        await until_asked(talk, b"SSUBSCRIBE", b"b", times=2)
        assert talk.connection.sent.count((b"SSUBSCRIBE", b"a")) == 1


async def test_refused_subscription_does_not_change_the_start_time_of_the_gap() -> None:
    async with conversation() as talk:
        await joined(talk, "a")
        talk.connection.last_byte_at -= 100
        talk.connection.abort("it fell")
        await talk.until_connected(2)
        talk.answer(BUSY, BUSY)
        since = talk.subscriber._by_channel[b"a"].gap_since
        await until_asked(talk, b"SUBSCRIBE", b"a", times=2)
        talk.answer(acknowledged(b"a"))
        assert since is not None and talk.recorder.gaps == [Gap("a", RECONNECT, since)]
