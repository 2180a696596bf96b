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


async def test_a_group_is_heard_from_its_first_member_to_its_last() -> None:
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


async def test_a_client_that_goes_leaves_all_its_groups() -> None:
    backend, hub, reply, _ = await with_member("a", "b")
    reply.close()
    await settle()
    assert subscribed(backend) == set()
    assert (hub.members, hub.snapshot()["groups"]) == ({}, 0)
    await hub.stop()


async def test_one_that_has_gone_already_is_not_a_member() -> None:
    class Gone(Reply):
        def on_close(self, callback: Any) -> None:
            callback()

    backend, hub, _, _ = await with_member()
    reply = Gone()
    hub.add("chat", reply.name, reply, Context())
    await settle()
    assert (subscribed(backend), hub.members) == (set(), {})
    await hub.stop()


async def test_to_join_and_leave_all_day_leaves_one_callback() -> None:
    _, hub, reply, _ = await with_member()
    for _ in range(100):
        hub.add("chat", reply.name, reply, Context())
        hub.discard("chat", reply.name)
    assert len(reply._callbacks) == 1
    await hub.stop()


async def test_to_be_added_twice_is_to_be_sent_to_once() -> None:
    backend, hub, reply, _ = await with_member("chat", "chat")
    backend.hear("chat", {"text": "a"})
    assert reply.sent == ["a"]
    await hub.stop()


async def test_to_leave_a_group_that_one_is_not_in_is_nothing() -> None:
    _, hub, reply, _ = await with_member("chat")
    hub.discard("other", reply.name)
    hub.discard("chat", "reply.nobody.1")
    assert set(hub.members) == {reply.name}
    await hub.stop()


async def test_nothing_of_a_group_is_sent_after_it_is_left() -> None:
    backend, hub, reply, _ = await with_member("chat", "other")
    hub.discard("chat", reply.name)
    backend.hear("chat", {"text": "a"})
    assert reply.sent == []
    await hub.stop()


async def test_messages_are_numbered_for_each_group() -> None:
    backend, hub, _, _ = await with_member()
    for group in ("a", "a", "b", "a"):
        await outcome(hub.publish(group, {"text": "x"}))
    numbers = [(group, *json.loads(payload)["_uvicorn"]) for group, payload in backend.published]
    assert numbers == [(group, hub.sender, number) for group, number in (("a", 1), ("a", 2), ("b", 1), ("a", 3))]
    await hub.stop()


async def test_what_is_sent_before_the_start_waits_for_it_and_keeps_its_order() -> None:
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


async def test_a_start_that_fails_is_tried_again_by_who_comes_next() -> None:
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


async def test_no_message_is_an_error_where_it_is_sent() -> None:
    _, hub, _, _ = await with_member()
    with pytest.raises(LocalProtocolError, match="expected 'send' to be a message"):
        hub.publish("chat", "text")  # type: ignore[arg-type]
    await hub.stop()


async def test_a_message_that_is_not_taken_raises_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    backend, hub, _, _ = await with_member()
    backend.failure = BroadcastUnavailable("Redis is down")
    for _ in range(3):
        with pytest.raises(BroadcastUnavailable, match="Redis is down"):
            await outcome(hub.publish("chat", {}))
    backend.failure = None
    await outcome(hub.publish("chat", {}))
    begin, end = caplog.messages
    assert begin == "messages to groups are not taken: Redis is down"
    assert end.startswith("messages to groups are taken again after ") and end.endswith(" s; not taken: 3")
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    await hub.stop()


async def test_an_outage_that_ends_while_nothing_is_sent_is_seen_to_end_within_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("uvicorn.broadcast.hub.LOG_SECONDS", 0.001)
    backend, hub, _, _ = await with_member()
    backend.failure = BroadcastUnavailable("Redis is down")
    for _ in range(3):
        with pytest.raises(BroadcastUnavailable):
            await outcome(hub.publish("chat", {}))
    await until(lambda: len(caplog.messages) == 2)
    assert caplog.messages[1] == "messages to groups are still not taken: 2 since the last such line: Redis is down"
    backend.metrics.connected = True
    await until(lambda: len(caplog.messages) == 3)
    assert "are taken again" in caplog.messages[2]
    await until(lambda: hub._outage_timer is None)
    await hub.stop()


async def test_nobody_need_ask_whether_it_was() -> None:
    backend, hub, _, _ = await with_member()
    backend.failure = BroadcastUnavailable("Redis is down")
    hub.publish("chat", {})
    # An exception that was never retrieved would reach the loop's exception handler.
    await settle()
    gc.collect()
    await hub.stop()


async def test_or_it_is_dropped_if_that_was_chosen() -> None:
    backend = ScriptedBackend()
    backend.failure = BroadcastUnavailable("Redis is down")
    hub = await started_hub(backend, HubOptions(raise_unavailable=False))
    await outcome(hub.publish("chat", {}))
    await hub.stop()


async def test_B17c_whatever_is_published_is_survived(caplog: pytest.LogCaptureFixture) -> None:
    """Random messages to a group and to the control channel: nothing raises, and the log stays short."""
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
                backend.hear_payload(group, json.dumps(message).encode())
        await settle()
        await hub.stop()
    assert len(caplog.records) < 10
    assert all(record.getMessage().isprintable() for record in caplog.records)


async def test_groups_that_were_sent_to_once_are_forgotten() -> None:
    _, hub, _, _ = await with_member()
    for group in range(10_050):
        hub.publish(str(group), {})
    await settle()
    assert len(hub._sequences) == 10_000
    await hub.stop()


async def test_what_is_no_message_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    backend, hub, reply, _ = await with_member("chat")
    for payload in (b"", b"\x80\x04", b"[]"):
        backend.hear_payload("chat", payload)
    backend.hear("chat", {"text": "a"})
    assert (hub.metrics.dropped_broken, reply.sent, len(caplog.records)) == (3, ["a"], 1)
    await hub.stop()


async def test_what_is_sent_after_the_stop_is_refused() -> None:
    backend, hub, reply, _ = await with_member("chat")
    await hub.stop()
    assert backend.stopped
    with pytest.raises(BroadcastUnavailable, match="has stopped"):
        await outcome(hub.publish("chat", {}))


async def test_what_waits_when_it_stops_is_told() -> None:
    backend, hub, _, _ = await with_member()
    backend.answers.clear()
    sending = hub.publish("chat", {})
    await settle()
    await hub.stop()
    with pytest.raises(BroadcastUnavailable, match="has stopped"):
        await outcome(sending)


async def test_one_that_stops_while_it_starts_leaves_nothing_connected() -> None:
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


async def test_there_are_counts_before_the_start() -> None:
    hub = Hub(lambda: asyncio.sleep(0, ScriptedBackend()), HubOptions())
    assert hub.snapshot()["members"] == 0
    await hub.stop()


async def test_a_stranger_s_reply_is_forgotten_when_it_is_in_no_group() -> None:
    class Stranger:
        """Another server's: it does not say when it ends."""

        name = "reply.elsewhere.1"

    _, hub, _, _ = await with_member()
    hub.add("chat", Stranger.name, Stranger(), Context())
    hub.discard("chat", Stranger.name)
    assert hub.members == {}
    await hub.stop()


async def test_nothing_runs_in_the_name_of_the_client_that_came_first() -> None:
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
