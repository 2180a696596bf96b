"""A stream of frames gives the same calls and the same error however it is split into pieces."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.websocket_streams import (
    BINARY,
    COMPRESSED,
    INVALID,
    MASK,
    STREAMS,
    TEXT,
    VALID,
    Client,
    agreed,
    masked,
    pausing_after_each_call,
    resume,
)


def outcome(name: str, cuts: Iterator[int]) -> tuple[list[tuple[Any, ...]], tuple[int, str] | None]:
    stream, compression = STREAMS[name]
    client = Client(deflate=agreed() if compression else None)
    position = 0
    while position < len(stream):
        size = next(cuts)
        client.send(stream[position : position + size])
        position += size
    return client.calls, client.refused


def pieces_of(size: int) -> Iterator[int]:
    while True:
        yield size


def random_pieces(seed: int) -> Iterator[int]:
    source = random.Random(seed)
    largest = source.choice((2, 10, 100, 1000))
    while True:
        yield source.randint(1, largest)


@pytest.mark.parametrize("name", STREAMS)
def test_messages_do_not_depend_on_how_the_stream_of_frames_is_split(name: str) -> None:
    whole = outcome(name, pieces_of(1 << 30))
    assert outcome(name, pieces_of(1)) == whole
    for seed in range(200):
        assert outcome(name, random_pieces(seed)) == whole, f"seed {seed}"


@pytest.mark.parametrize("first", [TEXT, BINARY])
@pytest.mark.parametrize(
    ("size", "length"),
    [
        *((0, length) for length in (0, 1, 2, 20, 125)),
        *((2, length) for length in (0, 1, 20, 117, 125, 126, 127, 300, 65535)),
        *((8, length) for length in (0, 20, 119, 125, 127, 133, 300, 65535, 65536)),
    ],
)
def test_frame_split_at_any_byte_is_decoded_like_the_whole_frame(first: int, size: int, length: int) -> None:
    """The pieces include all lengths that a wrong parser could take from the header."""
    field = length.to_bytes(size, "big") if size else b""
    marker = {0: length, 2: 126, 8: 127}[size]
    stream = bytes((first, 0x80 | marker)) + field + MASK + masked(b"a" * length)
    whole = Client(max_message_bytes=1 << 20).send(stream, piece=1)
    for cut in range(min(len(stream), 400)):
        client = Client(max_message_bytes=1 << 20).send(stream[:cut]).send(stream[cut:])
        assert (client.calls, client.refused) == (whole.calls, whole.refused), f"cut at {cut}"
    for end in range(min(len(stream), 400)):
        assert not Client(max_message_bytes=1 << 20).send(stream[:end]).calls, f"cut off at {end}"


@pytest.mark.parametrize("name", STREAMS)
def test_no_message_is_lost_or_repeated_when_receiving_pauses(name: str) -> None:
    """No message is lost, repeated, or passed on during a pause."""
    stream, compression = STREAMS[name]
    whole = outcome(name, pieces_of(1 << 30))
    for seed in range(20):
        source = random.Random(seed)
        client = Client(deflate=agreed() if compression else None)
        pausing_after_each_call(client)
        position = 0
        while position < len(stream):
            size = source.randint(1, 200)
            client.send(stream[position : position + size])
            position += size
            if source.random() < 0.5:
                resume(client)
        for _ in range(len(whole[0]) + 1):
            resume(client)
        assert (client.calls, client.refused) == whole, f"seed {seed}"


@pytest.mark.parametrize("name", [*VALID, *COMPRESSED])
def test_each_valid_frame_stream_is_accepted(name: str) -> None:
    assert outcome(name, pieces_of(1 << 30))[1] is None


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_stream_of_frames_is_refused_with_its_close_code(name: str) -> None:
    refused = outcome(name, pieces_of(1 << 30))[1]
    assert refused is not None and refused[0] == INVALID[name][1]
