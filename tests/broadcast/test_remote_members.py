"""Channels of other processes. A second hub with its own channel names acts as the other process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Any

import pytest

from tests.broadcast.scripted import Reply, ScriptedBackend, started_hub
from tests.helpers import settle, until
from uvicorn.broadcast import remote_members as module
from uvicorn.broadcast.backend import Backend
from uvicorn.broadcast.backend_factory import backend_from_url
from uvicorn.broadcast.groups import GroupsChannel
from uvicorn.broadcast.hub import Hub, HubOptions, outcome
from uvicorn.channel import DONE, ChannelNames
from uvicorn.errors import BroadcastUnavailable

pytestmark = pytest.mark.any_loop

#: The group of a process that asks.
ASKER = "uvicorn.process.0123456789abcdef"


class Process:
    """A hub and channel names like those of another process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *secrets: bytes) -> None:
        self.names = ChannelNames()
        self._monkeypatch = monkeypatch
        self.enter()
        self.hub = Hub(self._open_backend, HubOptions(secrets=secrets))
        self.channel = GroupsChannel(self.hub)

    def enter(self) -> None:
        """Look up the channel names of this process from now on."""
        for name in ("remote_members", "groups"):
            self._monkeypatch.setattr(f"uvicorn.broadcast.{name}.channel_names", self.names)

    def client(self) -> Reply:
        reply = Reply()
        reply.name = self.names.new("reply", reply)
        return reply

    async def _open_backend(self) -> Backend:
        return backend_from_url("memory://elsewhere")


@asynccontextmanager
async def two_processes(
    monkeypatch: pytest.MonkeyPatch, asking_secrets: tuple[bytes, ...] = (), owning_secrets: tuple[bytes, ...] = ()
) -> AsyncIterator[tuple[Process, Process]]:
    asking, owning = Process(monkeypatch, *asking_secrets), Process(monkeypatch, *owning_secrets)
    await asking.hub.start()
    await owning.hub.start()
    await settle()
    yield asking, owning
    await asking.hub.stop()
    await owning.hub.stop()


async def ask(asking: Process, owning: Process, message: dict[str, Any]) -> None:
    """Send a request while each process looks up its own channel names."""
    asking.enter()
    pending = asking.channel.send(message)
    owning.enter()
    await pending


async def test_B12_process_can_add_a_channel_of_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        reply = owning.client()
        await ask(asking, owning, {"group": "chat", "add": reply.name})
        await outcome(asking.hub.publish("chat", {"text": "a"}))
        await settle()
        assert reply.sent == ["a"]


async def test_B12_process_can_discard_a_channel_of_another_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        reply = owning.client()
        await ask(asking, owning, {"group": "chat", "add": reply.name})
        await ask(asking, owning, {"group": "chat", "discard": reply.name})
        assert owning.hub.snapshot()["groups"] == 0


async def test_process_cannot_add_a_disconnected_channel_of_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        await ask(asking, owning, {"group": "chat", "add": owning.client().name})
        assert owning.hub.members == {}


async def test_failure_to_add_a_channel_of_a_dead_process_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_TRY_SECONDS", 0.001)
    async with two_processes(monkeypatch) as (asking, _):
        asking.enter()
        await asking.channel.send({"group": "chat", "add": "reply.0123456789abcdef.1"})
        assert "cannot add channel reply.0123456789abcdef.1" in caplog.text


async def test_adding_a_remote_channel_raises_if_the_request_cannot_be_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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
async def test_F5_malformed_control_messages_raise_nothing(
    monkeypatch: pytest.MonkeyPatch, message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        await outcome(asking.hub.publish(owning.hub.remote_members.group, message))
        await settle()
        reply = owning.client()
        await ask(asking, owning, {"group": "chat", "add": reply.name})
        assert set(owning.hub.members) == {reply.name}
        assert caplog.text == ""


async def test_request_to_add_a_channel_is_answered_after_the_group_is_subscribed() -> None:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    await settle()
    backend.answers.clear()
    reply = Reply()
    request = {"_uvicorn_control": "add", "group": "chat", "name": reply.name, "number": 1, "answer": ASKER}
    backend.receive(hub.remote_members.group, request)
    await settle()
    assert backend.published == []
    backend.answers.set()
    await settle()
    assert [group for group, _ in backend.published] == [ASKER]
    await hub.stop()


async def test_hub_answers_a_repeated_add_request_if_the_first_answer_failed() -> None:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    reply = Reply()
    request = {"_uvicorn_control": "add", "group": "chat", "name": reply.name, "number": 1, "answer": ASKER}
    backend.failure = BroadcastUnavailable("Redis is down")
    backend.receive(hub.remote_members.group, request)
    await settle()
    backend.failure = None
    backend.receive(hub.remote_members.group, request)
    await settle()
    assert [group for group, _ in backend.published] == [ASKER]
    await hub.stop()


async def test_second_answer_to_a_request_to_add_a_channel_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        reply = owning.client()
        asking.enter()
        pending = asking.channel.send({"group": "chat", "add": reply.name})
        assert pending is not DONE
        owning.enter()
        adding = asyncio.ensure_future(pending)
        for _ in range(2):
            await outcome(
                owning.hub.publish(asking.hub.remote_members.group, {"_uvicorn_control": "done", "number": 1})
            )
        await adding


# A client of Redis with publish rights that is not one of our processes.


def forged(**changes: Any) -> dict[str, Any]:
    return {"_uvicorn_control": "add", "group": "chat", "number": 1, "answer": ASKER} | changes


async def test_B17c_forged_requests_do_not_break_the_control_channel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        victim, reply = owning.client(), owning.client()
        control = owning.hub.remote_members.group
        owning.enter()
        for action in ("add", "discard", "add"):
            request = forged(_uvicorn_control=action, group=control, name=victim.name)
            await outcome(asking.hub.publish(control, request))
        await settle()
        await ask(asking, owning, {"group": "chat", "add": reply.name})
        assert set(owning.hub.members) == {reply.name}
        assert victim.sent == []


async def test_B17c_client_in_the_control_group_receives_no_control_message() -> None:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    victim, reply = Reply(), Reply()
    hub.add(hub.remote_members.group, victim.name, victim, Context())
    backend.receive(hub.remote_members.group, forged(name=reply.name))
    assert (victim.sent, reply.name in hub.members) == ([], True)
    await hub.stop()


@pytest.mark.parametrize(
    "changes",
    [
        {"group": "x" * 513},
        {"group": "uvicorn.process.0123456789abcdef"},
        {"group": "\ud800"},
        {"group": ""},
        {"number": float("nan")},
        {"number": 1.5},
        {"number": True},
        {"number": -1},
        {"number": 1 << 53},
        {"number": "\ud800"},
        {"number": [[]]},
        {"answer": "chat"},
        {"answer": "uvicorn.process." + "x" * 1_000_000},
        {"answer": "uvicorn.process.0123456789abcdef\n"},
    ],
)
async def test_B17c_a_forged_request_with_invalid_values_changes_nothing(
    changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    reply = Reply()
    payload = json.dumps(forged(name=reply.name) | changes).encode()
    backend.receive_payload(hub.remote_members.group, payload)
    await settle()
    assert (hub.members, backend.published, caplog.text) == ({}, [], "")
    await hub.stop()


async def test_B17c_the_number_of_pending_answers_is_limited() -> None:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    reply = Reply()
    backend.answers.clear()
    for number in range(1, 1500):
        backend.receive(hub.remote_members.group, forged(name=reply.name, number=number))
    await settle()
    assert hub.remote_members._answers == 1000
    backend.answers.set()
    await settle(2000)
    assert (len(backend.published), hub.remote_members._answers) == (1000, 0)
    await hub.stop()


async def test_B17c_hub_limits_memberships_from_unsigned_requests(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_MAX_MEMBERSHIPS", 3)
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    one, two = Reply(), Reply()
    for number in range(1, 10):
        backend.receive(hub.remote_members.group, forged(name=one.name, group=str(number)))
        backend.receive(hub.remote_members.group, forged(name=one.name, group="1"))
    assert len(hub.members[one.name].groups) == 3
    assert caplog.text.count("other processes asked to add clients to groups; ignored 1 request ") == 1
    assert caplog.text.count("above the limit of 3 memberships") == 1
    hub.discard("1", one.name)
    backend.receive(hub.remote_members.group, forged(name=two.name, group="a"))
    assert hub.members[two.name].groups == {"a"}
    one.close()
    for group in "bcd":
        backend.receive(hub.remote_members.group, forged(name=two.name, group=group))
    assert hub.members[two.name].groups == {"a", "b", "c"}
    await hub.stop()


async def test_hub_ignores_an_answer_addressed_to_another_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    async with two_processes(monkeypatch) as (asking, owning):
        asking.enter()
        pending = asking.channel.send({"group": "chat", "add": owning.client().name})
        answer = {"_uvicorn_control": "done", "number": 1, "asker": "another"}
        await outcome(owning.hub.publish(asking.hub.remote_members.group, answer))
        await settle()
        assert not asking.hub.remote_members._requests[1].done()
        owning.enter()
        await pending


# With a secret.

OLD, NEW = b"o" * 16, b"n" * 16


@pytest.mark.parametrize(
    ("asking_secrets", "owning_secrets"),
    [((NEW,), (NEW,)), ((OLD,), (OLD, NEW)), ((OLD, NEW), (NEW, OLD)), ((NEW, OLD), (OLD, NEW))],
)
async def test_process_with_a_shared_secret_may_add_remote_clients(
    monkeypatch: pytest.MonkeyPatch, asking_secrets: tuple[bytes, ...], owning_secrets: tuple[bytes, ...]
) -> None:
    async with two_processes(monkeypatch, asking_secrets, (*owning_secrets, *asking_secrets)) as (asking, owning):
        asking.hub.remote_members._signer._secrets = (*asking_secrets, *owning_secrets)  # type: ignore[union-attr]
        reply = owning.client()
        await ask(asking, owning, {"group": "chat", "add": reply.name})
        await ask(asking, owning, {"group": "chat", "discard": reply.name})
        await ask(asking, owning, {"group": "chat", "add": reply.name})
        assert set(owning.hub.members) == {reply.name}


@pytest.mark.parametrize("asking_secrets", [(), (OLD,)])
async def test_B17c_requests_without_the_secret_are_ignored_and_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, asking_secrets: tuple[bytes, ...]
) -> None:
    monkeypatch.setattr(module, "_TRY_SECONDS", 0.001)
    async with two_processes(monkeypatch, asking_secrets, (NEW,)) as (asking, owning):
        await ask(asking, owning, {"group": "chat", "add": owning.client().name})
        assert (owning.hub.members, owning.hub.metrics.dropped_control) == ({}, 4)
        assert caplog.text.count("control messages to this process were ignored") == 1


async def test_B17c_a_replayed_request_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ScriptedBackend()
    owner = await started_hub(backend, HubOptions(secrets=(NEW,)))
    asking = await started_hub(ScriptedBackend(), HubOptions(secrets=(NEW,)))
    signer, reply = asking.remote_members._signer, Reply()
    assert signer is not None
    added = signer.sign(owner.remote_members.group, asking.sender, forged(name=reply.name))
    backend.receive(owner.remote_members.group, added)
    assert set(owner.members) == {reply.name}
    owner.discard("chat", reply.name)
    backend.receive(owner.remote_members.group, added)
    assert not owner.members[reply.name].groups
    await owner.stop()
    await asking.stop()


async def test_hub_does_not_limit_memberships_from_signed_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_MEMBERSHIPS", 1)
    async with two_processes(monkeypatch, (NEW,), (NEW,)) as (asking, owning):
        reply = owning.client()
        for group in "abc":
            await ask(asking, owning, {"group": group, "add": reply.name})
        assert owning.hub.members[reply.name].groups == {"a", "b", "c"}


# Several hubs of one process receive its control messages.


async def test_hub_publishes_a_request_to_add_a_channel_of_another_event_loop() -> None:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    reply = Reply()
    reply.loop_thread = 0
    adding = asyncio.ensure_future(GroupsChannel(hub).send({"group": "chat", "add": reply.name}))
    await until(lambda: bool(backend.published))
    group, payload = backend.published[0]
    assert (group, json.loads(payload)["_uvicorn_control"], hub.members) == (hub.remote_members.group, "add", {})
    adding.cancel()
    await hub.stop()


@pytest.mark.parametrize("action", ["add", "discard"])
async def test_hub_ignores_a_remote_request_for_a_channel_of_another_event_loop(action: str) -> None:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    reply = Reply()
    reply.loop_thread = 0
    backend.receive(hub.remote_members.group, forged(name=reply.name, _uvicorn_control=action))
    await settle()
    assert (hub.members, backend.published) == ({}, [])
    await hub.stop()


async def test_only_one_of_two_hubs_with_the_same_url_adds_a_remote_client() -> None:
    backends = ScriptedBackend(), ScriptedBackend()
    hubs = [await started_hub(backend) for backend in backends]
    for hub in hubs:
        hub.url = "redis://one"
    reply = Reply()
    for hub, backend in zip(hubs, backends, strict=True):
        backend.receive(hub.remote_members.group, forged(name=reply.name))
    await settle()
    assert [list(hub.members) for hub in hubs] == [[reply.name], []]
    for hub in hubs:
        await hub.stop()
