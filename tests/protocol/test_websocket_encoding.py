from __future__ import annotations

import pytest

from uvicorn.errors import LocalProtocolError, WebSocketProtocolError
from uvicorn.protocol.websocket_encoding import (
    LastFrame,
    control_frame,
    encode_utf8,
    frame,
    frame_bytes,
    frame_text,
    is_close_code,
    parse_close,
)


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
def test_a_frame_tells_its_length_in_the_shortest_form(length: int, start: bytes) -> None:
    data = b"a" * length
    assert frame(0x81, data) == frame_text("a" * length) == b"\x81" + start + data
    assert frame(0x82, data) == frame_bytes(data) == b"\x82" + start + data


def test_a_control_frame_holds_125_bytes() -> None:
    assert control_frame(9, b"a" * 125) == b"\x89\x7d" + b"a" * 125
    with pytest.raises(LocalProtocolError, match="at most 125 bytes, got 126"):
        control_frame(9, b"a" * 126)


def test_text_that_utf_8_cannot_hold_is_the_callers_fault() -> None:
    assert encode_utf8("\N{EURO SIGN}") == b"\xe2\x82\xac"
    with pytest.raises(LocalProtocolError, match="expected text that UTF-8 can hold"):
        encode_utf8("\udc80")


def test_the_close_codes_are_those_of_the_registry() -> None:
    assert [code for code in range(3000) if is_close_code(code)] == [*range(1000, 1004), *range(1007, 1015)]
    assert all(is_close_code(code) for code in range(3000, 5000))
    assert not any(is_close_code(code) for code in (5000, 65535, -1, None, "1000"))


def test_a_close_frame_says_code_and_reason() -> None:
    assert parse_close(b"\x03\xe9bye") == (1001, "bye")
    assert parse_close(b"\x03\xe8") == (1000, "")


def test_an_empty_close_frame_says_no_status() -> None:
    assert parse_close(b"") == (1005, "")


@pytest.mark.parametrize(("payload", "code"), [(b"\x03\xe8\xff", 1007), (b"\x03\xed", 1002), (b"\x03\xed\xff", 1007)])
def test_a_malformed_close_frame_is_refused(payload: bytes, code: int) -> None:
    with pytest.raises(WebSocketProtocolError) as caught:
        parse_close(payload)
    assert caught.value.code == code


def test_the_last_frame_is_forgotten_with_its_message() -> None:
    last = LastFrame()
    assert (last.message, last.frame) == (None, b"")
    last.message, last.frame = "a", frame_text("a")
    last.forget()
    assert (last.message, last.frame) == (None, b"")
