"""A connection and its successors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.helpers import settle, until
from uvicorn.broadcast.redis import reconnecting as module
from uvicorn.broadcast.redis.connection import Link, LinkFailed, refused
from uvicorn.broadcast.redis.reconnecting import Supervised
from uvicorn.broadcast.redis.resp import RedisRefusal

from .test_connection import RecordedLink


class ObedientLink(RecordedLink):
    """Ends when it is told to, as a good driver's does."""

    def abort(self) -> None:
        super().abort()
        self.ended("aborted")


class Recorded(Supervised):
    """Keeps account of its connections."""

    log_level = logging.WARNING

    def __init__(self, connect: Callable[[], Link], connect_timeout: float = 5) -> None:
        async def attempt() -> Link:
            self.attempts += 1
            return connect()

        super().__init__(attempt, "there", connect_timeout)
        self.attempts = 0
        self.course: list[str] = []
        self.failure: Exception | None = None

    def on_made(self, link: Link) -> None:
        self.course.append("made")
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        self.ready()

    def on_lost(self, since: float) -> None:
        self.course.append("lost")


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(module, "_LONGEST_DELAY_SECONDS", 0.001)


def refuse() -> Link:
    raise LinkFailed("nobody there")


async def test_a_connection_that_is_lost_has_a_successor() -> None:
    keeper = Recorded(ObedientLink)
    await keeper.start()
    first = keeper.link
    assert first is not None
    first.give_up("it fell")
    await until(lambda: keeper.course == ["made", "lost", "made"])
    assert keeper.link is not first
    await keeper.stop()


async def test_starting_returns_when_the_first_attempt_has_failed() -> None:
    keeper = Recorded(refuse)
    await keeper.start()
    assert (keeper.link, keeper.trouble, keeper.attempts) == (None, "nobody there", 1)
    await keeper.stop()


@pytest.mark.parametrize("succeeds", [False, True])
async def test_a_driver_that_loses_a_cancellation_is_stopped_all_the_same(
    succeeds: bool, caplog: pytest.LogCaptureFixture
) -> None:
    links: list[Link] = []
    attempts = 0

    async def connect() -> Link:
        nonlocal attempts
        attempts += 1
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        if not succeeds:
            raise LinkFailed("late")
        links.append(ObedientLink())
        return links[-1]

    keeper = Recorded(ObedientLink)
    keeper._connect = connect
    starting = asyncio.create_task(keeper.start())
    await until(lambda: attempts == 1)
    await keeper.stop()
    await starting
    assert (attempts, keeper.course, caplog.messages[1:]) == (1, [], [])
    assert all(link.lost.done() for link in links)


async def test_a_reason_is_logged_once_in_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    keeper = Recorded(refuse)
    await keeper.start()
    await until(lambda: keeper.attempts > 5)
    await keeper.stop()
    assert caplog.messages == ["there: no connection: nobody there; trying again until there is one"]


async def test_reasons_that_are_always_new_are_not_logged_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    def refuse_anew() -> Link:
        raise LinkFailed(f"for the {keeper.attempts}th time")

    keeper = Recorded(refuse_anew)
    await keeper.start()
    await until(lambda: keeper.attempts > 20)
    await keeper.stop()
    assert len(caplog.messages) == 10


async def test_a_driver_that_fails_in_its_own_way_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    failures = [ZeroDivisionError("a fault")]

    def fail_once() -> Link:
        if failures:
            raise failures.pop()
        return ObedientLink()

    keeper = Recorded(fail_once)
    await keeper.start()
    await until(lambda: keeper.link is not None)
    await keeper.stop()
    assert "there: failed in a way that was not foreseen" in caplog.text


async def test_a_fault_in_our_own_callbacks_costs_the_connection_only() -> None:
    keeper = Recorded(ObedientLink)
    keeper.failure = ZeroDivisionError("a fault")
    await keeper.start()
    await until(lambda: keeper.course == ["made", "lost", "made"])
    await keeper.stop()


async def test_an_attempt_that_takes_too_long_is_given_up() -> None:
    class Slow(Recorded):
        async def _attempt(self) -> Link:
            self.attempts += 1
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    keeper = Slow(ObedientLink, connect_timeout=0.01)
    keeper._connect = keeper._attempt
    await keeper.start()
    assert keeper.trouble == "no answer within 0.01 s"
    await keeper.stop()


async def test_hurrying_makes_the_next_attempt_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_DELAY_SECONDS", 1000.0)
    keeper = Recorded(refuse)
    await keeper.start()
    await settle()
    assert keeper.attempts == 1
    keeper.hurry()
    await until(lambda: keeper.attempts == 2)
    await keeper.stop()


async def test_stopping_closes_the_connection() -> None:
    keeper = Recorded(ObedientLink)
    await keeper.start()
    link = keeper.link
    assert isinstance(link, ObedientLink)
    await keeper.stop()
    assert (link.aborted, keeper.link, keeper.trouble) == (True, None, "stopped")


async def test_stopping_what_was_never_started_does_nothing() -> None:
    await Recorded(ObedientLink).stop()


async def test_starting_does_not_wait_for_ever_for_a_connection_that_does_not_become_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Never(Recorded):
        def on_made(self, link: Link) -> None:
            self.course.append("made")

    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.01)
    keeper = Never(ObedientLink, connect_timeout=0.01)
    await keeper.start()
    assert keeper.course == ["made"]
    await keeper.stop()


async def test_a_connection_that_is_denied_is_one_error_and_is_tried_again_every_30_s(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "DENIED_SECONDS", 1000.0)

    def deny() -> Link:
        raise refused(RedisRefusal("WRONGPASS invalid username-password pair"))

    keeper = Recorded(deny)
    await keeper.start()
    await settle()
    assert keeper.attempts == 1
    assert [(record.levelno, record.message) for record in caplog.records] == [
        (
            logging.ERROR,
            "there: no connection: Redis refuses AUTH: WRONGPASS invalid username-password pair; trying again every"
            " 1000 s",
        )
    ]
    await keeper.stop()


async def test_a_connection_that_is_refused_for_the_moment_is_tried_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "DENIED_SECONDS", 1000.0)

    def refuse_for_now() -> Link:
        raise refused(RedisRefusal("BUSY a script"), "SELECT")

    keeper = Recorded(refuse_for_now)
    await keeper.start()
    await until(lambda: keeper.attempts > 3)
    assert keeper.trouble == "Redis refuses SELECT: BUSY a script"
    await keeper.stop()
