from __future__ import annotations

import importlib.util
import sys
import tracemalloc
import weakref
from typing import Any

import pytest

from tests.websocket_streams import (
    BINARY,
    BINARY_PART,
    EURO,
    INVALID,
    LAST,
    MORE,
    PING,
    PONG,
    RSV1,
    TEXT,
    TEXT_PART,
    Client,
    agreed,
    close,
    deflated,
    frame,
    header,
    masked,
    pausing_after_each_call,
    received,
    resume,
)
from uvicorn.errors import RemoteProtocolError, WebSocketProtocolError
from uvicorn.wire.websocket import frames as websocket_frames
from uvicorn.wire.websocket.frames import WebSocketCodec

MEBIBYTE = 1 << 20


# Receiving


def test_websocket_messages_reach_the_sink_in_order() -> None:
    stream = frame(TEXT, b"one") + frame(BINARY, b"two") + frame(PING, b"three") + frame(PONG, b"four") + close(1000)
    assert received(stream) == [
        ("text", "one"),
        ("bytes", b"two"),
        ("ping", b"three"),
        ("pong", b"four"),
        ("close", 1000, ""),
    ]


@pytest.mark.parametrize("first", [TEXT, BINARY])
@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 200_000])
@pytest.mark.parametrize("piece", [1 << 30, 16384, 4099])
def test_a_message_of_any_length_reaches_the_sink_complete(first: int, length: int, piece: int) -> None:
    payload = (b"0123456789abcde" * (length // 15 + 1))[:length]
    client = Client(max_message_bytes=MEBIBYTE).send(frame(first, payload), piece)
    assert client.calls == [("text", payload.decode()) if first == TEXT else ("bytes", payload)]


@pytest.mark.parametrize("first", [TEXT, BINARY])
def test_message_one_byte_above_the_size_limit_closes_with_1009(first: int) -> None:
    client = Client(max_message_bytes=3).send(frame(first, b"abc")).send(frame(first, b"abcd"))
    assert (len(client.calls), client.code) == (1, 1009)


@pytest.mark.parametrize("name", INVALID)
def test_invalid_stream_of_frames_raises_an_error_with_the_right_close_code(name: str) -> None:
    stream, code, compression = INVALID[name]
    assert Client(deflate=agreed() if compression else None).send(stream).code == code


def test_invalid_utf_8_in_an_incomplete_frame_is_rejected_at_once() -> None:
    client = Client().send(header(TEXT, 100) + masked(b"abc\xff"))
    assert client.refused == (1007, "text is not valid UTF-8")


@pytest.mark.parametrize("start", [b"\xed\xa0", b"\xf4\x90", b"\xe0\x9f", b"\xf0\x8f", b"\xf5", b"\xc1", b"\x80"])
def test_invalid_utf_8_at_the_end_of_a_piece_is_rejected_at_once(start: bytes) -> None:
    client = Client().send(header(TEXT, 100) + masked(EURO + start))
    assert client.code == 1007


def test_an_incomplete_character_at_the_end_of_a_piece_is_valid() -> None:
    client = Client().send(header(TEXT, 100) + masked(b"\xed\x9f"))
    assert client.refused is None


@pytest.mark.parametrize("stream", [b"\xf1", b"\x83", b"\x00", b"\x09", b"\x81\x00", b"\x89\xfe"])
def test_invalid_byte_in_a_frame_header_is_rejected_before_the_next_byte(stream: bytes) -> None:
    assert Client().send(stream).code == 1002


def test_a_frame_over_the_limit_is_rejected_before_its_payload_arrives() -> None:
    client = Client().send(header(BINARY, 1001)[:4])
    assert client.refused == (1009, "message over 1000 bytes")


# Rejected at the length, before the four bytes of the mask.
@pytest.mark.parametrize(("piece", "mask"), [(14, 0), (10, 4), (1, 4)])
def test_codec_counts_unreceived_bytes_of_a_frame_above_the_limit(piece: int, mask: int) -> None:
    client = Client(max_message_bytes=1000).send(header(BINARY, 70_000), piece)
    assert (client.code, client.codec.announced_bytes) == (1009, 70_000 + mask)


def test_unreceived_byte_count_falls_while_a_rejected_frame_arrives() -> None:
    for sent in (600, 2000, 3000):
        client = Client(max_message_bytes=1000).send(
            frame(BINARY, bytes(2000))[: 8 + sent] + bytes(max(0, sent - 2000))
        )
        assert (client.code, client.codec.announced_bytes) == (1009, max(0, 2000 - sent))


def test_bytes_in_the_buffer_of_a_paused_codec_count_as_received() -> None:
    client = Client(max_message_bytes=1000)
    client.send(frame(BINARY, bytes(1000))[:308])
    assert client.codec.announced_bytes == 700
    client.codec.pause()
    client.send(bytes(500))
    assert client.codec.announced_bytes == 200
    client.send(bytes(500))
    assert client.codec.announced_bytes == 0


def test_codec_counts_unreceived_bytes_of_a_frame_with_invalid_text() -> None:
    client = Client(max_message_bytes=1000).send(frame(TEXT, b"\xff" * 1000)[:308])
    assert (client.code, client.codec.announced_bytes) == (1007, 700)


def test_count_of_unreceived_bytes_is_zero_between_frames() -> None:
    assert Client().send(frame(TEXT, b"a") + header(TEXT, 300)[:3]).codec.announced_bytes == 0


def test_websocket_protocol_error_shows_the_code_and_the_reason() -> None:
    error = WebSocketProtocolError(1009, "message over 1000 bytes")
    assert isinstance(error, RemoteProtocolError)
    assert str(error) == "message over 1000 bytes (1009)"


@pytest.mark.parametrize("last", [close(1000), frame(TEXT, b"\xff"), frame(TEXT, b"a" * 200 + b"\xff"), b"\xff"])
def test_codec_ignores_input_after_a_close_frame_or_a_protocol_error(last: bytes) -> None:
    client = Client().send(last)
    before = list(client.calls)
    client.send(frame(TEXT, b"more") + b"\xff" * 100)
    client.codec.pause()
    client.codec.resume()
    assert client.calls == before
    assert client.buffered_bytes == 0


def test_a_stopped_codec_ignores_its_input() -> None:
    client = Client().send(frame(TEXT_PART, b"abc") + b"\x80")
    client.codec.stop()
    client.send(frame(LAST, b"def"))
    assert client.calls == []
    assert client.buffered_bytes == 0


def test_stopped_codec_does_not_keep_the_sink_alive() -> None:
    client = Client()
    codec, sink = client.codec, weakref.ref(client.sink)
    codec.stop()
    del client
    assert sink() is None


class FailingSink:
    """A sink whose methods raise."""

    def __init__(self) -> None:
        self.count = 0

    def on_text(self, text: str) -> None:
        self.count += 1
        raise ValueError("the sink's own")

    on_bytes: Any = on_text
    on_ping: Any = on_text
    on_pong: Any = on_text
    on_close: Any = on_text
    on_busy: Any = on_text


def test_a_sink_that_raises_is_not_called_again() -> None:
    sink = FailingSink()
    codec = WebSocketCodec(sink, 1000, 10)
    with pytest.raises(ValueError):
        codec.receive_data(frame(TEXT, b"a") + frame(TEXT, b"b"))
    codec.receive_data(frame(TEXT, b"c") + frame(TEXT, b"d"))
    assert sink.count == 1


# Pausing


def test_input_during_a_pause_is_kept_until_resume() -> None:
    client = Client()
    client.codec.pause()
    client.send(frame(TEXT, b"one")).send(frame(TEXT, b"two") + close(1000))
    assert client.calls == []
    assert client.buffered_bytes == 9 + 9 + 8
    client.codec.resume()
    assert client.calls == [("text", "one"), ("text", "two"), ("close", 1000, "")]


def test_codec_that_received_invalid_bytes_during_a_pause_raises_on_resume() -> None:
    client = Client()
    client.codec.pause()
    client.send(frame(TEXT, b"one") + b"\xff")
    with pytest.raises(WebSocketProtocolError):
        client.codec.resume()
    assert client.calls == [("text", "one")]


def test_resumed_codec_with_an_empty_buffer_delivers_nothing() -> None:
    client = Client()
    client.codec.pause()
    client.codec.pause()
    client.codec.resume()
    client.codec.resume()
    assert client.send(frame(TEXT, b"a")).calls == [("text", "a")]


class PausingSink(FailingSink):
    """A sink that pauses and resumes within each call."""

    codec: WebSocketCodec

    def on_text(self, text: str) -> None:
        self.count += 1
        self.codec.pause()
        self.codec.resume()

    on_bytes: Any = on_text


def test_sink_may_pause_and_resume_the_codec_during_a_call() -> None:
    sink = PausingSink()
    sink.codec = WebSocketCodec(sink, 1000, 10)
    sink.codec.pause()
    sink.codec.receive_data(frame(TEXT, b"a") * 3)
    sink.codec.resume()
    sink.codec.receive_data(frame(TEXT, b"a"))
    sink.codec.receive_data(frame(TEXT, b"a") * 3)
    assert sink.count == 7


def test_sink_is_notified_after_every_256_frames_in_a_row() -> None:
    client = Client()
    pauses: list[int] = []

    def on_busy() -> None:
        pauses.append(len(client.calls))
        client.codec.pause()

    client.sink.on_busy = on_busy  # type: ignore[method-assign]
    client.send(b"".join(frame(BINARY, b"%d" % number) for number in range(1000)))
    while client.buffered_bytes:
        client.codec.resume()
    assert pauses == [256, 512, 768]
    assert client.calls == [("bytes", b"%d" % number) for number in range(1000)]


def test_sink_that_never_pauses_receives_all_frames() -> None:
    assert len(Client().send(frame(PING) * 1000).calls) == 1000


def test_frames_that_arrive_while_earlier_frames_are_buffered_stay_in_order() -> None:
    client = Client()
    pausing_after_each_call(client)
    client.codec.pause()
    client.send(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(TEXT, b"three"))
    resume(client)
    resume(client)
    assert client.buffered_bytes == len(frame(TEXT, b"three"))
    client.send(frame(TEXT, b"four"))
    for _ in range(3):
        resume(client)
    assert [text for _, text in client.calls] == ["one", "two", "three", "four"]


def test_a_control_frame_reaches_the_sink_when_it_is_complete() -> None:
    client = Client().send(frame(PING, b"abc")[:-1])
    assert client.calls == []
    assert client.send(frame(PING, b"abc")[-1:]).calls == [("ping", b"abc")]


def test_count_of_buffered_bytes_includes_an_incomplete_message_and_header() -> None:
    client = Client().send(frame(BINARY_PART, b"abc") + header(MORE, 300)[:3])
    assert client.buffered_bytes == 6


def test_paused_codec_does_not_copy_the_remaining_buffer() -> None:
    client = Client()
    client.codec.pause()
    client.send(frame(TEXT, b"a") * 20_000)
    pausing_after_each_call(client)
    for _ in range(10_000):
        resume(client)
    tracemalloc.start()
    resume(client)
    allocated = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(client.calls) == 10_001
    # The rest of the buffer is 70,000 bytes.
    assert allocated < 10_000


# Memory


def peak_of(client: Client, stream: bytes, piece: int) -> int:
    """Return the peak of memory while `stream` is received, less the size of one piece."""
    tracemalloc.start()
    client.send(stream, piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - piece


def test_codec_needs_less_memory_than_2_3_times_the_size_of_a_long_message() -> None:
    client = Client(max_message_bytes=MEBIBYTE)
    assert peak_of(client, frame(BINARY, b"a" * MEBIBYTE), 65536) < 2.3 * MEBIBYTE
    assert client.code is None


def test_message_arriving_byte_by_byte_needs_less_than_2_5_times_its_size() -> None:
    client = Client(max_message_bytes=30_000)
    assert peak_of(client, frame(BINARY, b"a" * 30_000), 1) < 75_000
    assert client.code is None


def test_long_text_with_wide_characters_needs_less_memory_than_6_5_times_its_size() -> None:
    payload = ("\N{PILE OF POO}" + "a" * 1000).encode() * 500
    client = Client(max_message_bytes=MEBIBYTE)
    # The delivered text takes 4 bytes for each character.
    assert peak_of(client, frame(TEXT, payload), 1004) < 6.5 * len(payload)
    assert len(client.calls) == 1


def test_the_memory_of_a_message_is_freed_after_it_is_delivered() -> None:
    client = Client(max_message_bytes=MEBIBYTE)
    client.send(frame(BINARY, b"a" * MEBIBYTE), 65536)
    client.sink.calls.clear()
    assert client.buffered_bytes == 0
    assert sys.getsizeof(client.codec._message) < 100


def test_receive_buffer_shrinks_after_its_complete_frames_are_parsed() -> None:
    client = Client().send(b"\x81").send((frame(TEXT, b"a") * 10_000)[1:] + b"\x81")
    assert client.buffered_bytes == 1
    assert sys.getsizeof(client.codec._buffer) < 200


def test_codec_can_encode_a_close_frame_after_it_received_a_close_frame() -> None:
    client = Client().send(close(1000))
    assert client.codec.encode_close(1000, "") == b"\x88\x02\x03\xe8"


def test_compressed_message_closes_with_1002_if_compression_is_not_negotiated() -> None:
    assert Client().send(frame(TEXT | RSV1, deflated(b"hello"))).code == 1002


def test_frames_are_decoded_without_the_c_extension_of_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websockets.speedups", None)
    spec = importlib.util.spec_from_file_location("frames_in_python", websocket_frames.__file__)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.apply_mask.__module__ == "websockets.utils"
    client = Client()
    client.codec = module.WebSocketCodec(client.sink, 100_000, 10)
    payload = bytes(range(256)) * 100
    client.send(frame(TEXT, b"hello") + frame(BINARY, payload))
    assert client.calls == [("text", "hello"), ("bytes", payload)]
