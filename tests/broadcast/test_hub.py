"""Membership, sequence numbers and sending, on one event loop."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from contextvars import Context
from random import Random
from typing import Any

import pytest

from tests.broadcast.scripted import GapRecorder, Reply, ScriptedBackend, started_hub, with_member
from tests.helpers import settle, until
from uvicorn.broadcast.backend import Backend
from uvicorn.broadcast.hub import Hub, HubOptions, outcome
from uvicorn.errors import BroadcastUnavailable, LocalProtocolError

pytestmark = pytest.mark.any_loop


def subscribed(backend: ScriptedBackend) -> set[str]:
    groups: set[str] = set()
    for kind, changed in backend.calls:
        groups = groups | changed if kind == "subscribe" else groups - changed
    return {group for group in groups if not group.startswith("uvicorn.process.")}


async def test_a_group_is_subscribed_while_it_has_members() -> None:
    backend, hub, reply, _ = await with_member("chat")
    other = Reply()
    hub.add("chat", other.name, other, Context())
    await settle()
    assert [call for call in backend.calls if call[1] == {"chat"}] == [("subscribe", frozenset({"chat"}))]
    hub.discard("chat", reply.name)
    await settle()
    assert subscribed(backend) == {"chat"}
    hub.discard("chat", other.name)
    await settle()
    assert subscribed(backend) == set()
    await hub.stop()


async def test_a_client_that_disconnects_leaves_all_its_groups() -> None:
    backend, hub, reply, _ = await with_member("a", "b")
    reply.close()
    await settle()
    assert subscribed(backend) == set()
    assert (hub.members, hub.snapshot()["groups"]) == ({}, 0)
    await hub.stop()


async def test_a_client_that_has_disconnected_does_not_become_a_member() -> None:
    class Gone(Reply):
        def on_close(self, callback: Any) -> None:
            callback()

    backend, hub, _, _ = await with_member()
    reply = Gone()
    hub.add("chat", reply.name, reply, Context())
    await settle()
    assert (subscribed(backend), hub.members) == (set(), {})
    await hub.stop()


async def test_client_has_one_close_callback_after_joining_and_leaving_100_times() -> None:
    _, hub, reply, _ = await with_member()
    for _ in range(100):
        hub.add("chat", reply.name, reply, Context())
        hub.discard("chat", reply.name)
    assert len(reply._callbacks) == 1
    await hub.stop()


async def test_a_channel_that_is_added_twice_gets_each_message_once() -> None:
    backend, hub, reply, _ = await with_member("chat", "chat")
    backend.receive("chat", {"text": "a"})
    assert reply.sent == ["a"]
    await hub.stop()


async def test_discarding_a_channel_that_is_not_a_member_does_nothing() -> None:
    _, hub, reply, _ = await with_member("chat")
    hub.discard("other", reply.name)
    hub.discard("chat", "reply.missing.1")
    assert set(hub.members) == {reply.name}
    await hub.stop()


async def test_discarded_member_receives_no_group_message() -> None:
    backend, hub, reply, _ = await with_member("chat", "other")
    hub.discard("chat", reply.name)
    backend.receive("chat", {"text": "a"})
    assert reply.sent == []
    await hub.stop()


async def test_hub_numbers_the_messages_of_each_group_separately() -> None:
    backend, hub, _, _ = await with_member()
    for group in ("a", "a", "b", "a"):
        await outcome(hub.publish(group, {"text": "x"}))
    numbers = [(group, *json.loads(payload)["_uvicorn"]) for group, payload in backend.published]
    assert numbers == [(group, hub.sender, number) for group, number in (("a", 1), ("a", 2), ("b", 1), ("a", 3))]
    await hub.stop()


async def test_messages_that_are_published_before_the_hub_starts_are_sent_in_order() -> None:
    backend, may_open = ScriptedBackend(), asyncio.Event()

    async def open_backend() -> Backend:
        await may_open.wait()
        return backend

    hub = Hub(open_backend, HubOptions())
    sent = [hub.publish("chat", {"number": number}) for number in range(5)]
    await settle()
    may_open.set()
    await until(lambda: hub.backend is not None)
    sent += [hub.publish("chat", {"number": number}) for number in range(5, 10)]
    for task in sent:
        await outcome(task)
    assert [json.loads(payload)["number"] for _, payload in backend.published] == list(range(10))
    assert [json.loads(payload)["_uvicorn"][1] for _, payload in backend.published] == list(range(1, 11))
    await hub.stop()


async def test_next_publish_retries_a_failed_start_of_the_hub() -> None:
    backend, failures = ScriptedBackend(), [OSError("no such thing")]

    async def open_backend() -> Backend:
        if failures:
            raise failures.pop()
        return backend

    hub = Hub(open_backend, HubOptions())
    with pytest.raises(OSError, match="no such thing"):
        await outcome(hub.publish("chat", {}))
    await outcome(hub.publish("chat", {}))
    assert len(backend.published) == 1
    await hub.stop()


async def test_publishing_an_invalid_message_raises_at_once() -> None:
    _, hub, _, _ = await with_member()
    with pytest.raises(LocalProtocolError, match="expected 'send' to be a dict"):
        hub.publish("chat", "text")  # type: ignore[arg-type]
    await hub.stop()


async def test_a_message_that_the_backend_rejects_raises_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backend, hub, _, _ = await with_member()
    backend.failure = BroadcastUnavailable("Redis is down")
    for _ in range(3):
        with pytest.raises(BroadcastUnavailable, match="Redis is down"):
            await outcome(hub.publish("chat", {}))
    backend.failure = None
    await outcome(hub.publish("chat", {}))
    begin, end = caplog.messages
    assert begin == "groups: publishing fails: Redis is down"
    assert end.startswith("groups: publishing works again after ") and end.endswith(" s; 3 messages failed")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    await hub.stop()


async def test_hub_logs_the_end_of_an_outage_without_a_new_publish(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend, hub, _, _ = await with_member()
    backend.failure = BroadcastUnavailable("Redis is down")
    for _ in range(3):
        with pytest.raises(BroadcastUnavailable):
            await outcome(hub.publish("chat", {}))
    # The timer of a minute has run out.
    assert hub._outage_timer is not None
    hub._outage_timer.cancel()
    monkeypatch.setattr("uvicorn.broadcast.hub.LOG_SECONDS", 0.001)
    hub._check_outage()
    assert len(caplog.messages) == 2
    assert (
        caplog.messages[1] == "groups: publishing still fails; 2 messages failed since the last log line: Redis is down"
    )
    backend.metrics.connected = True
    await until(lambda: len(caplog.messages) == 3)
    assert "publishing works again" in caplog.messages[2]
    await until(lambda: hub._outage_timer is None)
    await hub.stop()


async def test_unawaited_publish_that_fails_logs_nothing() -> None:
    backend, hub, _, _ = await with_member()
    backend.failure = BroadcastUnavailable("Redis is down")
    hub.publish("chat", {})
    # An exception that was never retrieved would reach the loop's exception handler.
    await settle()
    gc.collect()
    await hub.stop()


async def test_failed_publish_raises_nothing_if_raise_unavailable_is_off() -> None:
    backend = ScriptedBackend()
    backend.failure = BroadcastUnavailable("Redis is down")
    hub = await started_hub(backend, HubOptions(raise_unavailable=False))
    await outcome(hub.publish("chat", {}))
    await hub.stop()


async def test_B17c_random_payloads_raise_nothing_and_log_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The payloads are sent to a group and to the control channel."""
    random = Random(1)
    atoms: list[Any] = [
        None,
        True,
        0,
        -1,
        1 << 70,
        1.5,
        float("nan"),
        float("inf"),
        "",
        "\ud800",
        "a\n\x1b[31m",
        "x" * 5000,
    ]
    keys = ["text", "bytes", "close", "reason", "content", "status", "_uvicorn", "_uvicorn_control", "group", "name"]
    keys += ["number", "answer", "asker", "sender", "sequence", "time", "signature", "\ud800", "\n"]

    def value(depth: int = 0) -> Any:
        kind = random.randrange(8)
        if kind == 0 and depth < 3:
            return [value(depth + 1) for _ in range(random.randrange(4))]
        if kind == 1 and depth < 3:
            return {random.choice(keys): value(depth + 1) for _ in range(random.randrange(4))}
        return random.choice([*atoms, *["add", "discard", "done"], names[0], *names])

    for secrets in ((), (b"s" * 16,)):
        backend = ScriptedBackend()
        hub = await started_hub(backend, HubOptions(secrets=secrets), GapRecorder())
        reply = Reply()
        names = [reply.name, hub.remote_members.group, "chat", hub.sender]
        hub.add("chat", reply.name, reply, Context())
        for _ in range(3000):
            message = {key: value() for key in random.sample(keys, random.randrange(8))}
            for group in ("chat", hub.remote_members.group):
                backend.receive_payload(group, json.dumps(message).encode())
        await settle()
        await hub.stop()
    assert len(caplog.records) < 10
    assert all(record.getMessage().isprintable() for record in caplog.records)


async def test_hub_stores_sent_sequence_numbers_of_at_most_10000_groups() -> None:
    _, hub, _, _ = await with_member()
    for group in range(10_050):
        hub.publish(str(group), {})
    await settle()
    assert len(hub._sequences._last) == 10_000
    await hub.stop()


async def test_malformed_messages_are_counted_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    backend, hub, reply, _ = await with_member("chat")
    for payload in (b"", b"\x80\x04", b"[]"):
        backend.receive_payload("chat", payload)
    backend.receive("chat", {"text": "a"})
    assert (hub.metrics.dropped_broken, reply.sent, len(caplog.records)) == (3, ["a"], 1)
    await hub.stop()


async def test_publishing_after_the_hub_has_stopped_raises() -> None:
    backend, hub, reply, _ = await with_member("chat")
    await hub.stop()
    assert backend.stopped
    with pytest.raises(BroadcastUnavailable, match="has stopped"):
        await outcome(hub.publish("chat", {}))


async def test_pending_publish_raises_when_the_hub_stops() -> None:
    backend, hub, _, _ = await with_member()
    backend.answers.clear()
    sending = hub.publish("chat", {})
    await settle()
    await hub.stop()
    with pytest.raises(BroadcastUnavailable, match="has stopped"):
        await outcome(sending)


async def test_hub_that_stops_during_its_start_leaves_no_connection() -> None:
    backend, may_open = ScriptedBackend(), asyncio.Event()

    async def open_backend() -> Backend:
        await may_open.wait()
        return backend

    class Slow(ScriptedBackend):
        async def start(self, on_message: Any, on_gap: Any) -> None:
            try:
                await may_open.wait()
            except asyncio.CancelledError:
                # Connected at the very moment.
                pass

    class Connecting(ScriptedBackend):
        async def start(self, on_message: Any, on_gap: Any) -> None:
            await may_open.wait()

    slow, connecting = Slow(), Connecting()

    async def open_slow() -> Backend:
        return slow

    async def open_connecting() -> Backend:
        return connecting

    for opener in (open_backend, open_slow, open_connecting):
        hub = Hub(opener, HubOptions())
        sending = hub.publish("chat", {})
        await settle()
        await hub.stop()
        with pytest.raises(BroadcastUnavailable, match="has stopped"):
            await outcome(sending)
    assert slow.stopped and connecting.stopped


async def test_metrics_of_a_hub_are_available_before_its_start() -> None:
    hub = Hub(lambda: asyncio.sleep(0, ScriptedBackend()), HubOptions())
    assert hub.snapshot()["members"] == 0
    await hub.stop()


async def test_last_discard_removes_the_channel_from_the_hub() -> None:
    class Stranger:
        """A reply channel of another server, which does not report a disconnect."""

        name = "reply.elsewhere.1"

    _, hub, _, _ = await with_member()
    hub.add("chat", Stranger.name, Stranger(), Context())
    hub.discard("chat", Stranger.name)
    assert hub.members == {}
    await hub.stop()


async def test_hub_tasks_do_not_inherit_the_context_of_the_first_client() -> None:
    from uvicorn.interfaces.handlers import OWNER

    seen: list[object] = []

    class Looking(ScriptedBackend):
        async def start(self, on_message: Any, on_gap: Any) -> None:
            seen.append(OWNER.get())
            await super().start(on_message, on_gap)

        async def publish(self, group: str, payload: bytes) -> None:
            seen.append(OWNER.get())

        async def subscribe(self, groups: Any) -> None:
            seen.append(OWNER.get())

    OWNER.set("a client")
    hub = await started_hub(Looking())
    reply = Reply()
    hub.add("chat", reply.name, reply, Context())
    await outcome(hub.publish("chat", {}))
    await settle()
    assert set(seen) == {None} and len(seen) >= 3
    await hub.stop()
