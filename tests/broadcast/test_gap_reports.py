"""Gaps that sequence numbers show, and gaps that the backend reports."""

from __future__ import annotations

from contextvars import Context

import pytest

from tests.broadcast.scripted import with_member
from tests.helpers import settle, until
from uvicorn.broadcast.members import Gap

pytestmark = pytest.mark.any_loop


async def test_a_gap_in_the_sequence_numbers_is_reported_before_the_next_message() -> None:
    backend, hub, reply, recorder = await with_member("chat")
    backend.hear("chat", {"text": "1"}, number=1)
    backend.hear("chat", {"text": "2"}, number=2)
    assert recorder.gaps == []
    backend.hear("chat", {"text": "4"}, number=4)
    await settle()
    assert [(gap.groups, gap.reason) for gap in recorder.gaps] == [({"chat"}, "lost")]
    assert reply.sent == ["1", "2", "4"]
    await hub.stop()


async def test_B17c_many_sequence_gaps_are_reported_at_once_and_then_together(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("uvicorn.broadcast.gap_reports._INTERVAL_SECONDS", 0.01)
    backend, hub, _, recorder = await with_member("a", "b")
    for number in range(1, 100, 2):
        backend.hear("a", {}, number=number)
        backend.hear("b", {}, number=number)
    await settle()
    assert [(gap.groups, gap.reason) for gap in recorder.gaps] == [({"a"}, "lost")]
    await until(lambda: len(recorder.gaps) == 2)
    assert (recorder.gaps[1].groups, recorder.gaps[1].reason) == ({"a", "b"}, "lost")
    await until(lambda: hub._gaps._timer is None)
    assert (len(recorder.gaps), len(caplog.records)) == (2, 1)
    await hub.stop()


async def test_B17c_many_messages_above_the_size_limit_are_reported_at_once_and_then_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend, hub, _, recorder = await with_member("chat")
    for since in range(100):
        backend.lose("chat", reason="overflow", since=since)
    await settle()
    assert [(gap.reason, gap.since) for gap in recorder.gaps] == [("overflow", 0)]
    assert hub._gaps._pending == {"overflow": {"chat": 1}}
    await hub.stop()


async def test_the_first_message_after_joining_is_no_gap() -> None:
    backend, hub, _, recorder = await with_member("chat")
    backend.hear("chat", {"text": "57"}, number=57)
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_the_first_message_after_leaving_and_joining_again_is_no_gap() -> None:
    backend, hub, reply, recorder = await with_member("chat")
    backend.hear("chat", {"text": "1"}, number=1)
    hub.discard("chat", reply.name)
    hub.add("chat", reply.name, reply, Context())
    await settle()
    backend.hear("chat", {"text": "9"}, number=9)
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_sequence_numbers_are_checked_for_each_sender_and_group() -> None:
    backend, hub, _, recorder = await with_member("a", "b")
    for group, sender, number in (("a", "x", 1), ("a", "y", 9), ("b", "x", 5), ("a", "x", 2), ("b", "x", 6)):
        backend.hear(group, {}, sender, number)
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_a_sender_whose_sequence_numbers_start_anew_causes_no_gap() -> None:
    backend, hub, _, recorder = await with_member("chat")
    for number in (5, 6, 1, 2):
        backend.hear("chat", {}, number=number)
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_a_gap_that_the_backend_has_reported_is_not_reported_again_for_its_sequence_numbers() -> None:
    backend, hub, _, recorder = await with_member("chat")
    backend.hear("chat", {}, number=1)
    backend.lose("chat", since=77.0)
    backend.hear("chat", {}, number=9)
    await settle()
    assert recorder.gaps == [Gap({"chat"}, "reconnect", 77.0)]
    await hub.stop()


async def test_the_number_of_senders_whose_sequence_is_stored_is_limited() -> None:
    backend, hub, _, recorder = await with_member("chat")
    for sender in range(1000):
        backend.hear("chat", {}, str(sender), 1)
    assert len(hub._gaps._received) == 256
    await settle()
    assert recorder.gaps == []
    await hub.stop()


async def test_a_gap_is_logged_with_the_number_of_affected_clients(caplog: pytest.LogCaptureFixture) -> None:
    backend, hub, _, _ = await with_member("chat")
    backend.lose("chat", since=77.0)
    await settle()
    assert "messages to 1 clients may have been lost since 77.000: reconnect" in caplog.text
    await hub.stop()


async def test_a_gap_in_a_group_without_members_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    backend, hub, _, recorder = await with_member("chat")
    backend.lose("other", hub.remote_members.group)
    await settle()
    assert (recorder.gaps, caplog.text) == ([], "")
    await hub.stop()
