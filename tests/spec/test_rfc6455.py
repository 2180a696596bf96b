"""The WebSocket Protocol (RFC 6455), by section. tests/server has the sections about connections."""

from __future__ import annotations

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
    TEXT,
    TEXT_PART,
    Client,
    agreed,
    close,
    frame,
    handshake,
    received,
)
from uvicorn.errors import RemoteProtocolError
from uvicorn.wire.http1.default_fields import DefaultFields
from uvicorn.wire.websocket.encoder import MessageEncoder


def refused(section: str) -> list[str]:
    """The streams of the corpus for a section."""
    return [name for name in INVALID if name.startswith(section + " ")]


def check_refused(name: str) -> None:
    stream, code, compression = INVALID[name]
    assert Client(deflate=agreed() if compression else None).send(stream).code == code


def test_1_3_example_key_in_the_rfc_gives_the_example_accept_field() -> None:
    asked = handshake()
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in asked.accept(None, [], DefaultFields(), compression=True)[0]


@pytest.mark.parametrize("name", [b"host", b"upgrade", b"connection", b"sec-websocket-key", b"sec-websocket-version"])
def test_4_2_1_a_handshake_without_a_required_field_is_refused(name: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        handshake(without=name)


def test_4_2_1_the_value_of_upgrade_is_case_insensitive() -> None:
    handshake((b"upgrade", b"WEBSOCKET"), without=b"upgrade")


def test_4_2_2_a_response_without_a_common_subprotocol_has_no_subprotocol_field() -> None:
    asked = handshake((b"sec-websocket-protocol", b"a"))
    assert b"protocol:" not in asked.accept(None, [], DefaultFields(), compression=True)[0]


def test_4_4_handshake_with_a_websocket_version_other_than_13_gets_426() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        handshake((b"sec-websocket-version", b"25"), without=b"sec-websocket-version")
    assert caught.value.status_hint == 426


@pytest.mark.parametrize("name", refused("5.1"))
def test_5_1_a_frame_without_a_mask_is_refused(name: str) -> None:
    check_refused(name)


def test_5_1_the_server_masks_no_frame() -> None:
    assert MessageEncoder().encode_text("a")[1] & 0x80 == 0


@pytest.mark.parametrize("name", refused("5.2"))
def test_5_2_reserved_bits_reserved_opcodes_and_non_minimal_lengths_are_refused(name: str) -> None:
    check_refused(name)


def test_5_3_masking_key_is_applied_to_each_byte_by_position() -> None:
    stream = bytes.fromhex("818537fa213d7f9f4d5158")
    assert received(stream) == [("text", "Hello")]


@pytest.mark.parametrize("name", refused("5.4"))
def test_5_4_fragments_out_of_order_are_refused(name: str) -> None:
    check_refused(name)


def test_5_4_fragments_are_joined_to_one_message() -> None:
    assert received(frame(TEXT_PART, b"Hel") + frame(LAST, b"lo")) == [("text", "Hello")]


def test_5_4_a_message_may_contain_empty_fragments() -> None:
    assert received(frame(TEXT_PART) + frame(MORE, b"a") + frame(LAST)) == [("text", "a")]


def test_5_4_control_frames_between_fragments_are_handled_at_once() -> None:
    stream = frame(TEXT_PART, b"Hel") + frame(PING, b"1") + frame(MORE) + frame(PONG, b"2") + frame(LAST, b"lo")
    assert received(stream) == [("ping", b"1"), ("pong", b"2"), ("text", "Hello")]


@pytest.mark.parametrize("name", refused("5.5"))
def test_5_5_control_frame_that_is_long_or_fragmented_is_refused(name: str) -> None:
    check_refused(name)


def test_5_5_1_code_and_reason_of_a_close_frame_are_decoded() -> None:
    assert received(close(1001, b"going " + EURO)) == [("close", 1001, "going \N{EURO SIGN}")]


def test_5_5_1_a_close_frame_may_be_empty() -> None:
    assert received(frame(0x88)) == [("close", 1005, "")]


def test_5_5_1_a_close_frame_is_accepted_between_two_fragments() -> None:
    assert received(frame(TEXT_PART, b"Hel") + close(1000)) == [("close", 1000, "")]


@pytest.mark.parametrize("name", refused("5.5.1"))
def test_5_5_1_a_malformed_close_frame_is_refused(name: str) -> None:
    check_refused(name)


def test_5_5_1_bytes_after_a_close_frame_are_ignored() -> None:
    assert received(close(1000) + frame(TEXT, b"more") + b"\xff") == [("close", 1000, "")]


def test_5_5_2_a_ping_may_have_any_data() -> None:
    assert received(frame(PING, bytes(range(125)))) == [("ping", bytes(range(125)))]


def test_5_5_3_an_unsolicited_pong_is_accepted() -> None:
    assert received(frame(PONG, b"a")) == [("pong", b"a")]


@pytest.mark.parametrize("payload", [b"\xff", b"\xed\xa0\x80", EURO[:1]])
def test_5_6_binary_messages_may_contain_any_bytes(payload: bytes) -> None:
    assert received(frame(BINARY, payload)) == [("bytes", payload)]


def test_5_6_a_utf_8_character_may_be_split_between_fragments() -> None:
    assert received(frame(TEXT_PART, EURO[:1]) + frame(LAST, EURO[1:])) == [("text", "\N{EURO SIGN}")]


def test_5_6_a_binary_message_may_be_split_into_fragments() -> None:
    assert received(frame(BINARY_PART, b"\xe2") + frame(LAST, b"\xff")) == [("bytes", b"\xe2\xff")]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999])
def test_7_4_valid_close_codes_are_accepted(code: int) -> None:
    assert received(close(code)) == [("close", code, "")]


@pytest.mark.parametrize("name", refused("7.4"))
def test_7_4_reserved_close_codes_are_refused(name: str) -> None:
    check_refused(name)


@pytest.mark.parametrize("name", refused("8.1"))
def test_8_1_text_that_is_not_utf_8_is_refused(name: str) -> None:
    check_refused(name)


@pytest.mark.parametrize("name", [*refused("E4"), *refused("E5")])
def test_10_4_messages_above_the_size_or_fragment_limit_are_refused(name: str) -> None:
    check_refused(name)


@pytest.mark.parametrize("name", refused("7692"))
def test_rfc_7692_invalid_compressed_messages_are_refused(name: str) -> None:
    check_refused(name)


def test_rfc_7692_7_2_3_1_the_example_of_a_compressed_message_is_decoded() -> None:
    assert received(frame(TEXT | 0x40, bytes.fromhex("f248cdc9c90700")), compression=True) == [("text", "Hello")]


def test_rfc_7692_7_2_3_1_the_example_in_two_fragments_is_decoded() -> None:
    stream = frame(TEXT_PART | 0x40, bytes.fromhex("f248cd")) + frame(LAST, bytes.fromhex("c9c90700"))
    assert received(stream, compression=True) == [("text", "Hello")]


def test_rfc_7692_7_2_3_2_example_with_a_reference_to_an_earlier_message_is_decoded() -> None:
    stream = frame(TEXT | 0x40, bytes.fromhex("f248cdc9c90700")) + frame(TEXT | 0x40, bytes.fromhex("f200110000"))
    assert received(stream, compression=True) == [("text", "Hello")] * 2


def test_rfc_7692_7_2_3_3_example_with_an_uncompressed_deflate_block_is_decoded() -> None:
    stream = frame(TEXT | 0x40, bytes.fromhex("000500faff48656c6c6f00"))
    assert received(stream, compression=True) == [("text", "Hello")]


def test_rfc_7692_7_2_3_4_the_example_with_a_final_block_is_decoded() -> None:
    stream = frame(TEXT | 0x40, bytes.fromhex("f348cdc9c9070000")) * 2
    assert received(stream, compression=True) == [("text", "Hello")] * 2


def test_rfc_7692_7_2_3_5_example_with_two_deflate_blocks_is_decoded() -> None:
    stream = frame(TEXT | 0x40, bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")))
    assert received(stream, compression=True) == [("text", "Hello")]
