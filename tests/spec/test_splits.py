"""Any way of cutting a stream into pieces gives the same messages, the same replies and the same end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.corpus import INVALID, VALID, WEBSOCKET
from tests.helpers import Conversation, FakeTransport, Recorder, echo, hello, settle

STREAMS = {**VALID, "websocket": WEBSOCKET, **{name: stream for name, (stream, status) in INVALID.items()}}


async def outcome(app: Any, stream: bytes, cuts: Iterator[int], clock_moves: bool = False) -> tuple[Any, ...]:
    recorder = Recorder(app)
    conversation = Conversation(recorder, date_header=False)
    position = 0
    while position < len(stream):
        size = next(cuts)
        conversation.send(stream[position : position + size], piece=1 << 30)
        position += size
        if clock_moves:
            await settle(3)
    await settle(60)
    transport = conversation.transport
    ended = end_of(transport)
    # What the server still waits for shows in how and when the connection ends without further input.
    for _ in range(70):
        if end_of(transport) != "open":
            break
        conversation.clock.advance(1)
        await settle(3)
    result = (
        [
            (message["channel"], message.get("method"), message["raw_path"], message["headers"])
            for message in recorder.messages
        ],
        conversation.received,
        ended,
        end_of(transport),
        conversation.clock.seconds,
    )
    await conversation.lose()
    return result


def end_of(transport: FakeTransport) -> str:
    # The client sees no difference between closing both directions and closing only ours.
    return "reset" if transport.aborted else "closed" if transport.closing or transport.eof_written else "open"


def at_once() -> Iterator[int]:
    while True:
        yield 1 << 30


def byte_by_byte() -> Iterator[int]:
    while True:
        yield 1


def cut_once(position: int) -> Iterator[int]:
    yield position
    while True:
        yield 1 << 30


def at_random(seed: int, length: int) -> Iterator[int]:
    source = random.Random(seed)
    # Long streams in fewer pieces: other tests cut them byte by byte.
    largest = source.choice((2, 10, 100, 1000) if length < 2000 else (500, 5000, 50000))
    while True:
        yield source.randint(1, largest)


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("name", "app"),
    [
        *((name, echo) for name in STREAMS),
        # An early response to chunked content keeps the connection only if the content has arrived: packets decide.
        *((name, hello) for name, stream in STREAMS.items() if b"chunked" not in stream.lower()),
    ],
    ids=lambda value: value if isinstance(value, str) else {echo: "reads", hello: "reads nothing"}[value],
)
async def test_a_stream_is_served_the_same_however_it_is_cut(name: str, app: Any) -> None:
    stream = STREAMS[name]
    whole = await outcome(app, stream, at_once())
    assert await outcome(app, stream, byte_by_byte()) == whole
    for seed in range(200):
        assert await outcome(app, stream, at_random(seed, len(stream))) == whole, f"seed {seed}"


@pytest.mark.parametrize("name", [name for name, stream in STREAMS.items() if len(stream) < 300])
async def test_a_stream_is_served_the_same_wherever_it_is_cut_once(name: str) -> None:
    stream = STREAMS[name]
    whole = await outcome(echo, stream, at_once())
    for position in range(1, len(stream)):
        assert await outcome(echo, stream, cut_once(position)) == whole, f"cut at {position}"


@pytest.mark.any_loop
@pytest.mark.parametrize("name", [name for name, stream in STREAMS.items() if len(stream) < 500])
async def test_a_stream_is_served_the_same_when_it_arrives_slowly(name: str) -> None:
    stream = STREAMS[name]
    whole = await outcome(echo, stream, at_once())
    assert await outcome(echo, stream, byte_by_byte(), clock_moves=True) == whole
