"""A stream gives the same messages, replies and end however it is split into pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.corpus import INVALID, VALID, WEBSOCKET
from tests.helpers import Conversation, FakeTransport, Recorder, echo, hello, settle

pytestmark = pytest.mark.any_loop

STREAMS = {**VALID, "websocket": WEBSOCKET, **{name: stream for name, (stream, status) in INVALID.items()}}


async def outcomes(app: Any, stream: bytes, cuts: list[Iterator[int]], clock_moves: bool = False) -> list[Any]:
    """Send `stream` once for each of `cuts`, on connections of one server. Return the outcome for each client."""
    recorder = Recorder(app)
    server = Conversation(recorder, date_header=False)
    connections = [server.connect(("127.0.0.1", 10_000 + number)) for number in range(len(cuts))]
    for (_, transport), sizes in zip(connections, cuts, strict=True):
        position = 0
        while position < len(stream) and not transport.closing:
            assert transport.reading, "the server does not read"
            size = next(sizes)
            transport.protocol.data_received(stream[position : position + size])
            position += size
            if clock_moves:
                await settle(3)
    await settle(60)
    transports = [transport for _, transport in connections]
    ends_at_once = [end_of(transport) for transport in transports]
    # What the server still waits for shows in how it ends the connection when nothing more arrives, and when.
    seconds = dict.fromkeys(transports, 70)
    for second in range(70):
        for transport in transports:
            if end_of(transport) != "open":
                seconds[transport] = min(seconds[transport], second)
        if all(end_of(transport) != "open" for transport in transports):
            break
        server.clock.advance(1)
        await settle(3)
    messages: dict[int, list[Any]] = {10_000 + number: [] for number in range(len(cuts))}
    for message in recorder.messages:
        messages[message["client"][1]].append(
            (message["channel"], message.get("method"), message["raw_path"], message["headers"])
        )
    results = [
        (received, b"".join(transport.writes), end_at_once, end_of(transport), seconds[transport])
        for transport, received, end_at_once in zip(transports, messages.values(), ends_at_once, strict=True)
    ]
    for transport in transports:
        if not transport.closing:
            transport.reset()
    await server.lose()
    return results


async def assert_same(app: Any, stream: bytes, cuts: dict[str, Iterator[int]], clock_moves: bool = False) -> None:
    whole, *results = await outcomes(app, stream, [at_once(), *cuts.values()], clock_moves)
    for name, result in zip(cuts, results, strict=True):
        assert result == whole, name


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


@pytest.mark.parametrize(
    ("name", "app"),
    [
        *((name, echo) for name in STREAMS),
        # An early response to chunked content keeps the connection only if the content has arrived: packets decide.
        *((name, hello) for name, stream in STREAMS.items() if b"chunked" not in stream.lower()),
    ],
    ids=lambda value: value if isinstance(value, str) else {echo: "reads", hello: "reads nothing"}[value],
)
async def test_responses_do_not_depend_on_how_the_request_stream_is_split(name: str, app: Any) -> None:
    stream = STREAMS[name]
    cuts = {f"seed {seed}": at_random(seed, len(stream)) for seed in range(200)}
    await assert_same(app, stream, {"byte by byte": byte_by_byte(), **cuts})


@pytest.mark.parametrize("name", [name for name, stream in STREAMS.items() if len(stream) < 300])
async def test_one_split_anywhere_in_the_request_stream_changes_no_response(name: str) -> None:
    stream = STREAMS[name]
    await assert_same(echo, stream, {f"cut at {position}": cut_once(position) for position in range(1, len(stream))})


@pytest.mark.parametrize("name", [name for name, stream in STREAMS.items() if len(stream) < 500])
async def test_responses_do_not_depend_on_how_slowly_the_request_stream_arrives(name: str) -> None:
    await assert_same(echo, STREAMS[name], {"byte by byte": byte_by_byte()}, clock_moves=True)
