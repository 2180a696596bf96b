"""Callbacks for the end of an exchange, and for a client that closes its side before."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.core.test_exchange import ENDS, exchange
from uvicorn.core.exchange import HTTPExchange

pytestmark = pytest.mark.any_loop


def test_on_end_callbacks_are_called_once_with_the_exchange() -> None:
    made, _ = exchange()
    ended: list[HTTPExchange] = []
    made.on_end(ended.append)
    made.on_end(ended.append)
    made.respond(200)
    made.disconnect()
    assert ended == [made, made]


def test_ended_exchange_calls_a_new_on_end_callback_at_once() -> None:
    made, _ = exchange()
    made.respond(200)
    ended: list[HTTPExchange] = []
    made.on_end(ended.append)
    assert ended == [made]


class Listener:
    """A listener that keeps the exchanges that have ended."""

    def __init__(self) -> None:
        self.ended: list[HTTPExchange] = []

    def on_end(self, exchange: HTTPExchange) -> None:
        self.ended.append(exchange)


@pytest.mark.parametrize("end", ["disconnect", "respond"])
def test_end_listener_of_an_exchange_is_notified_once(end: str) -> None:
    made, _ = exchange()
    made.end_listeners = listener = Listener()
    ENDS[end](made)
    made.disconnect()
    assert listener.ended == [made]


def test_end_listener_is_notified_before_the_on_end_callbacks() -> None:
    made, _ = exchange()
    made.end_listeners = listener = Listener()
    seen: list[int] = []
    for _ in range(2):
        made.on_end(lambda exchange: seen.append(len(listener.ended)))
    made.respond(200)
    assert seen == [1, 1]


def test_half_close_calls_on_close_callbacks_and_no_on_end_callbacks() -> None:
    made, _ = exchange()
    called: list[str] = []
    made.on_end(lambda exchange: called.append("end"))
    made.on_close(lambda: called.append("close"))
    made.half_close()
    assert called == ["close"]


@pytest.mark.parametrize("end", ["half_close", "disconnect", "respond"])
def test_later_disconnect_does_not_repeat_the_on_close_callbacks(end: str) -> None:
    made, _ = exchange()
    called: list[str] = []
    made.on_close(lambda: called.append("first"))
    made.on_close(lambda: called.append("second"))
    ENDS[end](made)
    made.disconnect()
    assert called == ["first", "second"]


@pytest.mark.parametrize("end", ["half_close", "disconnect", "respond"])
def test_closed_exchange_calls_a_new_on_close_callback_at_once(end: str) -> None:
    made, _ = exchange()
    ENDS[end](made)
    called: list[str] = []
    made.on_close(lambda: called.append("closed"))
    assert called == ["closed"]


def fail() -> None:
    raise ValueError("a callback's own")


@pytest.mark.parametrize(
    ("register", "logged"),
    [
        (lambda made, callback: made.on_end(lambda exchange: callback()), "exception in an on_end callback"),
        (lambda made, callback: made.on_close(callback), "exception in an on_close callback"),
    ],
    ids=["on_end", "on_close"],
)
def test_exchange_logs_the_exception_of_a_callback_and_runs_the_next(
    register: Callable[[HTTPExchange, Callable[[], object]], None], logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = exchange()
    called: list[str] = []
    register(made, fail)
    register(made, lambda: called.append("next"))
    made.respond(200)
    assert (called, len(caplog.records), logged in caplog.text) == (["next"], 1, True)


@pytest.mark.parametrize("end", ["disconnect", "half_close", "respond"])
async def test_waiting_for_a_disconnect_returns_when_the_exchange_ends(end: str) -> None:
    made, _ = exchange()
    waiting = asyncio.ensure_future(made.wait_disconnect())
    await asyncio.sleep(0)
    assert not waiting.done()
    ENDS[end](made)
    await waiting
    await made.wait_disconnect()


async def test_cancelled_wait_for_a_disconnect_does_not_end_another_wait() -> None:
    made, _ = exchange()
    first = asyncio.ensure_future(made.wait_disconnect())
    second = asyncio.ensure_future(made.wait_disconnect())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    made.disconnect()
    await second


def test_on_end_callback_that_raises_does_not_prevent_the_next_callback(caplog: pytest.LogCaptureFixture) -> None:
    made, _ = exchange()
    ended: list[HTTPExchange] = []

    def fail(exchange: HTTPExchange) -> None:
        raise ValueError("boom")

    made.on_end(fail)
    made.on_end(ended.append)
    made.respond(200)
    assert ended == [made]
    assert "ValueError: boom" in caplog.text
