"""What every backend promises (B1, B2, B4, B7, B11, B16 of the contract), on each of them."""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import Final

import pytest

from uvicorn.errors import BroadcastUnavailable

from .ear import Ear, Message, listening
from .redis_servers import RedisServer

#: 10,000 before a release.
RACES: Final = int(os.environ.get("UVICORN_TEST_RACES", "300"))

BACKENDS: Final = ("memory", "redis", "unix", "redis+py", "unix+py", "redis+cluster", "redis+sentinel")


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return "memory://"
    if request.param in ("redis+cluster", "redis+sentinel"):
        ready: str = request.getfixturevalue(request.param.replace("redis+", "") + "_url")
        return ready
    server: RedisServer = request.getfixturevalue("redis_server")
    scheme: str = request.param
    return (server.unix_url if "unix" in scheme else server.url).replace(scheme.partition("+")[0], scheme, 1)


@pytest.fixture
def group() -> str:
    return f"group {uuid.uuid4().hex}"


async def test_what_is_published_after_subscribing_is_heard_once(url: str, group: str) -> None:
    async with listening(url, group) as (backend, ear):
        await backend.publish(group, b"one")
        await backend.publish(group, b"two")
        await ear.hear(2)
    assert ear.payloads == [b"one", b"two"]


async def test_any_bytes_arrive_as_they_were(url: str, group: str) -> None:
    payloads = [b"", b"\x00", bytes(range(256)), b"\r\n*3\r\n$7\r\nmessage\r\n", b"x" * 1_000_000, b"\xff" * 65536]
    async with listening(url, group) as (backend, ear):
        for payload in payloads:
            await backend.publish(group, payload)
        assert await ear.hear(len(payloads)) == payloads


@pytest.mark.parametrize("name", ["", " ", "a b\r\nc", "ü€😀", "\ud800", "*", "a" * 1000, "$1\r\nPUBLISH"])
async def test_f2_any_text_names_a_group_and_none_is_a_command(url: str, group: str, name: str) -> None:
    async with listening(url, group + name) as (backend, ear):
        await backend.publish(group + name, b"x")
        await ear.hear(1)
        assert ear.events[0].group == group + name


async def test_each_payload_comes_with_its_group(url: str, group: str) -> None:
    async with listening(url, f"{group} a", f"{group} b") as (backend, ear):
        for name in "abba":
            await backend.publish(f"{group} {name}", name.encode())
        await ear.hear(4)
    assert sorted((event.group[-1], event.payload) for event in ear.events if isinstance(event, Message)) == [
        ("a", b"a"),
        ("a", b"a"),
        ("b", b"b"),
        ("b", b"b"),
    ]


async def test_other_groups_are_not_heard(url: str, group: str) -> None:
    async with listening(url, group) as (backend, ear):
        await backend.publish(f"{group} of others", b"no")
        await backend.publish(group, b"yes")
        assert await ear.hear(1) == [b"yes"]


async def test_what_one_publishes_arrives_in_order_whatever_its_size(url: str, group: str) -> None:
    sizes = [8, 200_000, 1, 65_536, 70, 8192] * 20
    payloads = [b"%d:" % number + b"x" * size for number, size in enumerate(sizes)]
    async with listening(url, group) as (backend, ear):
        for payload in payloads:
            await backend.publish(group, payload)
        assert await ear.hear(len(payloads)) == payloads


async def test_publishes_made_at_once_arrive_in_the_order_in_which_they_were_begun(url: str, group: str) -> None:
    async with listening(url, group) as (backend, ear):
        await asyncio.gather(*(backend.publish(group, b"%d" % number) for number in range(500)))
        assert await ear.hear(500) == [b"%d" % number for number in range(500)]


async def test_everybody_hears_several_publishers_in_the_same_order(url: str, group: str) -> None:
    async with listening(url, group) as (one, first), listening(url, group) as (other, second):

        async def speak(backend: object, name: str) -> None:
            for number in range(100):
                await backend.publish(group, f"{name}{number}".encode())  # type: ignore[attr-defined]

        await asyncio.gather(speak(one, "a"), speak(other, "b"))
        await first.hear(200)
        assert await second.hear(200) == first.payloads


async def test_own_messages_are_heard_and_only_once(url: str, group: str) -> None:
    async with listening(url, group) as (one, first), listening(url, group) as (_, second):
        for number in range(50):
            await one.publish(group, b"%d" % number)
        await one.publish(group, b"end")
        await first.until(lambda: b"end" in first.payloads)
        await second.until(lambda: b"end" in second.payloads)
    assert first.payloads == second.payloads
    assert len(first.payloads) == 51


async def test_no_message_published_after_subscribing_is_lost_in_many_races(url: str, group: str) -> None:
    async with listening(url) as (backend, ear), listening(url) as (other, _):
        for number in range(RACES):
            name = f"{group} {number}"
            await backend.subscribe([name])
            await (other if number % 2 else backend).publish(name, b"%d" % number)
            if number % 3 == 0:
                await ear.hear(number + 1)
                await backend.unsubscribe([name])
        await ear.hear(RACES)
    assert sorted(ear.payloads, key=int) == [b"%d" % number for number in range(RACES)]
    assert not ear.gaps


async def test_a_group_that_is_left_and_entered_again_and_again_is_heard_each_time(url: str, group: str) -> None:
    async with listening(url) as (backend, ear):
        for number in range(100):
            await backend.subscribe([group])
            await backend.publish(group, b"%d" % number)
            await ear.hear(number + 1)
            await backend.unsubscribe([group])
    assert ear.payloads == [b"%d" % number for number in range(100)]


async def test_two_who_subscribe_at_once_are_both_acknowledged(url: str, group: str) -> None:
    async with listening(url) as (backend, ear):
        await asyncio.gather(*(backend.subscribe([group]) for _ in range(10)))
        await backend.publish(group, b"x")
        await backend.publish(group, b"end")
        assert await ear.hear(2) == [b"x", b"end"]


async def test_one_who_is_cancelled_while_subscribing_does_not_cancel_the_other(url: str, group: str) -> None:
    async with listening(url) as (backend, ear):
        one = asyncio.create_task(backend.subscribe([group]))
        other = asyncio.create_task(backend.subscribe([group]))
        await asyncio.sleep(0)
        one.cancel()
        await other
        await backend.publish(group, b"x")
        assert await ear.hear(1) == [b"x"]


async def test_nothing_is_heard_after_unsubscribing(url: str, group: str) -> None:
    async with listening(url, group, f"{group} other") as (backend, ear):
        publishes = [asyncio.create_task(backend.publish(group, b"x")) for _ in range(100)]
        await publishes[0]
        await backend.unsubscribe([group])
        heard = len(ear.payloads)
        await asyncio.gather(*publishes)
        await backend.publish(f"{group} other", b"end")
        await ear.until(lambda: b"end" in ear.payloads)
    assert len(ear.payloads) == heard + 1


async def test_unsubscribing_from_what_was_never_subscribed_does_nothing(url: str, group: str) -> None:
    async with listening(url, group) as (backend, ear):
        await backend.unsubscribe([f"{group} other"])
        await backend.publish(group, b"x")
        assert await ear.hear(1) == [b"x"]


async def test_thousands_of_groups_are_subscribed_in_one_call(url: str, group: str) -> None:
    names = [f"{group} {number}" for number in range(3000)]
    async with listening(url, *names) as (backend, ear):
        for name in names[::300]:
            await backend.publish(name, b"x")
        await ear.hear(10)
        await backend.unsubscribe(names)
    assert sorted(event.group for event in ear.events) == sorted(names[::300])


async def test_a_callback_that_fails_does_not_end_hearing(url: str, group: str) -> None:
    class Clumsy(Ear):
        def on_message(self, group: str, payload: bytes) -> None:
            super().on_message(group, payload)
            raise RuntimeError("dropped it")

    from uvicorn.broadcast.backend_factory import backend_from_url

    ear, backend = Clumsy(), backend_from_url(url)
    await backend.start(ear.on_message, ear.on_gap)
    await backend.subscribe([group])
    await backend.publish(group, b"one")
    await backend.publish(group, b"two")
    assert await ear.hear(2) == [b"one", b"two"]
    await backend.stop()


async def test_the_metrics_count_what_was_published_and_what_was_delivered(url: str, group: str) -> None:
    async with listening(url, group) as (backend, ear):
        assert backend.metrics.connected
        for _ in range(3):
            await backend.publish(group, b"x")
        await ear.hear(3)
        assert (backend.metrics.published, backend.metrics.delivered, backend.metrics.gaps) == (3, 3, 0)
        assert backend.metrics.pending_high_water >= 1
    assert not backend.metrics.connected


async def test_a_publish_that_is_cancelled_harms_no_other(url: str, group: str) -> None:
    async with listening(url, group) as (backend, ear):
        for _ in range(100):
            task = asyncio.create_task(backend.publish(group, b"maybe"))
            await asyncio.sleep(0)
            task.cancel()
        await backend.publish(group, b"end")
        await ear.until(lambda: b"end" in ear.payloads)
        assert ear.payloads[-1] == b"end"


async def test_what_is_being_published_when_it_stops_arrives(url: str, group: str) -> None:
    async with listening(url, group) as (_, ear):
        async with listening(url) as (other, _):
            publishes = [asyncio.create_task(other.publish(group, b"%d" % number)) for number in range(100)]
            await asyncio.sleep(0)
        await asyncio.gather(*publishes)
        assert await ear.hear(100) == [b"%d" % number for number in range(100)]


async def test_a_backend_that_was_stopped_starts_again(url: str, group: str) -> None:
    async with listening(url, group) as (backend, ear):
        await backend.stop()
        await backend.start(ear.on_message, ear.on_gap)
        await backend.publish(group, b"not subscribed any more")
        await backend.subscribe([group])
        await backend.publish(group, b"x")
        assert await ear.hear(1) == [b"x"]


async def test_stopping_twice_does_nothing(url: str, group: str) -> None:
    async with listening(url, group) as (backend, _):
        await backend.stop()
        await backend.stop()


async def test_publishing_before_it_is_started_says_what_is_missing(url: str, group: str) -> None:
    from uvicorn.broadcast.backend_factory import backend_from_url

    with pytest.raises(BroadcastUnavailable, match="not started in this process; await start"):
        await backend_from_url(url).publish(group, b"x")
