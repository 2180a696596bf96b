from __future__ import annotations

from typing import Any

import pytest

from tests.websocket_streams import BINARY, EURO, RSV1, TEXT, agreed
from uvicorn.errors import LocalProtocolError, WebSocketProtocolError
from uvicorn.types import SharedBytes, SharedText
from uvicorn.wire.websocket.deflate import MIN_COMPRESSED_BYTES
from uvicorn.wire.websocket.encoder import (
    MessageEncoder,
    control_frame,
    encode_utf8,
    frame,
    parse_close,
)
from uvicorn.wire.websocket.frame_cache import FrameCache


@pytest.mark.parametrize(
    ("length", "start"),
    [
        (0, b"\x00"),
        (125, b"\x7d"),
        (126, b"\x7e\x00\x7e"),
        (65535, b"\x7e\xff\xff"),
        (65536, b"\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_length_of_a_frame_is_encoded_in_the_shortest_form(length: int, start: bytes) -> None:
    data = b"a" * length
    assert frame(0x81, data) == b"\x81" + start + data
    assert frame(0x82, data) == b"\x82" + start + data


def test_control_frame_with_more_than_125_bytes_is_rejected() -> None:
    assert control_frame(9, b"a" * 125) == b"\x89\x7d" + b"a" * 125
    with pytest.raises(LocalProtocolError, match="at most 125 bytes, got 126"):
        control_frame(9, b"a" * 126)


def test_encoding_a_lone_surrogate_as_utf_8_raises() -> None:
    assert encode_utf8("\N{EURO SIGN}") == b"\xe2\x82\xac"
    with pytest.raises(LocalProtocolError, match="text: cannot be encoded as UTF-8"):
        encode_utf8("\udc80")


def test_payload_of_a_close_frame_is_parsed_into_code_and_reason() -> None:
    assert parse_close(b"\x03\xe9bye") == (1001, "bye")
    assert parse_close(b"\x03\xe8") == (1000, "")


def test_an_empty_close_frame_is_parsed_as_1005() -> None:
    assert parse_close(b"") == (1005, "")


@pytest.mark.parametrize(("payload", "code"), [(b"\x03\xe8\xff", 1007), (b"\x03\xed", 1002), (b"\x03\xed\xff", 1007)])
def test_malformed_close_frame_is_rejected(payload: bytes, code: int) -> None:
    with pytest.raises(WebSocketProtocolError) as caught:
        parse_close(payload)
    assert caught.value.code == code


def test_forget_method_of_the_frame_cache_empties_the_cache() -> None:
    cache = FrameCache()
    assert (cache.message, cache.frame) == (None, b"")
    cache.message, cache.frame = "a", frame(0x81, b"a")
    cache.forget()
    assert cache.frame == b""


# Messages


@pytest.mark.parametrize(
    ("length", "start"),
    [
        (0, b"\x00"),
        (125, b"\x7d"),
        (126, b"\x7e\x00\x7e"),
        (1023, b"\x7e\x03\xff"),
        (65535, b"\x7e\xff\xff"),
        (65536, b"\x7f" + (65536).to_bytes(8, "big")),
    ],
)
def test_a_message_is_sent_in_one_frame_without_a_mask(length: int, start: bytes) -> None:
    codec = MessageEncoder()
    assert codec.encode_text("a" * length) == frame(0x81, b"a" * length) == b"\x81" + start + b"a" * length
    assert codec.encode_bytes(b"a" * length) == frame(0x82, b"a" * length) == b"\x82" + start + b"a" * length


def test_text_is_sent_as_utf_8() -> None:
    assert MessageEncoder().encode_text("\N{EURO SIGN}") == b"\x81\x03" + EURO


def test_text_message_with_a_lone_surrogate_is_rejected() -> None:
    with pytest.raises(LocalProtocolError, match="surrogates not allowed"):
        MessageEncoder().encode_text("\ud800")


def test_ping_and_pong_frames_contain_their_data() -> None:
    codec = MessageEncoder()
    assert codec.encode_ping(b"a") == b"\x89\x01a"
    assert codec.encode_pong(b"b" * 125) == b"\x8a\x7d" + b"b" * 125


def test_ping_with_126_bytes_is_rejected() -> None:
    with pytest.raises(LocalProtocolError, match="at most 125 bytes, got 126"):
        MessageEncoder().encode_ping(bytes(126))


def test_a_close_frame_is_encoded_with_code_and_reason() -> None:
    assert MessageEncoder().encode_close(1000, "bye") == b"\x88\x05\x03\xe8bye"


def test_close_frame_with_code_1005_is_empty() -> None:
    assert MessageEncoder().encode_close(1005, "") == b"\x88\x00"


@pytest.mark.parametrize("code", [0, 999, 1004, 1006, 1015, 2999, 5000, "1000", None, True])
def test_close_code_that_must_not_be_sent_is_rejected(code: Any) -> None:
    with pytest.raises(LocalProtocolError, match="close code: expected"):
        MessageEncoder().encode_close(code, "")


def test_close_reason_above_123_bytes_is_rejected() -> None:
    with pytest.raises(LocalProtocolError, match="at most 123 bytes of UTF-8, got 124"):
        MessageEncoder().encode_close(1000, "r" * 124)


def test_only_long_messages_are_sent_compressed() -> None:
    codec = MessageEncoder(agreed())
    lengths = (MIN_COMPRESSED_BYTES - 1, MIN_COMPRESSED_BYTES)
    assert [codec.encode_text("a" * length)[0] & RSV1 for length in lengths] == [0, RSV1]
    assert [codec.encode_bytes(b"a" * length)[0] & RSV1 for length in lengths] == [0, RSV1]


@pytest.mark.parametrize("length", [5, 5000])
def test_message_to_several_connections_is_encoded_once(length: int) -> None:
    cache = FrameCache()
    one, other = (MessageEncoder(None, cache) for _ in range(2))
    text, data = "a" * length, b"a" * length
    assert one.encode_text(text) is other.encode_text(text)
    assert one.encode_bytes(data) is other.encode_bytes(data) == frame(0x82, data)


def test_cached_frame_is_not_sent_for_a_different_message() -> None:
    codec = MessageEncoder()
    text, data = "hello", b"hello"
    frames = [codec.encode_text(text), codec.encode_bytes(data), codec.encode_text("HELLO"), codec.encode_text(text)]
    assert frames == [b"\x81\x05hello", b"\x82\x05hello", b"\x81\x05HELLO", b"\x81\x05hello"]


def test_changed_bytearray_is_encoded_again() -> None:
    codec = MessageEncoder()
    data: Any = bytearray(b"hello")
    codec.encode_bytes(data)
    data[0] = ord("j")
    assert codec.encode_bytes(data) == b"\x82\x05jello"


@pytest.mark.parametrize("compress_first", [False, True])
def test_connections_share_a_frame_only_if_it_is_uncompressed(compress_first: bool) -> None:
    cache = FrameCache()
    plain = MessageEncoder(None, cache)
    compressing = MessageEncoder(agreed(), cache)
    text, data = "a" * MIN_COMPRESSED_BYTES, b"a" * MIN_COMPRESSED_BYTES
    for codec in [compressing, plain, compressing] if compress_first else [plain, compressing, plain]:
        rsv1 = RSV1 if codec is compressing else 0
        assert (codec.encode_text(text)[0], codec.encode_bytes(data)[0]) == (TEXT | rsv1, BINARY | rsv1)
    short = "a" * 100
    assert plain.encode_text(short) is compressing.encode_text(short)


@pytest.mark.parametrize("length", [3, 1000])
def test_shared_message_is_encoded_once_and_never_compressed(length: int) -> None:
    text, data, cache = SharedText("x" * length), SharedBytes(b"x" * length), FrameCache()
    plain, compressing = (MessageEncoder(deflate, cache) for deflate in (None, agreed()))
    assert compressing.encode_text(text) == frame(0x81, b"x" * length)
    assert plain.encode_text(text) is compressing.encode_text(text)
    assert compressing.encode_bytes(data) == frame(0x82, b"x" * length)
    assert plain.encode_bytes(data) is compressing.encode_bytes(data)
