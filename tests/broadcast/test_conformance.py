"""The contract of every backend (rules B1, B2, B4, B7, B11, B16)."""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import Final

import pytest

from uvicorn.errors import BroadcastUnavailable

from .recorder import Message, Recorder, listening
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


async def test_a_payload_published_after_subscribe_is_received_once(url: str, group: str) -> None:
    async with listening(url, group) as (backend, recorder):
        await backend.publish(group, b"one")
        await backend.publish(group, b"two")
        await recorder.receive(2)
    assert recorder.payloads == [b"one", b"two"]


async def test_a_payload_of_any_bytes_is_received_unchanged(url: str, group: str) -> None:
    payloads = [b"", b"\x00", bytes(range(256)), b"\r\n*3\r\n$7\r\nmessage\r\n", b"x" * 1_000_000, b"\xff" * 65536]
    async with listening(url, group) as (backend, recorder):
        for payload in payloads:
            await backend.publish(group, payload)
        assert await recorder.receive(len(payloads)) == payloads


@pytest.mark.parametrize("name", ["", " ", "a b\r\nc", "ü€😀", "\ud800", "*", "a" * 1000, "$1\r\nPUBLISH"])
async def test_f2_backend_delivers_to_a_group_with_any_name(url: str, group: str, name: str) -> None:
    async with listening(url, group + name) as (backend, recorder):
        await backend.publish(group + name, b"x")
        await recorder.receive(1)
        assert recorder.events[0].group == group + name


async def test_a_backend_passes_each_payload_with_its_group(url: str, group: str) -> None:
    async with listening(url, f"{group} a", f"{group} b") as (backend, recorder):
        for name in "abba":
            await backend.publish(f"{group} {name}", name.encode())
        await recorder.receive(4)
    assert sorted((event.group[-1], event.payload) for event in recorder.events if isinstance(event, Message)) == [
        ("a", b"a"),
        ("a", b"a"),
        ("b", b"b"),
        ("b", b"b"),
    ]


async def test_backend_receives_only_payloads_of_subscribed_groups(url: str, group: str) -> None:
    async with listening(url, group) as (backend, recorder):
        await backend.publish(f"{group} of others", b"no")
        await backend.publish(group, b"yes")
        assert await recorder.receive(1) == [b"yes"]


async def test_payloads_of_any_size_arrive_in_order(url: str, group: str) -> None:
    sizes = [8, 200_000, 1, 65_536, 70, 8192] * 20
    payloads = [b"%d:" % number + b"x" * size for number, size in enumerate(sizes)]
    async with listening(url, group) as (backend, recorder):
        for payload in payloads:
            await backend.publish(group, payload)
        assert await recorder.receive(len(payloads)) == payloads


async def test_concurrent_publishes_arrive_in_the_order_of_their_calls(url: str, group: str) -> None:
    async with listening(url, group) as (backend, recorder):
        await asyncio.gather(*(backend.publish(group, b"%d" % number) for number in range(500)))
        assert await recorder.receive(500) == [b"%d" % number for number in range(500)]


async def test_two_subscribers_see_messages_of_two_publishers_in_the_same_order(url: str, group: str) -> None:
    async with listening(url, group) as (one, first), listening(url, group) as (other, second):

        async def speak(backend: object, name: str) -> None:
            for number in range(100):
                await backend.publish(group, f"{name}{number}".encode())  # type: ignore[attr-defined]

        await asyncio.gather(speak(one, "a"), speak(other, "b"))
        await first.receive(200)
        assert await second.receive(200) == first.payloads


async def test_a_backend_receives_its_own_messages_once(url: str, group: str) -> None:
    async with listening(url, group) as (one, first), listening(url, group) as (_, second):
        for number in range(50):
            await one.publish(group, b"%d" % number)
        await one.publish(group, b"end")
        await first.until(lambda: b"end" in first.payloads)
        await second.until(lambda: b"end" in second.payloads)
    assert first.payloads == second.payloads
    assert len(first.payloads) == 51


async def test_backend_receives_messages_published_right_after_it_subscribes(url: str, group: str) -> None:
    async with listening(url) as (backend, recorder), listening(url) as (other, _):
        for number in range(RACES):
            name = f"{group} {number}"
            await backend.subscribe([name])
            await (other if number % 2 else backend).publish(name, b"%d" % number)
            if number % 3 == 0:
                await recorder.receive(number + 1)
                await backend.unsubscribe([name])
        await recorder.receive(RACES)
    assert sorted(recorder.payloads, key=int) == [b"%d" % number for number in range(RACES)]
    assert not recorder.gaps


async def test_repeated_subscribing_and_unsubscribing_loses_no_message(url: str, group: str) -> None:
    async with listening(url) as (backend, recorder):
        for number in range(100):
            await backend.subscribe([group])
            await backend.publish(group, b"%d" % number)
            await recorder.receive(number + 1)
            await backend.unsubscribe([group])
    assert recorder.payloads == [b"%d" % number for number in range(100)]


async def test_concurrent_subscriptions_to_one_group_deliver_each_message_once(url: str, group: str) -> None:
    async with listening(url) as (backend, recorder):
        await asyncio.gather(*(backend.subscribe([group]) for _ in range(10)))
        await backend.publish(group, b"x")
        await backend.publish(group, b"end")
        assert await recorder.receive(2) == [b"x", b"end"]


async def test_cancelled_subscribe_call_does_not_cancel_a_concurrent_call(url: str, group: str) -> None:
    async with listening(url) as (backend, recorder):
        one = asyncio.create_task(backend.subscribe([group]))
        other = asyncio.create_task(backend.subscribe([group]))
        await asyncio.sleep(0)
        one.cancel()
        await other
        await backend.publish(group, b"x")
        assert await recorder.receive(1) == [b"x"]


async def test_backend_receives_nothing_after_it_unsubscribes(url: str, group: str) -> None:
    async with listening(url, group, f"{group} other") as (backend, recorder):
        publishes = [asyncio.create_task(backend.publish(group, b"x")) for _ in range(100)]
        await publishes[0]
        await backend.unsubscribe([group])
        heard = len(recorder.payloads)
        await asyncio.gather(*publishes)
        await backend.publish(f"{group} other", b"end")
        await recorder.until(lambda: b"end" in recorder.payloads)
    assert len(recorder.payloads) == heard + 1


async def test_unsubscribing_an_unknown_group_does_nothing(url: str, group: str) -> None:
    async with listening(url, group) as (backend, recorder):
        await backend.unsubscribe([f"{group} other"])
        await backend.publish(group, b"x")
        assert await recorder.receive(1) == [b"x"]


async def test_thousands_of_groups_are_subscribed_in_one_call(url: str, group: str) -> None:
    names = [f"{group} {number}" for number in range(3000)]
    async with listening(url, *names) as (backend, recorder):
        for name in names[::300]:
            await backend.publish(name, b"x")
        await recorder.receive(10)
        await backend.unsubscribe(names)
    assert sorted(event.group for event in recorder.events) == sorted(names[::300])


async def test_exception_in_the_on_message_callback_does_not_stop_later_messages(url: str, group: str) -> None:
    class Clumsy(Recorder):
        def on_message(self, group: str, payload: bytes) -> None:
            super().on_message(group, payload)
            raise RuntimeError("dropped it")

    from uvicorn.broadcast.backend_factory import backend_from_url

    recorder, backend = Clumsy(), backend_from_url(url)
    await backend.start(recorder.on_message, recorder.on_gap)
    await backend.subscribe([group])
    await backend.publish(group, b"one")
    await backend.publish(group, b"two")
    assert await recorder.receive(2) == [b"one", b"two"]
    await backend.stop()


async def test_the_metrics_count_published_and_delivered_payloads(url: str, group: str) -> None:
    async with listening(url, group) as (backend, recorder):
        assert backend.metrics.connected
        for _ in range(3):
            await backend.publish(group, b"x")
        await recorder.receive(3)
        assert (backend.metrics.published, backend.metrics.delivered, backend.metrics.gaps) == (3, 3, 0)
        assert backend.metrics.pending_high_water >= 1
    assert not backend.metrics.connected


async def test_publish_succeeds_after_earlier_publishes_are_cancelled(url: str, group: str) -> None:
    async with listening(url, group) as (backend, recorder):
        for _ in range(100):
            task = asyncio.create_task(backend.publish(group, b"maybe"))
            await asyncio.sleep(0)
            task.cancel()
        await backend.publish(group, b"end")
        await recorder.until(lambda: b"end" in recorder.payloads)
        assert recorder.payloads[-1] == b"end"


async def test_backend_sends_pending_messages_before_it_stops(url: str, group: str) -> None:
    async with listening(url, group) as (_, recorder):
        async with listening(url) as (other, _):
            publishes = [asyncio.create_task(other.publish(group, b"%d" % number)) for number in range(100)]
            await asyncio.sleep(0)
        await asyncio.gather(*publishes)
        assert await recorder.receive(100) == [b"%d" % number for number in range(100)]


async def test_a_backend_that_was_stopped_starts_again(url: str, group: str) -> None:
    async with listening(url, group) as (backend, recorder):
        await backend.stop()
        await backend.start(recorder.on_message, recorder.on_gap)
        await backend.publish(group, b"not subscribed any more")
        await backend.subscribe([group])
        await backend.publish(group, b"x")
        assert await recorder.receive(1) == [b"x"]


async def test_stopping_a_backend_twice_does_nothing(url: str, group: str) -> None:
    async with listening(url, group) as (backend, _):
        await backend.stop()
        await backend.stop()


async def test_publish_before_start_raises_an_error_that_mentions_start(url: str, group: str) -> None:
    from uvicorn.broadcast.backend_factory import backend_from_url

    with pytest.raises(BroadcastUnavailable, match="not started in this process; await start"):
        await backend_from_url(url).publish(group, b"x")
