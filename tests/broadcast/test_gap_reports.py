"""Gaps in sequence numbers, and gaps that the backend reports."""

from __future__ import annotations

from contextvars import Context
from datetime import datetime

import pytest

from tests.broadcast.scripted import with_member
from tests.helpers import settle
from uvicorn.broadcast.hub import Hub
from uvicorn.broadcast.members import Gap

pytestmark = pytest.mark.any_loop


async def test_a_gap_in_the_sequence_numbers_is_reported_before_the_next_message() -> None:
    backend, hub, reply, recorder = await with_member("chat")
    backend.receive("chat", {"text": "1"}, number=1)
    backend.receive("chat", {"text": "2"}, number=2)
    assert recorder.gaps == []
    backend.receive("chat", {"text": "4"}, number=4)
    await settle()
    assert [(gap.groups, gap.reason) for gap in recorder.gaps] == [({"chat"}, "lost")]
    assert reply.sent == ["1", "2", "4"]
    await hub.stop()


def end_interval(hub: Hub) -> None:
    """End the interval between two reports now."""
    assert hub._gaps._timer is not None
    hub._gaps._timer.cancel()
    hub._gaps._report_pending()


async def test_B17c_hub_reports_the_first_gap_at_once_and_merges_later_gaps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    backend, hub, _, recorder = await with_member("a", "b")
    for number in range(1, 100, 2):
        backend.receive("a", {}, number=number)
        backend.receive("b", {}, number=number)
    await settle()
    assert [(gap.groups, gap.reason) for gap in recorder.gaps] == [({"a"}, "lost")]
    end_interval(hub)
    await settle()
    assert [(gap.groups, gap.reason) for gap in recorder.gaps[1:]] == [({"a", "b"}, "lost")]
    end_interval(hub)
    assert hub._gaps._timer is None
    assert (len(recorder.gaps), len(caplog.records)) == (2, 1)
    await hub.stop()


async def test_B17c_hub_reports_one_gap_at_once_for_many_oversized_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend, hub, _, recorder = await with_member("chat")
    for since in range(100):
        backend.lose("chat", reason="overflow", since=since)
    await settle()
    assert [(gap.reason, gap.since) for gap in recorder.gaps] == [("overflow", 0)]
    assert hub._gaps._pending == {"overflow": {"chat": 1}}
    await hub.stop()


async def test_the_first_message_after_joining_a_group_causes_no_gap() -> None:
    backend, hub, _, recorder = await with_member("chat")
    backend.receive("chat", {"text": "57"}, number=57)
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_the_first_message_after_rejoining_a_group_causes_no_gap() -> None:
    backend, hub, reply, recorder = await with_member("chat")
    backend.receive("chat", {"text": "1"}, number=1)
    hub.discard("chat", reply.name)
    hub.add("chat", reply.name, reply, Context())
    await settle()
    backend.receive("chat", {"text": "9"}, number=9)
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_sequence_numbers_are_checked_separately_for_each_sender_and_group() -> None:
    backend, hub, _, recorder = await with_member("a", "b")
    for group, sender, number in (("a", "x", 1), ("a", "y", 9), ("b", "x", 5), ("a", "x", 2), ("b", "x", 6)):
        backend.receive(group, {}, sender, number)
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_sender_with_restarted_sequence_numbers_causes_no_gap() -> None:
    backend, hub, _, recorder = await with_member("chat")
    for number in (5, 6, 1, 2):
        backend.receive("chat", {}, number=number)
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_missing_numbers_after_a_reported_gap_cause_no_second_gap() -> None:
    backend, hub, _, recorder = await with_member("chat")
    backend.receive("chat", {}, number=1)
    backend.lose("chat", since=77.0)
    backend.receive("chat", {}, number=9)
    await settle()
    assert recorder.gaps == [Gap({"chat"}, "reconnect", 77.0)]
    await hub.stop()


async def test_hub_stores_received_sequence_numbers_of_at_most_256_senders() -> None:
    backend, hub, _, recorder = await with_member("chat")
    for sender in range(1000):
        backend.receive("chat", {}, str(sender), 1)
    assert hub._gaps._received.count == 256
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_a_gap_is_logged_with_the_number_of_affected_clients(caplog: pytest.LogCaptureFixture) -> None:
    backend, hub, _, _ = await with_member("chat")
    # The log lines beside it have local time too.
    backend.lose("chat", since=datetime(2026, 11, 28, 18, 43, 29).timestamp())
    await settle()
    assert "messages may have been lost since 2026-11-28 18:43:29 (reconnect); affected clients: 1" in caplog.text
    await hub.stop()


async def test_a_gap_in_a_group_without_members_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    backend, hub, _, recorder = await with_member("chat")
    backend.lose("other", hub.remote_members.group)
    await settle()
    assert (recorder.gaps, caplog.text) == ([], "")
    await hub.stop()
