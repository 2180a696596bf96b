"""Slow clients, and clients with gaps."""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import Any

import pytest

from tests.broadcast.scripted import Reply, ScriptedBackend, started_hub
from tests.helpers import settle
from uvicorn.broadcast import members
from uvicorn.broadcast.hub import Hub, HubOptions
from uvicorn.broadcast.members import Gap, Queueing
from uvicorn.errors import LocalProtocolError

pytestmark = pytest.mark.any_loop


class Group:
    """The group `chat`. The test adds members and sends messages."""

    def __init__(self, messages: int = 3, octets: int = 10_000, policy: str = "close") -> None:
        self.backend = ScriptedBackend()
        self.gaps: list[tuple[Reply, Gap]] = []
        self.gap_may_end = asyncio.Event()
        self.gap_may_end.set()
        self._options = HubOptions(Queueing(messages, octets, policy))
        self._number = 0
        self.hub: Hub

    async def __aenter__(self) -> Group:
        self.hub = await started_hub(self.backend, self._options, self._on_gap)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.hub.stop()

    async def member(self, *groups: str) -> Reply:
        reply = Reply()
        for group in groups or ("chat",):
            self.hub.add(group, reply.name, reply, Context())
        await settle()
        return reply

    def receive(self, *texts: str, group: str = "chat") -> None:
        for text in texts:
            self._number += 1
            self.backend.receive_payload(group, b'{"text": "%b"}' % text.encode())

    async def _on_gap(self, reply: Any, gap: Gap) -> None:
        reply.sent.append(gap)
        self.gaps.append((reply, gap))
        await self.gap_may_end.wait()


async def test_a_client_that_keeps_up_gets_messages_at_once() -> None:
    async with Group() as group:
        reply = await group.member()
        group.receive("a", "b")
        assert reply.sent == ["a", "b"]


async def test_message_that_is_not_plain_text_is_delivered_at_once() -> None:
    async with Group() as group:
        reply = await group.member()
        group.backend.receive_payload("chat", b'{"text": "a", "close": true}')
        group.backend.receive_payload("chat", b'{"content": "b"}')
        assert reply.sent == ["a", {"content": "b"}]


async def test_group_message_whose_text_is_a_number_reaches_the_reply_channel() -> None:
    async with Group() as group:
        reply = await group.member()
        group.backend.receive_payload("chat", b'{"text": 1}')
        assert reply.sent == [1]


async def test_hub_counts_delivered_and_refused_messages_for_each_member() -> None:
    async with Group() as group:
        (await group.member()).failure = LocalProtocolError("no")
        await group.member()
        group.backend.receive_payload("chat", b'{"text": "a"}')
        group.backend.receive_payload("chat", b'{"content": "b"}')
        metrics = group.hub.metrics
        assert (metrics.delivered, metrics.dropped_refused) == (2, 2)


async def test_a_slow_client_gets_queued_messages_in_order_when_it_is_ready() -> None:
    async with Group(messages=4) as group:
        reply = await group.member()
        reply.is_ready = False
        group.receive("a", "b", "c")
        assert reply.sent == []
        reply.is_ready = True
        group.receive("d")
        await settle()
        assert reply.sent == ["a", "b", "c", "d"]


async def test_a_slow_client_does_not_delay_other_members() -> None:
    async with Group() as group:
        slow, other = await group.member(), await group.member()
        slow.is_ready = False
        group.receive("a", "b")
        assert other.sent == ["a", "b"]


async def test_the_close_policy_disconnects_a_client_with_too_many_queued_messages() -> None:
    async with Group(messages=3) as group:
        slow, other = await group.member(), await group.member()
        slow.is_ready = False
        group.receive("a", "b", "c")
        assert slow.broken_off == ""
        group.receive("d", "e")
        slow.is_ready = True
        await settle()
        assert (slow.broken_off, slow.sent, other.sent) == ("slow consumer", [], ["a", "b", "c", "d", "e"])
        assert (group.hub.metrics.closed_slow, group.hub.metrics.dropped_slow) == (1, 4)


async def test_the_close_policy_disconnects_a_client_with_too_many_queued_bytes() -> None:
    async with Group(messages=100, octets=50) as group:
        slow = await group.member()
        slow.is_ready = False
        group.receive("x" * 200)
        assert slow.broken_off == "", "one message may wait, however large"
        group.receive("y")
        assert slow.broken_off == "slow consumer"


async def test_policy_drop_oldest_puts_the_gap_before_the_kept_messages() -> None:
    async with Group(messages=2, policy="drop_oldest") as group:
        slow = await group.member()
        slow.is_ready = False
        group.receive("a", "b", "c", "d")
        slow.is_ready = True
        await settle()
        gap = slow.sent[0]
        assert isinstance(gap, Gap)
        assert (gap.groups, gap.reason, slow.sent[1:]) == ({"chat"}, "slow", ["c", "d"])
        assert group.hub.metrics.dropped_slow == 2


async def test_policy_drop_newest_puts_the_gap_after_the_kept_messages() -> None:
    async with Group(messages=2, policy="drop_newest") as group:
        slow = await group.member()
        slow.is_ready = False
        group.receive("a", "b", "c", "d")
        slow.is_ready = True
        await settle()
        group.receive("e")
        gap = slow.sent.pop(2)
        assert isinstance(gap, Gap) and gap.reason == "slow"
        assert slow.sent == ["a", "b", "e"]
        assert group.hub.metrics.dropped_slow == 2


@pytest.mark.parametrize(("policy", "kept"), [("drop_oldest", ["c", "d"]), ("drop_newest", ["a", "b"])])
async def test_consecutive_dropped_messages_cause_one_gap(policy: str, kept: list[str]) -> None:
    async with Group(messages=2, policy=policy) as group:
        slow = await group.member()
        slow.is_ready = False
        group.receive("a", "b", *"vwxyz"[: 5 if policy == "drop_newest" else 0], *"cd")
        slow.is_ready = True
        await settle()
        assert [text for text in slow.sent if isinstance(text, str)] == kept
        assert group.hub.metrics.gaps == 1


async def test_metrics_report_the_longest_client_queue() -> None:
    async with Group() as group:
        slow = await group.member()
        slow.is_ready = False
        group.receive("a", "b")
        slow.is_ready = True
        await settle()
        group.receive("c")
        assert (group.hub.metrics.queue_high_water, group.hub.metrics.delivered) == (2, 3)


async def test_later_messages_wait_until_the_gap_handler_returns() -> None:
    async with Group() as group:
        reply = await group.member()
        group.gap_may_end.clear()
        group.backend.lose("chat")
        group.receive("after")
        await settle()
        assert [type(item) for item in reply.sent] == [Gap]
        group.gap_may_end.set()
        await settle()
        assert reply.sent[1:] == ["after"]


async def test_a_gap_is_reported_after_messages_that_were_queued_earlier() -> None:
    async with Group() as group:
        reply = await group.member()
        reply.is_ready = False
        group.receive("before")
        group.backend.lose("chat")
        group.receive("after")
        reply.is_ready = True
        await settle()
        assert [isinstance(item, Gap) for item in reply.sent] == [False, True, False]


async def test_gap_in_several_groups_is_one_event_for_each_member() -> None:
    async with Group() as group:
        one, two, both = await group.member("one"), await group.member("two"), await group.member("one", "two")
        group.backend.lose("one", "two", "elsewhere", since=77.0)
        await settle()
        assert one.sent == [Gap({"one"}, "reconnect", 77.0)]
        assert two.sent == [Gap({"two"}, "reconnect", 77.0)]
        assert both.sent == [Gap({"one", "two"}, "reconnect", 77.0)]


async def test_client_gets_messages_after_its_gap_handler_raises(caplog: pytest.LogCaptureFixture) -> None:
    async def on_gap(reply: Any, gap: Gap) -> None:
        raise RuntimeError("no database")

    backend = ScriptedBackend()
    hub = await started_hub(backend, on_gap=on_gap)
    reply = Reply()
    hub.add("chat", reply.name, reply, Context())
    await settle()
    backend.lose("chat")
    backend.receive("chat", {"text": "after"})
    await settle()
    assert reply.sent == ["after"]
    assert "no database" in caplog.text
    await hub.stop()


async def test_queued_messages_are_dropped_when_the_client_disconnects() -> None:
    async with Group() as group:
        reply = await group.member()
        reply.is_ready = False
        group.receive("a")
        reply.close()
        reply.is_ready = True
        await settle()
        assert reply.sent == []


async def test_disconnect_does_not_cancel_the_gap_handler_of_the_application() -> None:
    ended = []

    async def on_gap(reply: Any, gap: Gap) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ended.append(gap)

    backend = ScriptedBackend()
    hub = await started_hub(backend, on_gap=on_gap)
    reply = Reply()
    hub.add("chat", reply.name, reply, Context())
    await settle()
    backend.lose("chat")
    await asyncio.sleep(0)
    reply.close()
    await settle()
    assert len(ended) == 1
    await hub.stop()


async def test_discard_drops_the_queued_messages_of_the_group() -> None:
    async with Group() as group:
        reply = await group.member("one", "two")
        reply.is_ready = False
        group.receive("a", group="one")
        group.receive("b", group="two")
        group.backend.lose("one")
        group.hub.discard("one", reply.name)
        reply.is_ready = True
        await settle()
        assert reply.sent == ["b"]


async def test_client_that_leaves_one_group_keeps_the_queued_gap_of_another() -> None:
    async with Group() as group:
        reply = await group.member("one", "two")
        reply.is_ready = False
        group.backend.lose("one", "two", since=77.0)
        group.hub.discard("one", reply.name)
        reply.is_ready = True
        await settle()
        assert reply.sent == [Gap({"two"}, "reconnect", 77.0)]


async def test_adjacent_gaps_in_a_client_queue_are_merged() -> None:
    async with Group(messages=1, policy="drop_oldest") as group:
        slow = await group.member("one", "two")
        slow.is_ready = False
        group.receive("a", group="one")
        group.backend.lose("two", since=77.0)
        group.receive("b", group="two")
        slow.is_ready = True
        await settle()
        assert [item if isinstance(item, str) else (item.groups, item.since) for item in slow.sent] == [
            ({"one", "two"}, 77.0),
            "b",
        ]


async def test_two_gaps_are_merged_when_a_discard_removes_the_message_between_them() -> None:
    async with Group(messages=2, policy="drop_oldest") as group:
        slow = await group.member("one", "two")
        slow.is_ready = False
        group.backend.lose("two", since=77.0)
        group.receive("a", group="one")
        group.backend.lose("two", since=88.0)
        group.hub.discard("one", slow.name)
        group.receive("b", "c", "d", group="two")
        slow.is_ready = True
        await settle()
        assert slow.sent == [Gap({"two"}, "reconnect", 77.0), "c", "d"]


async def test_a_slow_client_that_leaves_its_only_group_gets_no_queued_message() -> None:
    async with Group() as group:
        reply = await group.member()
        reply.is_ready = False
        group.receive("a")
        await settle()
        group.hub.discard("chat", reply.name)
        reply.is_ready = True
        await settle()
        assert reply.sent == []


async def test_slow_client_leaves_all_groups_even_if_disconnecting_it_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stubborn(Reply):
        def break_off(self, reason: str) -> None:
            raise RuntimeError("no")

    async with Group(messages=1) as group:
        reply = Stubborn()
        group.hub.add("chat", reply.name, reply, Context())
        await settle()
        reply.is_ready = False
        group.receive("a", "b")
        assert group.hub.members == {}
        assert "RuntimeError: no" in caplog.text


async def test_client_leaves_all_groups_if_its_readiness_check_raises(caplog: pytest.LogCaptureFixture) -> None:
    class Unreliable(Reply):
        async def wait_ready(self) -> None:
            raise OSError("unknown state")

    async with Group() as group:
        reply = Unreliable()
        group.hub.add("chat", reply.name, reply, Context())
        await settle()
        reply.is_ready = False
        group.receive("a", "b")
        await settle()
        assert "unknown state" in caplog.text
        assert (reply.sent, group.hub.members) == ([], {})


async def test_messages_keep_their_order_while_the_queue_is_sent() -> None:
    async with Group() as group:
        reply = StrangersReply()
        reply.may_send.set()
        group.hub.add("chat", reply.name, reply, Context())
        await settle()
        for text in "abc":
            group.receive(text)
            await asyncio.sleep(0)
        await settle()
        assert reply.sent == ["a", "b", "c"]


async def test_repeated_delivery_error_is_logged_again_after_100_different_errors(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(members, "_REFUSED_LINES", 1000)
    async with Group() as group:
        reply = await group.member()
        for number in [*range(100), 0, 100, 0]:
            reply.failure = LocalProtocolError(f"number {number}")
            group.receive("a")
        assert len(caplog.records) == 102


async def test_B17c_delivery_errors_log_at_most_twenty_lines_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Group() as group:
        reply = await group.member()
        for number in range(1000):
            reply.failure = LocalProtocolError(f"{number}\n\x1b[31m" + "x" * 10_000)
            group.receive("a")
        assert len(caplog.records) == 20
        assert all(line.isprintable() and len(line) < 1000 for line in caplog.messages)


async def test_B17c_queue_limit_includes_the_memory_of_small_objects() -> None:
    async with Group(messages=100, octets=50_000) as group:
        slow = await group.member()
        slow.is_ready = False
        for _ in range(2):
            group.backend.receive_payload("chat", b'{"content": [' + b",".join([b"[]"] * 1000) + b"]}")
        assert slow.broken_off == "slow consumer"


async def test_message_reaches_a_member_although_two_other_members_reject_it(caplog: pytest.LogCaptureFixture) -> None:
    async with Group() as group:
        members = [await group.member() for _ in range(3)]
        for unfit in members[:2]:
            unfit.failure = LocalProtocolError("expected a response with 'status'")
        group.receive("a", "b")
        assert members[2].sent == ["a", "b"]
        assert group.hub.metrics.dropped_refused == 4
        assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_client_disconnect_during_a_delivery_is_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Group() as group:
        reply = await group.member()
        reply.failure = asyncio.CancelledError()
        group.receive("a")
        assert caplog.text == ""


class StrangersReply:
    """A reply channel of another server, with only a name and a coroutine function `send`."""

    name = "reply.elsewhere.1"

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.may_send = asyncio.Event()
        self.failure: Exception | None = None

    async def send(self, message: dict[str, Any]) -> None:
        await self.may_send.wait()
        if self.failure is not None:
            raise self.failure
        self.sent.append(message.get("text", str(message.get("close"))))


async def test_hub_awaits_each_send_of_a_custom_reply_channel() -> None:
    async with Group() as group:
        reply = StrangersReply()
        group.hub.add("chat", reply.name, reply, Context())
        await settle()
        group.receive("a", "b")
        await settle()
        assert reply.sent == []
        reply.may_send.set()
        await settle()
        assert reply.sent == ["a", "b"]


async def test_slow_custom_reply_channel_gets_a_close_message() -> None:
    async with Group(messages=1) as group:
        reply = StrangersReply()
        group.hub.add("chat", reply.name, reply, Context())
        await settle()
        group.receive("a")
        await settle()
        group.receive("b", "c")
        reply.may_send.set()
        await settle()
        assert reply.sent == ["1013"]


async def test_exception_of_a_custom_reply_channel_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with Group() as group:
        reply = StrangersReply()
        reply.failure = OSError("gone")
        reply.may_send.set()
        group.hub.add("chat", reply.name, reply, Context())
        await settle()
        group.receive("a")
        await settle()
        assert "gone" in caplog.text
        assert group.hub.metrics.dropped_refused == 1
