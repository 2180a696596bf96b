"""Connections that are replaced when they are lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.helpers import settle, until
from uvicorn.broadcast.redis import reconnecting as module
from uvicorn.broadcast.redis.connection import ConnectFailed, RedisConnection, connect_refused
from uvicorn.broadcast.redis.reconnecting import ReconnectingConnection
from uvicorn.broadcast.redis.resp import RedisRefusal

from .test_connection import RecordedConnection


class ObedientConnection(RecordedConnection):
    """A connection that ends when it is aborted."""

    def abort_transport(self) -> None:
        super().abort_transport()
        self.connection_lost(OSError("aborted"))


class Recorded(ReconnectingConnection):
    """Records the connections that replace each other."""

    log_level = logging.WARNING

    def __init__(self, connect: Callable[[], RedisConnection], connect_timeout: float = 5) -> None:
        async def attempt() -> RedisConnection:
            self.attempts += 1
            return connect()

        super().__init__(attempt, "there", connect_timeout)
        self.attempts = 0
        self.course: list[str] = []
        self.failure: Exception | None = None

    def on_connected(self, connection: RedisConnection) -> None:
        self.course.append("made")
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.ready()

    def on_lost(self, since: float) -> None:
        self.course.append("lost")


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(module, "LONGEST_DELAY_SECONDS", 0.001)


def refuse() -> RedisConnection:
    raise ConnectFailed("refused")


async def test_lost_redis_connection_is_replaced() -> None:
    reconnecting = Recorded(ObedientConnection)
    await reconnecting.start()
    first = reconnecting.current
    assert first is not None
    first.abort("it fell")
    await until(lambda: reconnecting.course == ["made", "lost", "made"])
    assert reconnecting.current is not first
    await reconnecting.stop()


async def test_starting_returns_after_the_first_connection_attempt_fails() -> None:
    reconnecting = Recorded(refuse)
    await reconnecting.start()
    assert (reconnecting.current, reconnecting.failure_reason, reconnecting.attempts) == (None, "refused", 1)
    await reconnecting.stop()


@pytest.mark.parametrize("succeeds", [False, True])
async def test_stopping_ends_a_driver_that_swallows_cancellation(
    succeeds: bool, caplog: pytest.LogCaptureFixture
) -> None:
    connections: list[RedisConnection] = []
    attempts = 0

    async def connect() -> RedisConnection:
        nonlocal attempts
        attempts += 1
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if not succeeds:
            raise ConnectFailed("late")
        connections.append(ObedientConnection())
        return connections[-1]

    reconnecting = Recorded(ObedientConnection)
    reconnecting._connect = connect
    starting = asyncio.create_task(reconnecting.start())
    await until(lambda: attempts == 1)
    await reconnecting.stop()
    await starting
    assert (attempts, reconnecting.course, caplog.messages[1:]) == (1, [], [])
    assert all(connection.lost.done() for connection in connections)


async def test_repeated_connection_failure_is_logged_once_in_an_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reconnecting = Recorded(refuse)
    await reconnecting.start()
    await until(lambda: reconnecting.attempts > 5)
    await reconnecting.stop()
    assert caplog.messages == ["there: no connection: refused; retrying until connected"]


async def test_the_number_of_logged_reasons_in_an_outage_is_limited(caplog: pytest.LogCaptureFixture) -> None:
    def refuse_anew() -> RedisConnection:
        raise ConnectFailed(f"for the {reconnecting.attempts}th time")

    reconnecting = Recorded(refuse_anew)
    await reconnecting.start()
    await until(lambda: reconnecting.attempts > 20)
    await reconnecting.stop()
    assert len(caplog.messages) == 10


async def test_connection_is_retried_after_an_unexpected_driver_exception(caplog: pytest.LogCaptureFixture) -> None:
    failures = [ZeroDivisionError("a fault")]

    def fail_once() -> RedisConnection:
        if failures:
            raise failures.pop()
        return ObedientConnection()

    reconnecting = Recorded(fail_once)
    await reconnecting.start()
    await until(lambda: reconnecting.current is not None)
    await reconnecting.stop()
    assert "there: unexpected error; reconnecting" in caplog.text


async def test_exception_in_the_on_connected_callback_causes_a_reconnect() -> None:
    reconnecting = Recorded(ObedientConnection)
    reconnecting.failure = ZeroDivisionError("a fault")
    await reconnecting.start()
    await until(lambda: reconnecting.course == ["made", "lost", "made"])
    await reconnecting.stop()


async def test_a_connection_attempt_is_limited_by_connect_timeout() -> None:
    class Slow(Recorded):
        async def _attempt(self) -> RedisConnection:
            self.attempts += 1
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    reconnecting = Slow(ObedientConnection, connect_timeout=0.01)
    reconnecting._connect = reconnecting._attempt
    await reconnecting.start()
    assert reconnecting.failure_reason == "no answer within 0.01 s"
    await reconnecting.stop()


async def test_requested_retry_skips_the_delay_before_the_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_DELAY_SECONDS", 1000.0)
    reconnecting = Recorded(refuse)
    await reconnecting.start()
    await settle()
    assert reconnecting.attempts == 1
    reconnecting.retry_now.set()
    await until(lambda: reconnecting.attempts == 2)
    await reconnecting.stop()


async def test_stopping_a_reconnecting_connection_aborts_the_current_connection() -> None:
    reconnecting = Recorded(ObedientConnection)
    await reconnecting.start()
    connection = reconnecting.current
    assert isinstance(connection, ObedientConnection)
    await reconnecting.stop()
    assert (connection.aborted, reconnecting.current, reconnecting.failure_reason) == (True, None, "stopped")


async def test_stopping_a_connection_that_was_never_started_does_nothing() -> None:
    await Recorded(ObedientConnection).stop()


async def test_starting_returns_even_if_the_connection_never_becomes_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Never(Recorded):
        def on_connected(self, connection: RedisConnection) -> None:
            self.course.append("made")

    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    reconnecting = Never(ObedientConnection, connect_timeout=0.01)
    await reconnecting.start()
    assert reconnecting.course == ["made"]
    await reconnecting.stop()


async def test_denied_redis_login_logs_one_error_and_is_not_retried_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "DENIED_SECONDS", 1000.0)

    def deny() -> RedisConnection:
        raise connect_refused(RedisRefusal("WRONGPASS invalid username-password pair"))

    reconnecting = Recorded(deny)
    await reconnecting.start()
    await settle()
    assert reconnecting.attempts == 1
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (
            logging.ERROR,
            "there: no connection: Redis refuses AUTH: WRONGPASS invalid username-password pair; retrying every 1000 s",
        )
    ]
    await reconnecting.stop()


async def test_connection_is_retried_soon_after_a_transient_redis_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DENIED_SECONDS", 1000.0)

    def refuse_for_now() -> RedisConnection:
        raise connect_refused(RedisRefusal("BUSY a script"), "SELECT")

    reconnecting = Recorded(refuse_for_now)
    await reconnecting.start()
    await until(lambda: reconnecting.attempts > 3)
    assert reconnecting.failure_reason == "Redis refuses SELECT: BUSY a script"
    await reconnecting.stop()
