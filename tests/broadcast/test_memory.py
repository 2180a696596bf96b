"""The memory backend, beyond the contract of every backend."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from tests.broadcast.recorder import listening
from uvicorn.broadcast import memory
from uvicorn.broadcast.memory import MemoryBackend
from uvicorn.errors import BroadcastUnavailable


async def test_memory_backends_of_the_same_name_share_groups() -> None:
    async with (
        listening("memory://room", "group") as (one, first),
        listening("memory://room", "group") as (_, second),
        listening("memory://elsewhere", "group") as (_, third),
    ):
        await one.publish("group", b"x")
        assert await second.receive(1) == await first.receive(1) == [b"x"]
        assert third.payloads == []


async def test_publishing_waits_while_too_many_messages_are_queued_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_WAITING", 10)
    async with listening("memory://", "group") as (backend, recorder):
        await asyncio.gather(*(backend.publish("group", b"%d" % number) for number in range(95)))
        assert sorted(await recorder.receive(95), key=int) == [b"%d" % number for number in range(95)]
        assert backend.metrics.pending_high_water <= 10


async def test_publishing_waits_while_too_many_bytes_are_queued_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MAX_WAITING_BYTES", 1000)
    async with listening("memory://", "group") as (backend, recorder):
        await asyncio.gather(*(backend.publish("group", b"x" * 600) for _ in range(9)))
        await recorder.receive(9)
        assert backend.metrics.pending_high_water <= 2


async def test_publishing_to_memory_raises_if_the_queue_stays_full_until_the_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "MAX_WAITING", 1)
    async with listening("memory://", publish_timeout=0.01) as (backend, _):
        exchange = memory._exchanges[asyncio.get_running_loop()]["", ""]
        monkeypatch.setattr(exchange, "_deliver", lambda: None)
        await backend.publish("group", b"x")
        with pytest.raises(BroadcastUnavailable, match="the event loop is overloaded"):
            await backend.publish("group", b"x")
        assert backend.metrics.publish_failures == 1


async def test_memory_backends_with_different_prefixes_do_not_share_groups() -> None:
    async with listening("memory://", "chat", prefix="a.") as (first, recorder):
        async with listening("memory://", "chat", prefix="b.") as (second, other):
            await second.publish("chat", b"of the second")
            await first.publish("chat", b"of the first")
            assert (await recorder.receive(1), await other.receive(1)) == ([b"of the first"], [b"of the second"])


async def test_memory_backend_gets_no_message_published_before_it_subscribes() -> None:
    async with listening("memory://") as (backend, recorder):
        await backend.publish("group", b"before")
        await backend.subscribe(["group"])
        await backend.publish("group", b"after")
        assert await recorder.receive(1) == [b"after"]


async def test_a_memory_backend_that_unsubscribes_before_delivery_gets_nothing() -> None:
    async with listening("memory://", "group", "other") as (backend, recorder):
        await backend.publish("group", b"x")
        await backend.unsubscribe(["group"])
        await backend.publish("other", b"y")
        assert await recorder.receive(1) == [b"y"]


async def test_subscribing_in_a_forked_child_raises_if_the_parent_started_the_backend() -> None:
    async with listening("memory://") as (backend, _):
        assert isinstance(backend, MemoryBackend)
        process, backend._process = backend._process, 1
        with pytest.raises(BroadcastUnavailable, match="not started in this process"):
            await backend.subscribe(["group"])
        backend._process = process


def test_memory_backends_of_a_closed_loop_are_freed() -> None:
    async def use() -> weakref.ref[asyncio.AbstractEventLoop]:
        async with listening("memory://", "group") as (backend, recorder):
            await backend.publish("group", b"x")
            await recorder.receive(1)
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(use())
    gc.collect()
    assert loop() is None
