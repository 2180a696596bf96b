"""The parser of Redis' protocol, with bytes in pieces of any size."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uvicorn.broadcast.redis import resp
from uvicorn.broadcast.redis.resp import NotRedis, RedisReader, RedisRefusal, is_master


@pytest.fixture(autouse=True, scope="module")
def low_limit() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(resp, "MAX_PAYLOAD_BYTES", 1000)
        yield


def read(data: bytes, *, piece: int = 0) -> list[Any]:
    """Return all replies in `data`. An error reply becomes `!` followed by the error's text."""
    replies: list[Any] = []

    def take(reply: Any) -> None:
        replies.append(f"!{reply}" if isinstance(reply, RedisRefusal) else reply)

    reader = RedisReader(take)
    for start in range(0, len(data), piece or len(data) or 1):
        reader.feed(data[start : start + (piece or len(data))])
    return replies


def message(channel: bytes, payload: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(payload), payload)


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"+PONG\r\n", b"PONG"),
        (b"+\r\n", b""),
        (b":42\r\n", 42),
        (b":-1\r\n", -1),
        (b"$3\r\nabc\r\n", b"abc"),
        (b"$0\r\n\r\n", b""),
        (b"$4\r\n\r\n\r\n\r\n", b"\r\n\r\n"),
        (b"$-1\r\n", None),
        (b"*-1\r\n", None),
        (b"*0\r\n", []),
        (b"*2\r\n$4\r\npong\r\n$0\r\n\r\n", [b"pong", b""]),
        (b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n", [b"subscribe", b"a", 1]),
        (b"*2\r\n*1\r\n:1\r\n+x\r\n", [[1], b"x"]),
        (b"-NOAUTH Authentication required.\r\n", "!NOAUTH Authentication required."),
        (b"-ERR \xff\r\n", "!ERR \\xff"),
    ],
)
@pytest.mark.parametrize("piece", [0, 1, 2, 3])
def test_parser_reads_a_reply_that_is_split_at_any_point(data: bytes, reply: Any, piece: int) -> None:
    assert read(data, piece=piece) == [reply]


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=1200)), max_size=8),
    st.integers(min_value=0, max_value=2**32),
)
def test_parser_reads_messages_that_are_split_at_any_point(messages: list[tuple[bytes, bytes]], seed: int) -> None:
    data = b"".join(message(*each) for each in messages) + b"+end\r\n"
    replies: list[Any] = []
    reader = RedisReader(replies.append)
    cuts = random.Random(seed)
    while data:
        size = cuts.choice([1, 2, 7, 100, 1500])
        reader.feed(data[:size])
        data = data[size:]
    expected = [[b"message", channel, payload if len(payload) <= 1000 else None] for channel, payload in messages]
    assert replies == [*expected, b"end"]


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_parser_raises_only_NotRedis_for_random_bytes(data: bytes) -> None:
    try:
        read(data)
    except NotRedis:
        pass


@settings(deadline=None)
@given(st.integers(0, 60), st.binary(min_size=1, max_size=3))
def test_parser_raises_only_NotRedis_for_mutated_replies(place: int, change: bytes) -> None:
    good = message(b"group", b"payload") + b":1\r\n-ERR x\r\n"
    try:
        read(good[:place] + change + good[place + len(change) :])
    except NotRedis:
        pass


@pytest.mark.parametrize("piece", [0, 1, 100])
def test_oversized_payload_is_skipped_and_the_next_message_is_parsed(piece: int) -> None:
    data = message(b"a", b"x" * 5000) + message(b"a", b"y")
    assert read(data, piece=piece) == [[b"message", b"a", None], [b"message", b"a", b"y"]]


def test_parser_reports_an_oversized_payload_before_the_payload_is_complete() -> None:
    assert read(message(b"a", b"x" * 5000)[:200]) == [[b"message", b"a", None]]


def test_a_payload_at_the_limit_is_parsed() -> None:
    assert read(message(b"a", b"x" * 1000)) == [[b"message", b"a", b"x" * 1000]]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "unknown type of reply b'H'"),
        (b"\r\n", r"unknown type of reply b'\\r'"),
        (b"$+5\r\nhello\r\n", "malformed length b'\\+5'"),
        (b"$5_0\r\n", "malformed length b'5_0'"),
        (b"$-2\r\n", "malformed length b'-2'"),
        (b"$9999999999999999999\r\n", "malformed length"),
        (b"*-5\r\n", "malformed length b'-5'"),
        (b":1.5\r\n", "malformed number b'1.5'"),
        (b":\r\n", "malformed number b''"),
        (b"$3\r\nabcde\r\n", "expected CRLF at the end of a bulk string"),
        (b"$1001\r\n", "bytes at most, got 1001"),
        (b"*1025\r\n", "at most, got 1025 and 1"),
        (b"*1\r\n" * 5, "at most, got 1 and 5"),
        (b"+" + b"x" * 20000, "expected a line of 16384 bytes at most"),
    ],
)
def test_malformed_resp_raises_NotRedis(data: bytes, complaint: str) -> None:
    with pytest.raises(NotRedis, match=complaint):
        read(data)


def test_role_of_a_master_with_a_hundred_replicas_is_parsed() -> None:
    replica = b"*3\r\n$9\r\n127.0.0.1\r\n$4\r\n6380\r\n$1\r\n7\r\n"
    (role,) = read(b"*3\r\n$6\r\nmaster\r\n:7\r\n*100\r\n" + 100 * replica)
    assert is_master(role)


def test_a_closed_resp_reader_reports_no_more_replies() -> None:
    replies: list[Any] = []

    def close_after_one(reply: Any) -> None:
        replies.append(reply)
        reader.close()

    reader = RedisReader(close_after_one)
    reader.feed(b"+one\r\n+two\r\n")
    reader.feed(b"+three\r\n")
    assert replies == [b"one"]


def test_long_payload_is_assembled_from_many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resp, "MAX_PAYLOAD_BYTES", 1 << 20)
    payload = b"x" * (1 << 20)
    data = message(b"a", payload)
    assert read(data, piece=4096) == [[b"message", b"a", payload]]
