"""`channels['groups']`: adding, discarding and sending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Thread
from typing import Any

import pytest

from tests.broadcast.scripted import Reply, ScriptedBackend, started_hub
from tests.helpers import settle, until
from uvicorn.broadcast.groups import GroupsChannel
from uvicorn.broadcast.hub import Hub
from uvicorn.channel import DONE
from uvicorn.errors import BroadcastUnavailable, LocalProtocolError


class Groups:
    """A client that uses groups, with a backend whose messages the test sends."""

    def __init__(self, hub: Hub, backend: ScriptedBackend) -> None:
        self.hub = hub
        self.backend = backend
        self.reply = Reply()
        self.channel = GroupsChannel(hub, self.reply)
        self.send = self.channel.send


@asynccontextmanager
async def groups() -> AsyncIterator[Groups]:
    backend = ScriptedBackend()
    hub = await started_hub(backend)
    await settle()
    yield Groups(hub, backend)
    await hub.stop()


async def test_B7_adding_a_member_waits_until_the_group_is_subscribed() -> None:
    async with groups() as client:
        client.backend.answers.clear()
        adding = asyncio.ensure_future(client.send({"group": "chat", "add": client.reply.name}))
        await settle()
        assert not adding.done()
        client.backend.answers.set()
        await adding
        client.backend.receive("chat", {"text": "a"})
        assert client.reply.sent == ["a"]


async def test_unawaited_add_message_makes_the_channel_a_group_member() -> None:
    async with groups() as client:
        _ = client.send({"group": "chat", "add": client.reply.name})
        await settle()
        client.backend.receive("chat", {"text": "a"})
        assert client.reply.sent == ["a"]


async def test_adding_a_member_to_a_subscribed_group_returns_at_once() -> None:
    async with groups() as client:
        await client.send({"group": "chat", "add": client.reply.name})
        other = Reply()
        assert client.send({"group": "chat", "add": other.name}) is DONE


async def test_cancelled_join_of_a_group_does_not_cancel_a_concurrent_join() -> None:
    async with groups() as client:
        client.backend.answers.clear()
        first = asyncio.ensure_future(client.send({"group": "chat", "add": client.reply.name}))
        second = asyncio.ensure_future(client.send({"group": "chat", "add": Reply().name}))
        await settle()
        first.cancel()
        client.backend.answers.set()
        await second


async def test_a_second_client_is_added_by_the_name_of_its_reply_channel() -> None:
    async with groups() as client:
        other = Reply()
        await client.send({"group": "chat", "add": other.name})
        client.backend.receive("chat", {"text": "a"})
        assert other.sent == ["a"]


async def test_adding_a_reply_channel_that_no_longer_exists_does_nothing() -> None:
    async with groups() as client:
        name = Reply().name
        assert client.send({"group": "chat", "add": name}) is DONE
        assert client.send({"group": "chat", "discard": name}) is DONE
        assert client.hub.members == {}


async def test_a_discarded_member_gets_no_message_sent_after_the_discard() -> None:
    async with groups() as client:
        await client.send({"group": "chat", "add": client.reply.name})
        _ = client.send({"group": "chat", "discard": client.reply.name})
        client.backend.receive("chat", {"text": "a"})
        assert client.reply.sent == []


async def test_B6_sending_to_a_group_raises_when_the_backend_rejects_the_message() -> None:
    async with groups() as client:
        client.backend.failure = BroadcastUnavailable("Redis is down")
        sending = client.send({"group": "chat", "send": {"text": "a"}})
        with pytest.raises(BroadcastUnavailable, match="Redis is down"):
            await sending


async def test_message_is_published_even_if_its_send_is_cancelled() -> None:
    async with groups() as client:
        client.backend.answers.clear()
        sending = asyncio.ensure_future(client.send({"group": "chat", "send": {"text": "a"}}))
        await settle()
        sending.cancel()
        client.backend.answers.set()
        await settle()
        assert [group for group, _ in client.backend.published] == ["chat"]


async def test_groups_channel_subscribes_to_a_new_group_before_publishing() -> None:
    async with groups() as client:
        other = Reply()
        await client.send({"group": "chat", "add": other.name})
        client.backend.calls.clear()
        client.backend.answers.clear()
        sending = asyncio.ensure_future(
            client.send({"send": {"text": "a"}, "discard": other.name, "add": client.reply.name, "group": "new"})
        )
        await settle()
        assert client.backend.calls == [("subscribe", frozenset({"new"}))]
        assert client.backend.published == []
        client.backend.answers.set()
        await sending
        assert [group for group, _ in client.backend.published] == ["new"]


async def test_channel_that_one_message_adds_and_discards_is_not_a_member() -> None:
    async with groups() as client:
        await client.send({"group": "chat", "add": client.reply.name, "discard": client.reply.name})
        client.backend.receive("chat", {"text": "a"})
        assert client.reply.sent == []


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("chat", "expected a dict, got str"),
        ({}, "'group'"),
        ({"group": "chat"}, "expected any of the keys 'add', 'discard' and 'send', got {'group'}"),
        ({"group": "chat", "add": None}, "expected any of the keys 'add', 'discard' and 'send', got {'group', 'add'}"),
        ({"group": 7, "send": {}}, "got 7"),
        ({"group": "chat", "add": object}, "a name such as"),
        ({"group": "chat", "add": "Ada"}, "a name such as .*, got 'Ada'"),
        ({"group": "chat", "discard": "reply..1"}, "a name such as"),
        ({"group": "chat", "send": "text"}, "expected 'send' to be a dict, got str"),
        ({"group": "chat", "send": {"text": "x" * 2_000_000}}, "of 1048576 bytes at most"),
    ],
)
async def test_sending_an_invalid_message_to_groups_raises_at_once(message: Any, said: str) -> None:
    async with groups() as client:
        with pytest.raises(LocalProtocolError, match=said):
            _ = client.send(message)


async def test_sending_to_a_group_from_a_thread_blocks_until_the_message_is_sent() -> None:
    async with groups() as client:
        client.backend.answers.clear()
        returned: list[str] = []

        def work() -> None:
            _ = client.send({"group": "chat", "add": client.reply.name})
            _ = client.send({"group": "chat", "send": {"text": "a"}})
            returned.append("yes")

        thread = Thread(target=work)
        thread.start()
        await until(lambda: client.backend.calls)
        assert returned == []
        client.backend.answers.set()
        await until(lambda: returned)
        thread.join()
        assert [group for group, _ in client.backend.published] == ["chat"]


async def test_sending_to_a_group_from_a_thread_raises_the_publish_error() -> None:
    async with groups() as client:
        client.backend.failure = BroadcastUnavailable("Redis is down")
        raised: list[BaseException] = []

        def work() -> None:
            for message in ({"group": "chat", "send": {}}, {"group": "chat"}):
                try:
                    _ = client.send(message)
                except Exception as error:
                    raised.append(error)

        thread = Thread(target=work)
        thread.start()
        await until(lambda: len(raised) == 2)
        thread.join()
        assert [type(error) for error in raised] == [BroadcastUnavailable, LocalProtocolError]


async def test_GroupsChannel_and_the_reply_channel_have_the_same_name() -> None:
    async with groups() as client:
        assert client.channel.name == client.reply.name


async def test_name_of_a_GroupsChannel_without_a_reply_channel_raises() -> None:
    async with groups() as client:
        with pytest.raises(LocalProtocolError, match="this client has no reply channel"):
            _ = GroupsChannel(client.hub).name
