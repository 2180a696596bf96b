"""`RequestContent` by itself: content that arrives before, and after, the application takes it."""

from __future__ import annotations

import pytest

from uvicorn.core.content import BROKEN, NO_CONTENT, WHOLE, RequestContent, as_bytes
from uvicorn.errors import ClientDisconnected, LocalProtocolError

pytestmark = pytest.mark.any_loop


def content_of(*pieces: bytes) -> RequestContent:
    content = RequestContent()
    for piece in pieces:
        content.feed(piece)
    return content


class Taker:
    """Takes content, and reports each piece as above its high-water mark."""

    def __init__(self) -> None:
        self.taken: list[object] = []

    def take_content(self, content: bytes) -> int:
        self.taken.append(content)
        return len(content)

    def end_content(self, whole: bool) -> None:
        self.taken.append(whole)


def test_taking_content_joins_small_pieces() -> None:
    content = content_of(b"a", b"b")
    content.feed_eof()
    assert content.buffered_bytes == 2
    assert content.take() == (b"ab", False)
    assert content.buffered_bytes == 0


def test_large_content_pieces_are_taken_without_a_copy() -> None:
    pieces = [bytes([number]) * 20000 for number in range(3)]
    content = content_of(*pieces)
    content.feed_eof()
    taken = [content.take() or (b"", None) for _ in pieces]
    assert [got is piece for (got, _), piece in zip(taken, pieces, strict=True)] == [True] * 3
    assert [more for _, more in taken] == [True, True, False]


def test_taken_content_is_no_longer_counted_as_buffered() -> None:
    content = content_of(b"a" * 20000, b"b" * 10000, b"c")
    counted = [content.buffered_bytes]
    while content.buffered_bytes:
        content.take()
        counted.append(content.buffered_bytes)
    assert counted == [30001, 10001, 0]


def test_taking_content_before_the_first_piece_arrives_returns_None() -> None:
    assert content_of().take() is None


def test_content_returns_empty_bytes_after_its_last_piece() -> None:
    content = content_of(b"a")
    content.feed_eof()
    content.take()
    assert (content.take(), content.take()) == ((b"", False), (b"", False))


def test_interrupted_content_raises_after_its_last_piece() -> None:
    content = content_of(b"a")
    content.break_off()
    assert content.take() == (b"a", True)
    with pytest.raises(ClientDisconnected):
        content.take()


def test_taking_all_content_empties_the_buffer() -> None:
    content = content_of(b"a" * 20000, b"b")
    assert content.take_whole() is None
    content.feed_eof()
    assert content.take_whole() == b"a" * 20000 + b"b"
    assert content.buffered_bytes == 0


def test_content_that_arrives_after_the_end_is_dropped() -> None:
    content = content_of()
    content.break_off()
    content.feed(b"x")
    content.feed_eof()
    assert (content.state, content.buffered_bytes) == (BROKEN, 0)


async def test_receiver_is_woken_by_each_piece_of_content_and_by_the_end() -> None:
    content = content_of()
    woken = []
    for piece in (b"a", None):
        receiver = content.receivers().add()
        content.feed_eof() if piece is None else content.feed(piece)
        await content.receivers().wait(receiver)
        woken.append(content.take())
    assert woken == [(b"a", True), (b"", False)]


def test_taker_added_after_the_first_piece_gets_all_content() -> None:
    content, taker = content_of(b"a"), Taker()
    content.pass_to(taker)
    content.feed(b"bc")
    assert content.buffered_bytes == 2
    content.feed_eof()
    assert taker.taken == [b"a", b"bc", True]


def test_taker_added_after_an_interruption_is_notified_at_once() -> None:
    content, taker = content_of(), Taker()
    content.break_off()
    content.pass_to(taker)
    assert taker.taken == [False]


def test_shared_NO_CONTENT_object_cannot_be_changed() -> None:
    taker = Taker()
    NO_CONTENT.feed(b"x")
    NO_CONTENT.break_off()
    NO_CONTENT.pass_to(taker)
    assert (NO_CONTENT.state, NO_CONTENT.take(), NO_CONTENT.take_whole(), taker.taken) == (
        WHOLE,
        (b"", False),
        b"",
        [True],
    )


def test_response_content_may_be_bytes_bytearray_or_memoryview() -> None:
    assert [as_bytes(content) for content in (b"x", bytearray(b"x"), memoryview(b"x"))] == [b"x"] * 3


def test_error_for_text_as_response_content_shows_the_text() -> None:
    with pytest.raises(LocalProtocolError, match="content: expected bytes, got str 'x'"):
        as_bytes("x")
