"""Publishing while Redis gives transient error replies."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.helpers import settle, until
from uvicorn.broadcast.backend import BackendMetrics, BackendOptions
from uvicorn.broadcast.redis import publisher as module
from uvicorn.broadcast.redis.connection import RedisConnection
from uvicorn.broadcast.redis.publisher import RedisPublisher
from uvicorn.broadcast.redis.resp import RedisRefusal
from uvicorn.errors import BroadcastUnavailable

from .test_reconnecting import ObedientConnection

BUSY = RedisRefusal("BUSY Redis is busy running a script.")
TAKEN = 1


class QuietConnection(ObedientConnection):
    """A connection whose bytes have all been sent."""

    @property
    def unsent_bytes(self) -> int:
        return 0


class Conversation:
    """A publisher whose replies the test sends."""

    def __init__(self, publish_timeout: float) -> None:
        self.connection = QuietConnection()
        self.metrics = BackendMetrics()
        options = BackendOptions(publish_timeout, connect_timeout=5)
        self.publisher = RedisPublisher(self._connect, "there", options, self.metrics)

    async def _connect(self) -> RedisConnection:
        return self.connection

    async def publish(self, *texts: bytes, channel: bytes = b"chat") -> list[asyncio.Task[None]]:
        tasks = [asyncio.create_task(self.publisher.publish(b"PUBLISH", channel, text)) for text in texts]
        for task in tasks:
            # Looked at, in case the test does not.
            task.add_done_callback(lambda task: task.cancelled() or task.exception())
        await settle()
        return tasks

    def answer(self, *replies: object) -> None:
        for reply in replies:
            self.connection.reply_received(reply)

    @property
    def texts(self) -> list[bytes]:
        """The published texts, in order."""
        return [command[2] for command in self.connection.sent]

    async def until_sent(self, *texts: bytes) -> None:
        await until(lambda: self.texts == list(texts))


@asynccontextmanager
async def conversation(publish_timeout: float = 30.0) -> AsyncIterator[Conversation]:
    talk = Conversation(publish_timeout)
    await talk.publisher.start()
    yield talk
    talk.connection.abort("the test is over")
    await talk.publisher.stop()


class Timeouts:
    """The timeouts of messages that wait for a retry. They expire when the test says so, not after a time."""

    def __init__(self) -> None:
        self._begun: list[asyncio.Timeout] = []

    def timeout_at(self, when: float) -> asyncio.Timeout:
        timeout = asyncio.timeout(None)
        self._begun.append(timeout)
        return timeout

    def expire(self) -> None:
        for timeout in self._begun:
            timeout.reschedule(0.0)


@pytest.fixture
def timeouts(monkeypatch: pytest.MonkeyPatch) -> Timeouts:
    timeouts = Timeouts()
    monkeypatch.setattr(asyncio, "timeout_at", timeouts.timeout_at)
    return timeouts


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(module, "LONGEST_RETRY_SECONDS", 0.001)


@pytest.mark.parametrize("code", ["BUSY", "LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN"])
async def test_a_publish_with_a_transient_error_is_retried_until_redis_accepts_it(code: str) -> None:
    async with conversation() as talk:
        (publishing,) = await talk.publish(b"a")
        talk.answer(RedisRefusal(f"{code} not now"))
        await talk.until_sent(b"a", b"a")
        talk.answer(RedisRefusal(f"{code} not now"))
        await talk.until_sent(b"a", b"a", b"a")
        talk.answer(TAKEN)
        await publishing
        assert (talk.metrics.published, talk.metrics.publish_failures) == (1, 0)


async def test_publishes_with_transient_errors_are_retried_in_order() -> None:
    async with conversation() as talk:
        publishing = await talk.publish(b"a", b"b", b"c")
        talk.answer(BUSY, BUSY, BUSY)
        await talk.until_sent(b"a", b"b", b"c", b"a")
        talk.answer(TAKEN)
        await talk.until_sent(b"a", b"b", b"c", b"a", b"b", b"c")
        talk.answer(TAKEN, TAKEN)
        await asyncio.gather(*publishing)


async def test_new_publish_waits_for_the_retries_of_earlier_publishes() -> None:
    async with conversation() as talk:
        publishing = await talk.publish(b"a", b"b")
        talk.answer(BUSY)
        await settle(3)
        publishing += await talk.publish(b"c")
        talk.answer(BUSY)
        await talk.until_sent(b"a", b"b", b"a")
        talk.answer(TAKEN)
        await talk.until_sent(b"a", b"b", b"a", b"b", b"c")
        talk.answer(TAKEN, TAKEN)
        await asyncio.gather(*publishing)


async def test_publishes_keep_their_order_after_two_refusals() -> None:
    async with conversation() as talk:
        publishing = await talk.publish(b"a", b"b", b"c")
        talk.answer(BUSY, BUSY, BUSY)
        await talk.until_sent(b"a", b"b", b"c", b"a")
        talk.answer(TAKEN)
        await talk.until_sent(b"a", b"b", b"c", b"a", b"b", b"c")
        talk.answer(BUSY, BUSY)
        publishing += await talk.publish(b"d")
        await talk.until_sent(b"a", b"b", b"c", b"a", b"b", b"c", b"b")
        talk.answer(TAKEN)
        await talk.until_sent(b"a", b"b", b"c", b"a", b"b", b"c", b"b", b"c", b"d")
        talk.answer(TAKEN, TAKEN)
        await asyncio.gather(*publishing)


async def test_refused_publish_raises_if_redis_has_accepted_a_later_publish() -> None:
    async with conversation() as talk:
        first, second = await talk.publish(b"a", b"b")
        talk.answer(BUSY, TAKEN)
        await second
        with pytest.raises(BroadcastUnavailable, match="a later message was accepted"):
            await first
        await settle()
        assert talk.texts == [b"a", b"b"]


async def test_refused_publish_is_retried_after_a_later_publish_to_another_group() -> None:
    async with conversation() as talk:
        (first,) = await talk.publish(b"a")
        (second,) = await talk.publish(b"b", channel=b"other")
        talk.answer(BUSY, TAKEN)
        await second
        await talk.until_sent(b"a", b"b", b"a")
        talk.answer(TAKEN)
        await first


async def test_publish_timeout_error_contains_the_refusal_from_redis(timeouts: Timeouts) -> None:
    async with conversation() as talk:
        first, second = await talk.publish(b"a", b"b")
        talk.answer(BUSY, BUSY)
        await talk.until_sent(b"a", b"b", b"a")
        talk.answer(BUSY)
        timeouts.expire()
        for publishing in (first, second):
            with pytest.raises(BroadcastUnavailable, match="not accepted within 30 s: Redis refuses: BUSY"):
                await publishing
        assert talk.metrics.publish_failures == 2


async def test_a_publish_that_has_timed_out_is_not_retried(timeouts: Timeouts) -> None:
    async with conversation() as talk:
        publishing = await talk.publish(b"a")
        talk.answer(BUSY)
        await talk.until_sent(b"a", b"a")
        timeouts.expire()
        with pytest.raises(BroadcastUnavailable, match="the message may have arrived"):
            await publishing[0]
        talk.answer(BUSY)
        await until(lambda: talk.publisher._resending is None)
        publishing = await talk.publish(b"b")
        talk.answer(TAKEN)
        await publishing[0]
        assert talk.texts == [b"a", b"a", b"b"]


async def test_cancelled_publish_is_not_retried() -> None:
    async with conversation() as talk:
        first, second = await talk.publish(b"a", b"b")
        talk.answer(BUSY, BUSY)
        await settle(3)
        first.cancel()
        await talk.until_sent(b"a", b"b", b"b")
        talk.answer(TAKEN)
        await second


async def test_refused_publish_raises_if_redis_disconnects_before_the_retry() -> None:
    async with conversation() as talk:
        first, second = await talk.publish(b"a", b"b")
        talk.answer(BUSY)
        await settle(3)
        talk.connection.abort("it fell")
        with pytest.raises(BroadcastUnavailable, match="may have arrived"):
            await second
        with pytest.raises(BroadcastUnavailable):
            await first
        assert talk.texts == [b"a", b"b"]


@pytest.mark.parametrize("said", ["NOPERM no", "NOAUTH no", "ERR unknown command"])
async def test_a_permanent_error_reply_to_a_publish_raises_at_once(said: str) -> None:
    async with conversation() as talk:
        (publishing,) = await talk.publish(b"a")
        talk.answer(RedisRefusal(said))
        with pytest.raises(BroadcastUnavailable, match=f"Redis refuses: {said}"):
            await publishing
        assert (talk.texts, talk.metrics.publish_failures) == ([b"a"], 1)


async def test_retried_publish_raises_if_redis_denies_it() -> None:
    async with conversation() as talk:
        (publishing,) = await talk.publish(b"a")
        talk.answer(BUSY)
        await talk.until_sent(b"a", b"a")
        talk.answer(RedisRefusal("MOVED 1 elsewhere:1"))
        with pytest.raises(BroadcastUnavailable, match="MOVED") as caught:
            await publishing
        assert isinstance(caught.value.__cause__, RedisRefusal)


async def test_a_denied_publish_is_logged_once_with_group_and_command(caplog: pytest.LogCaptureFixture) -> None:
    async with conversation() as talk:
        publishing = await talk.publish(b"a", b"b", channel=b"se\ncret")
        talk.answer(RedisRefusal("NOPERM no"), RedisRefusal("NOPERM no"))
        await asyncio.wait(publishing)
        assert all(task.exception() is not None for task in publishing)
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert r"group 'se\ncret': Redis refuses PUBLISH: NOPERM no" in caplog.text


async def test_publisher_limits_the_messages_that_wait_for_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNANSWERED", 3)
    async with conversation() as talk:
        first = await talk.publish(b"a")
        talk.answer(BUSY)
        await settle(3)
        publishing = first + await talk.publish(b"b", b"c", b"d")
        with pytest.raises(BroadcastUnavailable, match="3 messages .* are waiting for Redis"):
            await publishing[-1]


async def test_publish_raises_if_unsent_messages_exceed_the_byte_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNSENT_BYTES", 100)
    async with conversation() as talk:
        await talk.publish(b"a")
        talk.answer(BUSY)
        await settle(3)
        (second,) = await talk.publish(b"x" * 100)
        with pytest.raises(BroadcastUnavailable, match="the message was not sent"):
            await second


async def test_refused_publish_raises_if_the_publisher_stops_before_the_retry() -> None:
    async with conversation(publish_timeout=0.01) as talk:
        talk.publisher._publish_timeout = 30.0
        (publishing,) = await talk.publish(b"a")
        talk.answer(BUSY)
        await settle(3)
        talk.publisher._publish_timeout = 0.01
        await talk.publisher.stop()
        with pytest.raises(BroadcastUnavailable, match="stopped"):
            await publishing
