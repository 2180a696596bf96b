"""Any split of a stream gives the same calls and the same error message."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from tests.corpus import INVALID, VALID, WEBSOCKET
from uvicorn.errors import RemoteProtocolError
from uvicorn.settings import Limits
from uvicorn.wire.http1.parser import HTTP1RequestParser

#: So that streams of a few hundred bytes reach every limit.
NARROW = Limits(
    max_request_line_bytes=64,
    max_header_bytes=256,
    max_header_fields=5,
    max_content_bytes=40,
    max_chunk_extension_bytes=16,
    max_chunk_extensions_bytes=24,
)
SHORT = [
    stream for stream in (*VALID.values(), *(stream for stream, _ in INVALID.values()), WEBSOCKET) if len(stream) < 1200
]
#: What is put into a stream, to make a fault where the corpus has none.
DISTURBANCES = (
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b" ",
    b"(",
    b";",
    b'"',
    b":",
    b"0\r\n",
    b"a" * 70,
    b"x: y\r\n" * 6,
)


class Reader:
    """Reads requests one after another, as if each were answered at once."""

    def __init__(self, limits: Limits) -> None:
        self.calls: list[list[Any]] = []
        self.refusal: tuple[int, str] | None = None
        self._whole = False
        self._parser = HTTP1RequestParser(self, limits)

    def on_request(self) -> None:
        parser = self._parser
        self._whole = parser.content_length == 0
        self.calls.append(
            [
                parser.method,
                parser.target,
                parser.http_version,
                [*map(list, zip(*parser.fields, strict=True))],
                parser.content_length,
                parser.keep_alive,
                parser.expect_continue,
                parser.upgrade,
                parser.forwarded,
            ]
        )

    def on_content(self, content: bytes) -> None:
        if self.calls[-1][0] != "content":
            self.calls.append(["content", b""])
        self.calls[-1][1] += content

    def on_message_complete(self) -> None:
        self._whole = True
        self.calls.append(["whole"])

    def receive(self, data: bytes) -> None:
        try:
            self._parser.receive_data(data)
            while self._whole:
                self._whole = False
                self._parser.next_message()
        except RemoteProtocolError as error:
            assert self.refusal is None, "refused twice"
            self.refusal = error.status_hint, str(error)

    @property
    def waits_for_the_rest(self) -> bool:
        return bool(self._parser.buffer)


def outcome(stream: bytes, cuts: Iterable[int], limits: Limits) -> tuple[Any, ...]:
    reader = Reader(limits)
    start = 0
    for end in (*cuts, len(stream)):
        if end > start:
            reader.receive(stream[start:end])
            start = end
    return reader.calls, reader.refusal, reader.waits_for_the_rest


def disturbed(source: random.Random) -> bytes:
    """Return a pipeline of the corpus with up to three faults."""
    stream = bytearray(source.choice(SHORT))
    while source.random() < 0.4:
        stream += source.choice((b"", b"\r\n")) + source.choice(SHORT)
    for _ in range(source.choice((0, 1, 1, 2, 3))):
        position = source.randrange(len(stream) + 1)
        stream[position : position + source.choice((0, 0, 1, 2))] = source.choice(DISTURBANCES)
    return bytes(stream)


def assert_same_however_cut(stream: bytes, limits: Limits, source: random.Random) -> None:
    whole = outcome(stream, (), limits)
    length = len(stream)
    assert outcome(stream, range(1, length), limits) == whole, (stream, "byte by byte")
    for cut in range(1, length if length < 300 else 1):
        assert outcome(stream, (cut,), limits) == whole, (stream, f"cut at {cut}")
    for _ in range(10):
        cuts = sorted(source.choices(range(1, length), k=source.randint(1, 6))) if length > 1 else []
        assert outcome(stream, cuts, limits) == whole, (stream, cuts)


@pytest.mark.parametrize("limits", [Limits(), NARROW], ids=["usual limits", "narrow limits"])
def test_short_request_streams_give_the_same_result_for_any_split(limits: Limits) -> None:
    source = random.Random(0)
    for stream in SHORT:
        assert_same_however_cut(stream, limits, source)


@pytest.mark.parametrize("seed", range(40))
def test_randomly_changed_request_stream_gives_the_same_result_for_any_split(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(25):
        assert_same_however_cut(disturbed(source), source.choice((Limits(), NARROW)), source)
