"""Channels that belong to another process: here another hub whose names are another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.broadcast.scripted import Reply, ScriptedBackend, started_hub
from tests.helpers import settle
from uvicorn.broadcast import elsewhere
from uvicorn.broadcast.backends.base import Backend
from uvicorn.broadcast.backends.memory import MemoryBackend
from uvicorn.broadcast.groups import GroupsChannel
from uvicorn.broadcast.hub import Hub, HubOptions, outcome
from uvicorn.errors import BroadcastUnavailable
from uvicorn.sending import SENT, ChannelNames


class Process:
    """A hub, and names, as in a process of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names = ChannelNames()
        self._monkeypatch = monkeypatch
        self.enter()
        self.hub = Hub(self._open_backend, HubOptions())
        self.channel = GroupsChannel(self.hub)

    def enter(self) -> None:
        """What is looked up from now on is this process's."""
        for module in ("elsewhere", "groups"):
            self._monkeypatch.setattr(f"uvicorn.broadcast.{module}.channel_names", self.names)

    def client(self) -> Reply:
        reply = Reply()
        reply.name = self.names.new("reply", reply)
        return reply

    async def _open_backend(self) -> Backend:
        return MemoryBackend("elsewhere")


@asynccontextmanager
async def two_processes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Process, Process]]:
    asking, owning = Process(monkeypatch), Process(monkeypatch)
    await asking.hub.start()
    await owning.hub.start()
    await settle()
    yield asking, owning
    await asking.hub.stop()
    await owning.hub.stop()


async def ask(asking: Process, owning: Process, message: dict[str, Any]) -> None:
    """Who is asked looks up names of its own; so does who asks, before."""
    asking.enter()
    pending = asking.channel.send(message)
    owning.enter()
    await pending


async def test_B12_a_channel_of_another_process_is_added_by_that_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        reply = owning.client()
        await ask(asking, owning, {"group": "chat", "add": reply.name})
        await outcome(asking.hub.publish("chat", {"text": "a"}))
        await settle()
        assert reply.sent == ["a"]


async def test_and_discarded(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        reply = owning.client()
        await ask(asking, owning, {"group": "chat", "add": reply.name})
        await ask(asking, owning, {"group": "chat", "discard": reply.name})
        assert owning.hub.snapshot()["groups"] == 0


async def test_one_that_has_gone_there_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        await ask(asking, owning, {"group": "chat", "add": owning.client().name})
        assert owning.hub.members == {}


async def test_a_process_that_has_ended_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(elsewhere, "_TRY_SECONDS", 0.001)
    async with two_processes(monkeypatch) as (asking, _):
        asking.enter()
        await asking.channel.send({"group": "chat", "add": "reply.0123456789abcdef.1"})
        assert "nobody answers for channel reply.0123456789abcdef.1" in caplog.text


async def test_what_cannot_be_asked_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes(monkeypatch) as (asking, _):
        asking.enter()
        await asking.hub.stop()
        with pytest.raises(BroadcastUnavailable):
            await asking.channel.send({"group": "chat", "add": "reply.0123456789abcdef.1"})


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"_uvicorn_control": "done", "number": 99},
        {"_uvicorn_control": "done", "number": []},
        {"_uvicorn_control": "add"},
        {"_uvicorn_control": "add", "group": 1, "name": "a", "answer": "b"},
        {"_uvicorn_control": "shutdown", "group": "a", "name": "a", "answer": "b"},
        {"text": "hi"},
    ],
)
async def test_F5_whatever_else_comes_is_survived(
    monkeypatch: pytest.MonkeyPatch, message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        await outcome(asking.hub.publish(owning.hub.elsewhere.group, message))
        await settle()
        reply = owning.client()
        await ask(asking, owning, {"group": "chat", "add": reply.name})
        assert set(owning.hub.members) == {reply.name}
        assert caplog.text == ""


async def test_the_owner_answers_when_the_group_is_heard() -> None:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    await settle()
    backend.answers.clear()
    reply = Reply()
    request = {"_uvicorn_control": "add", "group": "chat", "name": reply.name, "number": 1, "answer": "whoever"}
    backend.hear(hub.elsewhere.group, request)
    await settle()
    assert backend.published == []
    backend.answers.set()
    await settle()
    assert [group for group, _ in backend.published] == ["whoever"]
    await hub.stop()


async def test_an_answer_that_cannot_be_sent_is_asked_for_again() -> None:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    reply = Reply()
    request = {"_uvicorn_control": "add", "group": "chat", "name": reply.name, "number": 1, "answer": "whoever"}
    backend.failure = BroadcastUnavailable("Redis is down")
    backend.hear(hub.elsewhere.group, request)
    await settle()
    backend.failure = None
    backend.hear(hub.elsewhere.group, request)
    await settle()
    assert [group for group, _ in backend.published] == ["whoever"]
    await hub.stop()


async def test_a_second_answer_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        reply = owning.client()
        asking.enter()
        pending = asking.channel.send({"group": "chat", "add": reply.name})
        assert pending is not SENT
        owning.enter()
        adding = asyncio.ensure_future(pending)
        for _ in range(2):
            await outcome(owning.hub.publish(asking.hub.elsewhere.group, {"_uvicorn_control": "done", "number": 1}))
        await adding
