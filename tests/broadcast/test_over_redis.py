"""Groups over a real Redis, in several processes and threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.broadcast.redis_servers import RedisServer
from tests.broadcast.scripted import Reply
from tests.helpers import until
from uvicorn.broadcast import BroadcastMiddleware, Publisher
from uvicorn.broadcast.groups import GroupsChannel
from uvicorn.broadcast.hub import Hub, outcome
from uvicorn.errors import BroadcastUnavailable

#: Set to 10000 to be sure.
RACES = int(os.environ.get("UVICORN_TEST_BROADCAST_RACES", "300"))


@asynccontextmanager
async def hub_on(url: str, **options: Any) -> AsyncIterator[Hub]:
    async def app(message: Any, channels: Any) -> None: ...

    middleware = BroadcastMiddleware(app, url=url, **options)
    await middleware.startup()
    yield next(iter(middleware._hubs.values()))
    await middleware.shutdown()


async def join(hub: Hub, group: str) -> Reply:
    reply = Reply()
    await GroupsChannel(hub, reply).send({"group": group, "add": reply.name})
    return reply


async def test_B7_member_receives_every_message_sent_after_it_was_added(redis_server: RedisServer) -> None:
    async with hub_on(redis_server.url) as hub, hub_on(redis_server.url) as other:
        replies = []
        for number in range(RACES):
            group = f"race {number}"
            replies.append(await join(hub, group))
            await GroupsChannel(other).send({"group": group, "send": {"text": group}})
        await until(lambda: all(reply.sent for reply in replies))
        assert [reply.sent for reply in replies] == [[f"race {number}"] for number in range(RACES)]
        assert hub.metrics.gaps == 0


async def test_B7_member_receives_messages_published_from_a_thread(redis_server: RedisServer) -> None:
    with Publisher(redis_server.url) as publisher:
        async with hub_on(redis_server.url) as hub:
            reply = await join(hub, "threads")
            for number in range(20):
                await asyncio.to_thread(publisher.publish, "threads", {"text": str(number)})
            await until(lambda: len(reply.sent) == 20)
            assert reply.sent == [str(number) for number in range(20)]


async def test_B2_all_members_get_the_messages_in_the_same_order(redis_server: RedisServer) -> None:
    async with hub_on(redis_server.url) as hub, hub_on(redis_server.url) as other:
        members = [await join(hub, "chat") for _ in range(3)]
        for number in range(200):
            for name, sender in (("a", hub), ("b", other)):
                sender.publish("chat", {"text": f"{name} {number}"})
        await until(lambda: len(members[0].sent) == 400)
        assert members[0].sent == members[1].sent == members[2].sent
        for name in "ab":
            theirs = [text for text in members[0].sent if text.startswith(name)]
            assert theirs == [f"{name} {number}" for number in range(200)]
        assert hub.metrics.gaps == 0


async def test_B8_ten_thousand_members_of_one_group_need_one_subscription(
    own_redis: RedisServer,
) -> None:
    async with hub_on(own_redis.url) as hub:
        replies = [Reply() for _ in range(10_000)]
        await asyncio.gather(
            *(GroupsChannel(hub, reply).send({"group": "all", "add": reply.name}) for reply in replies)
        )
        # One for the group, one for this process's own.
        assert own_redis.ask("INFO", "commandstats")["cmdstat_subscribe"]["calls"] == 2
        hub.publish("all", {"text": "hi"})
        await until(lambda: replies[-1].sent)
        assert all(reply.sent == ["hi"] for reply in replies)


@pytest.mark.parametrize("text", ["PUBLISH chat x\r\n", "\r\n*1\r\n$8\r\nFLUSHALL\r\n"])
async def test_F2_a_group_name_is_never_interpreted_as_a_redis_command_or_pattern(
    text: str, redis_server: RedisServer
) -> None:
    async with hub_on(redis_server.url) as hub:
        reply, other = await join(hub, text), await join(hub, "chat")
        hub.publish(text, {"text": "hi"})
        await until(lambda: reply.sent)
        assert (reply.sent, other.sent) == (["hi"], [])


async def test_F5_random_payloads_from_another_publisher_are_dropped(redis_server: RedisServer) -> None:
    async with hub_on(redis_server.url, max_message_bytes=1000) as hub:
        reply = await join(hub, "chat")
        for payload in (b"", b"\x80\x04", b"\x01\xff\xff\xff\xff", b"[" * 5000, b"{" + b" " * 5000 + b"}", b"null"):
            redis_server.ask("PUBLISH", "chat", payload)
            redis_server.ask("PUBLISH", hub.remote_members.group, payload)
        redis_server.ask("PUBLISH", "chat", '{"text": "hello from a shell"}')
        await until(lambda: reply.sent)
        assert reply.sent == ["hello from a shell"]
        assert hub.metrics.dropped_broken == 12


async def test_F6_a_redis_user_with_minimal_rights_can_publish_and_subscribe(own_redis: RedisServer) -> None:
    commands = ["-@all", "+publish", "+subscribe", "+unsubscribe", "+ping"]
    own_redis.ask("ACL", "SETUSER", "app", "on", ">secret", "resetchannels", "&app.*", *commands)
    url = f"redis://app:secret@127.0.0.1:{own_redis.port}"
    async with hub_on(url, prefix="app.") as hub:
        reply = await join(hub, "chat")
        await GroupsChannel(hub).send({"group": "chat", "send": {"text": "hi"}})
        await until(lambda: reply.sent)
        await asyncio.to_thread(Publisher(url, prefix="app.").publish, "chat", {"text": "ho"})
        await until(lambda: len(reply.sent) == 2)
        with pytest.raises(BroadcastUnavailable, match="NOPERM") as refused:
            await asyncio.to_thread(Publisher(url, prefix="other.").publish, "chat", {})
        assert "secret" not in str(refused.value)


async def test_F6_restricted_redis_user_can_use_only_its_permitted_channels(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    own_redis.ask(
        "ACL",
        "SETUSER",
        "app",
        "on",
        ">secret",
        "resetchannels",
        "&chat",
        "-@all",
        *"+publish +subscribe +unsubscribe +ping".split(),
    )
    async with hub_on(f"redis://app:secret@127.0.0.1:{own_redis.port}") as hub:
        reply = await join(hub, "chat")
        await GroupsChannel(hub, reply).send({"group": "forbidden", "add": reply.name})
        await GroupsChannel(hub).send({"group": "chat", "send": {"text": "hi"}})
        await until(lambda: reply.sent)
        # Each of the two once: the forbidden one, and this process's own.
        assert caplog.text.count("NOPERM") == 2
        await GroupsChannel(hub, reply).send({"group": "chat", "discard": reply.name})
        await until(lambda: own_redis.ask("PUBSUB", "CHANNELS") == [])


async def test_bytes_values_of_a_message_arrive_as_bytes(redis_server: RedisServer) -> None:
    async with hub_on(redis_server.url) as hub:
        reply = await join(hub, "chat")
        hub.publish("chat", {"bytes": b"\x00\xff"})
        await until(lambda: reply.sent)
        assert reply.sent == [{"bytes": b"\x00\xff"}]


async def test_B1_client_added_by_another_event_loop_gets_each_message_once(
    redis_server: RedisServer,
) -> None:
    async def add_and_send(name: str) -> None:
        async with hub_on(redis_server.url) as other:
            await GroupsChannel(other).send({"group": "two loops", "add": name})
            await GroupsChannel(other).send({"group": "two loops", "send": {"text": "1"}})
            await until(lambda: bool(reply.sent))

    async with hub_on(redis_server.url) as hub:
        reply = Reply()
        await asyncio.to_thread(asyncio.run, add_and_send(reply.name))
        last = await join(hub, "two loops")
        await outcome(hub.publish("two loops", {"text": "2"}))
        await until(lambda: bool(last.sent))
        assert reply.sent == ["1", "2"]
