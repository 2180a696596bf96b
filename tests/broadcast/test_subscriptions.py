"""Subscriptions of groups that have members."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

import pytest

from tests.helpers import settle, until
from uvicorn.broadcast import subscriptions
from uvicorn.broadcast.subscriptions import Subscriptions
from uvicorn.errors import BroadcastError

pytestmark = pytest.mark.any_loop


class RecordingBackend:
    """A backend whose calls return when the test releases them."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failure: Exception | None = None
        #: A group whose subscription fails.
        self.refused = ""
        self.tasks: list[asyncio.Task[None]] = []
        #: Groups whose subscription was late.
        self.late: list[str] = []
        self.subscriptions = Subscriptions(
            self.subscribe, self.unsubscribe, self.start, lambda groups, reason, since: self.late.extend(groups)
        )

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(coroutine))
        return self.tasks[-1]

    async def subscribe(self, groups: Collection[str]) -> None:
        await self._answer("+", groups)

    async def unsubscribe(self, groups: Collection[str]) -> None:
        await self._answer("-", groups)

    async def _answer(self, kind: str, groups: Collection[str]) -> None:
        self.calls.append((kind, sorted(groups)))
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        if self.refused in groups:
            raise BroadcastError(f"{self.refused} is refused")


async def test_a_caller_waits_until_its_group_is_subscribed() -> None:
    backend = RecordingBackend()
    backend.may_answer.clear()
    wanted = backend.subscriptions.want("a")
    await settle()
    assert wanted is not None and not wanted.done()
    backend.may_answer.set()
    await wanted
    assert backend.subscriptions.want("a") is None


async def test_ten_thousand_members_of_one_group_cause_one_backend_call() -> None:
    backend = RecordingBackend()
    waiting = {backend.subscriptions.want("a") for _ in range(10_000)}
    await settle()
    assert len(waiting) == 1
    assert backend.calls == [("+", ["a"])]


async def test_groups_requested_while_the_backend_is_busy_are_subscribed_together() -> None:
    backend = RecordingBackend()
    backend.may_answer.clear()
    backend.subscriptions.want("a")
    await settle()
    for group in "bcd":
        backend.subscriptions.want(group)
    backend.may_answer.set()
    await settle()
    assert backend.calls == [("+", ["a"]), ("+", ["b", "c", "d"])]


async def test_a_dropped_group_is_unsubscribed() -> None:
    backend = RecordingBackend()
    backend.subscriptions.want("a")
    await settle()
    backend.subscriptions.drop("a")
    await settle()
    assert backend.calls[-1] == ("-", ["a"])
    assert backend.subscriptions.active == frozenset()


async def test_group_requested_during_the_unsubscribe_call_is_subscribed_again() -> None:
    backend = RecordingBackend()
    backend.subscriptions.want("a")
    await settle()
    backend.may_answer.clear()
    backend.subscriptions.drop("a")
    await settle()
    wanted = backend.subscriptions.want("a")
    assert wanted is not None
    backend.may_answer.set()
    await wanted
    assert [kind for kind, _ in backend.calls] == ["+", "-", "+"]


async def test_group_that_is_dropped_before_the_backend_call_is_not_subscribed() -> None:
    backend = RecordingBackend()
    backend.may_answer.clear()
    backend.subscriptions.want("a")
    await settle()
    wanted = backend.subscriptions.want("b")
    backend.subscriptions.drop("b")
    backend.may_answer.set()
    assert wanted is not None
    await wanted
    await settle()
    assert backend.calls == [("+", ["a"])]


async def test_failed_subscription_releases_the_callers_that_wait_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = RecordingBackend()
    backend.failure = OSError("broken promise")
    wanted = backend.subscriptions.want("a")
    assert wanted is not None
    await wanted
    assert "broken promise" in caplog.text
    backend.failure = None
    await (backend.subscriptions.want("a") or asyncio.sleep(0))
    assert backend.subscriptions.active == {"a"}


async def test_failed_subscription_does_not_affect_another_group(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend = RecordingBackend()
    backend.refused = "b"
    waiting = [backend.subscriptions.want(group) for group in "abc"]
    for future in waiting:
        assert future is not None
        await future
    assert backend.subscriptions.active == {"a", "c"}
    assert caplog.text.count("b is refused") == 1
    assert "Traceback" not in caplog.text
    backend.subscriptions.drop("a")
    await settle()
    assert backend.calls[-1] == ("-", ["a"])


async def test_failed_subscription_is_retried_when_a_caller_requests_it_again() -> None:
    backend = RecordingBackend()
    backend.refused = "a"
    backend.subscriptions.want("a")
    await settle()
    backend.subscriptions.want("b")
    await settle()
    assert backend.calls[-1] == ("+", ["b"])
    backend.refused = ""
    backend.subscriptions.want("a")
    await settle()
    assert backend.subscriptions.active == {"a", "b"}


async def test_group_is_reported_as_late_when_a_retry_subscribes_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(subscriptions, "RETRY_SECONDS", 0.001)
    backend = RecordingBackend()
    backend.refused = "b"
    backend.subscriptions.want("a")
    backend.subscriptions.want("b")
    await until(lambda: backend.calls.count(("+", ["b"])) > 3)
    assert caplog.text.count("b is refused") == 1
    backend.refused = ""
    await until(lambda: backend.subscriptions.active == {"a", "b"})
    assert backend.late == ["b"]
    backend.subscriptions.close()


async def test_subscription_is_retried_after_an_unexpected_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscriptions, "RETRY_SECONDS", 0.001)
    backend = RecordingBackend()
    backend.failure = OSError("broken promise")
    backend.subscriptions.want("a")
    await until(lambda: len(backend.calls) > 2)
    backend.failure = None
    await until(lambda: backend.subscriptions.active == {"a"})
    assert backend.late == ["a"]
    backend.subscriptions.close()


async def test_failed_subscription_is_not_retried_after_its_group_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "RETRY_SECONDS", 0.001)
    backend = RecordingBackend()
    backend.refused = "a"
    backend.subscriptions.want("a")
    await settle()
    backend.subscriptions.drop("a")
    backend.subscriptions.want("b")
    await until(lambda: backend.subscriptions.active == {"b"})
    asked = backend.calls.count(("+", ["a"]))
    await until(lambda: backend.subscriptions._retry is None)
    assert backend.calls.count(("+", ["a"])) == asked
    backend.subscriptions.close()


async def test_the_cost_of_joining_does_not_grow_with_the_number_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, looked_at = RecordingBackend(), 0

    class Counting(set[str]):
        def __contains__(self, group: object) -> bool:
            nonlocal looked_at
            looked_at += 1
            return super().__contains__(group)

        def __sub__(self, others: Any) -> set[str]:
            nonlocal looked_at
            looked_at += len(self)
            return super().__sub__(others)

    for number in range(1000):
        backend.subscriptions.want(str(number))
    await settle()
    for name in ("_wanted", "active"):
        monkeypatch.setattr(backend.subscriptions, name, Counting(getattr(backend.subscriptions, name)))
    backend.subscriptions.want("one more")
    await settle()
    backend.subscriptions.drop("one more")
    await settle()
    assert looked_at < 100


async def test_stopping_hub_releases_callers_that_wait_for_a_subscription() -> None:
    backend = RecordingBackend()
    backend.may_answer.clear()
    wanted = backend.subscriptions.want("a")
    await settle()
    for task in backend.tasks:
        task.cancel()
    assert wanted is not None
    await wanted


async def test_new_subscription_ends_if_its_group_is_dropped_at_once() -> None:
    backend = RecordingBackend()
    wanted = backend.subscriptions.want("a")
    assert wanted is not None
    # Between the end of the task and what is done about it.
    await wanted
    backend.subscriptions.drop("a")
    await settle()
    assert backend.subscriptions.active == frozenset()
