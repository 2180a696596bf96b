"""The awaitables that `send` returns, names of channels, sends from other threads, and hooks of applications."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from tests.forks import exit_code_in_child
from uvicorn.channel import DONE, ChannelNames, LazyAwaitable, call_hook, let_others_run, send_from_thread, shape
from uvicorn.errors import ChannelClosed

Sending = Coroutine[Any, Any, None]

USES: dict[str, Callable[[Sending], Any]] = {
    "await": lambda sending: _awaited(sending),
    "create_task": lambda sending: asyncio.get_running_loop().create_task(sending),
    "ensure_future": lambda sending: asyncio.ensure_future(sending),
    "gather": lambda sending: asyncio.gather(sending),
    "wait_for": lambda sending: asyncio.wait_for(sending, 30),
    "shield": lambda sending: asyncio.shield(sending),
    "TaskGroup": lambda sending: _in_a_group(sending),
}


async def _awaited(sending: Sending) -> None:
    await sending


async def _in_a_group(sending: Sending) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(sending)


@pytest.mark.parametrize("use", USES)
async def test_R5_each_asyncio_function_can_await_a_finished_send_twice(use: str) -> None:
    for _ in range(2):
        assert await USES[use](DONE) in (None, [None])


@pytest.mark.parametrize("use", USES)
async def test_R5_unfinished_send_can_be_awaited_by_every_asyncio_function(use: str) -> None:
    waited: list[int] = []

    async def wait() -> None:
        await asyncio.sleep(0)
        waited.append(1)

    assert await USES[use](LazyAwaitable(wait)) in (None, [None])
    assert waited == [1]


@pytest.mark.parametrize("use", USES)
async def test_R17_callback_of_a_send_is_called_once_if_the_send_is_awaited_twice(use: str) -> None:
    reported: list[int] = []
    sending = LazyAwaitable(let_others_run, lambda: reported.append(1))
    assert reported == []
    await USES[use](sending)
    await sending
    assert reported == [1]


async def test_await_of_a_finished_send_does_not_yield_to_the_event_loop() -> None:
    ran: list[int] = []
    asyncio.get_running_loop().call_soon(ran.append, 1)
    await DONE
    assert ran == []
    await let_others_run()
    assert ran == [1]


@pytest.mark.parametrize("make", [lambda: DONE, lambda: LazyAwaitable(let_others_run)], ids=["sent", "waiting"])
def test_R5_send_without_await_causes_no_warning(make: Callable[[], Sending]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sending = make()
        sending.close()
        del sending


@pytest.mark.parametrize("make", [lambda: DONE, lambda: LazyAwaitable(let_others_run)], ids=["sent", "waiting"])
def test_exception_thrown_into_a_send_is_raised_if_the_send_was_not_awaited(make: Callable[[], Sending]) -> None:
    with pytest.raises(ValueError, match="boom"):
        make().throw(ValueError("boom"))


@pytest.mark.any_loop
async def test_task_that_awaits_a_send_can_be_cancelled() -> None:
    cleaned: list[int] = []

    async def wait() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            cleaned.append(1)

    task = asyncio.get_running_loop().create_task(LazyAwaitable(wait))
    await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert (task.cancelled(), cleaned) == (True, [1])


def test_closing_a_lazy_awaitable_closes_its_started_coroutine() -> None:
    ended: list[int] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            ended.append(1)

    waiting = LazyAwaitable(wait)
    waiting.send(None)
    waiting.close()
    assert ended == [1]


def test_R4_every_channel_name_is_unique_and_begins_with_reply_or_body() -> None:
    names = ChannelNames()
    made = [names.new(kind) for kind in ("reply", "reply", "body")]
    assert [name.split(".")[0] for name in made] == ["reply", "reply", "body"]
    assert len(set(made)) == 3
    assert len({name.split(".")[1] for name in made}) == 1


def test_R4_two_generators_of_channel_names_never_return_the_same_name() -> None:
    assert ChannelNames().new("reply") != ChannelNames().new("reply")


def test_R4_forked_process_never_repeats_a_channel_name_of_the_parent_process() -> None:
    names = ChannelNames()
    before = names.new("reply").split(".")[1]
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Of the threads of other tests, which the child does not touch.
        warnings.simplefilter("ignore", DeprecationWarning)
        assert exit_code_in_child(lambda: os.write(writer, names.new("reply").encode())) == 0
    os.close(writer)
    theirs = os.read(reader, 1000).decode()
    os.close(reader)
    assert theirs.split(".")[1] != before
    assert names.new("reply").split(".")[1] == before


async def test_R5_send_from_a_thread_runs_on_the_event_loop_and_blocks_the_thread() -> None:
    sent: list[Any] = []

    async def drain() -> None:
        await asyncio.sleep(0)
        sent.append("drained")

    def send(message: dict[str, Any]) -> Sending:
        asyncio.get_running_loop()
        sent.append(message)
        return DONE if message["text"] == "b" else LazyAwaitable(drain)

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(send_from_thread, loop, send, {"text": "a"}) is DONE
    assert sent == [{"text": "a"}, "drained"]
    assert await asyncio.to_thread(send_from_thread, loop, send, {"text": "b"}) is DONE
    assert sent == [{"text": "a"}, "drained", {"text": "b"}]


async def test_exception_of_a_send_is_raised_in_the_thread_that_sends() -> None:
    def send(message: dict[str, Any]) -> Sending:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        _ = await asyncio.to_thread(send_from_thread, asyncio.get_running_loop(), send, {})


async def test_R6_send_from_a_thread_raises_after_the_client_disconnects() -> None:
    def send(message: dict[str, Any]) -> Sending:
        raise ChannelClosed("gone")

    def talk() -> str:
        with pytest.raises(ChannelClosed, match="the client has disconnected"):
            _ = send_from_thread(loop, send, {})
        return "told"

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(talk) == "told"


def test_send_from_a_thread_after_the_loop_has_closed_is_dropped() -> None:
    def send(message: dict[str, Any]) -> Sending:
        raise AssertionError

    loop = asyncio.new_event_loop()
    loop.close()
    assert send_from_thread(loop, send, {}) is DONE
    assert send_from_thread(None, send, {}) is DONE


@pytest.mark.parametrize(
    ("message", "shown"), [({"text": "secret", "close": 1}, "{'text', 'close'}"), ("secret", "str")]
)
def test_malformed_message_is_described_by_its_keys_without_its_values(message: Any, shown: str) -> None:
    assert shape(message) == shown


class Channel:
    """Something that has a name."""


def test_channel_is_found_by_its_name_while_it_is_alive() -> None:
    names, channel = ChannelNames(), Channel()
    name = names.new("reply", channel)
    assert names.find(name) is channel
    del channel
    gc.collect()
    assert names.find(name) is None


def test_lookup_of_an_unused_channel_name_returns_None() -> None:
    names = ChannelNames()
    assert names.find(names.new("body")) is None


def test_channel_name_contains_the_identifier_of_the_process() -> None:
    names = ChannelNames()
    assert names.new("reply").split(".")[:2] == ["reply", names.process]


async def test_R15_startup_or_shutdown_hook_is_called_only_if_it_is_a_coroutine_function() -> None:
    called: list[str] = []

    class App:
        async def startup(self) -> None:
            called.append("startup")

        def shutdown(self) -> None:
            called.append("shutdown")

    for name in ("startup", "shutdown", "missing"):
        await call_hook(App(), name)
    assert called == ["startup"]
