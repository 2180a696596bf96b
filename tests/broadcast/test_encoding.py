"""Encoding and decoding of valid and malformed messages."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uvicorn.broadcast.encoding import MalformedMessage, decode, encode, group_name, share
from uvicorn.errors import LocalProtocolError, MessageTooLarge
from uvicorn.types import SharedBytes, SharedText

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = TEXT.filter(lambda key: not key.startswith("_uvicorn"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.integers(1, 2**60))
def test_every_message_is_unchanged_after_encoding_and_decoding(message: dict[str, Any], number: int) -> None:
    assert decode(encode(message).numbered("sender", number)) == (message, "sender", number)


@given(st.binary(max_size=200))
def test_random_payloads_raise_only_MalformedMessage(payload: bytes) -> None:
    try:
        message, _, _ = decode(payload)
    except MalformedMessage:
        return
    assert isinstance(message, dict)


def test_text_message_is_encoded_as_json_with_one_added_key() -> None:
    payload = encode({"text": "naïve"}).numbered("ab12", 7)
    assert json.loads(payload) == {"text": "naïve", "_uvicorn": ["ab12", 7]}


def test_an_empty_message_is_plain_json_with_one_key() -> None:
    assert json.loads(encode({}).numbered("ab12", 7)) == {"_uvicorn": ["ab12", 7]}


def test_encoding_of_bytes_adds_less_than_100_bytes() -> None:
    data = bytes(range(256)) * 100
    assert len(encode({"bytes": data}).numbered("ab12", 7)) < len(data) + 100


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_bytearray_and_memoryview_arrive_as_bytes(kind: Any) -> None:
    assert decode(encode({"bytes": kind(b"ab")}).numbered("s", 1))[0] == {"bytes": b"ab"}


def test_plain_json_from_another_publisher_is_decoded_without_a_sender() -> None:
    assert decode(b' {"text": "hi"}\n') == ({"text": "hi"}, "", 0)


@pytest.mark.parametrize("number", ['["a"]', '["a", "1"]', "[1, 2]", '["a", true]', "7", "null"])
def test_an_invalid_sequence_number_from_another_publisher_is_ignored(number: str) -> None:
    assert decode(b'{"text": "hi", "_uvicorn": %b}' % number.encode()) == ({"text": "hi"}, "", 0)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"hello",
        b"\x02\x00\x00\x00\x02{}",
        b"\x01",
        b"\x01\xff\xff\xff\xff{}",
        b'\x01\x00\x00\x00\x16{"a":{"_uvicorn_bytes":',
        b'\x01\x00\x00\x00\x1a{"a":{"_uvicorn_bytes":99}}x',
        b'\x01\x00\x00\x00\x1a{"a":{"_uvicorn_bytes":-1}}x',
        b"[1]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        pickle.dumps({"text": "hi"}),
    ],
)
def test_F1_a_malformed_payload_is_rejected(payload: bytes) -> None:
    with pytest.raises(MalformedMessage):
        decode(payload)


def test_F5_a_payload_above_the_limit_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(MalformedMessage, match="expected a payload of 100 bytes at most"):
        decode(b'{"text": "%b"}' % (b"x" * 2000), 100)


@pytest.mark.parametrize("value", ["x" * 93, b"x" * 74])
def test_a_message_above_the_size_limit_is_rejected_when_it_is_sent(value: Any) -> None:
    encode({"a": value[:-1]}, 100)
    with pytest.raises(MessageTooLarge, match="of 100 bytes at most, got 101"):
        encode({"a": value}, 100)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("text", "a dict, got str"),
        ({"a": object()}, "got a value of type object"),
        ({"a": {1, 2}}, "got a value of type set"),
        ({"a": float("nan")}, "Out of range float"),
        ({"a": "\ud800"}, "surrogates not allowed"),
        ({(1, 2): "a"}, "keys must be"),
    ],
)
def test_the_error_for_a_value_that_cannot_be_encoded_shows_its_type(message: Any, said: str) -> None:
    with pytest.raises(LocalProtocolError, match=said):
        encode(message)


def test_a_message_that_contains_itself_is_rejected() -> None:
    message: dict[str, Any] = {}
    message["a"] = message
    with pytest.raises(LocalProtocolError, match="Circular"):
        encode(message)


def test_decoded_text_and_bytes_are_SharedText_and_SharedBytes() -> None:
    message = share({"text": "a", "bytes": b"b", "close": True})
    assert message == {"text": "a", "bytes": b"b", "close": True}
    assert (type(message["text"]), type(message["bytes"])) == (SharedText, SharedBytes)


@pytest.mark.parametrize("name", ["chat", "a b\r\nPUBLISH x", "é", "x" * 512, "\0"])
def test_a_group_name_may_be_any_text(name: str) -> None:
    assert group_name(name) == name


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (None, "got None"),
        ("", "got ''"),
        (b"chat", "got b'chat'"),
        ("x" * 513, "of 512 bytes at most, got 513"),
        ("é" * 257, "of 512 bytes at most, got 514"),
        ("\ud800", "UTF-8"),
    ],
)
def test_a_group_name_must_be_text_of_limited_length(name: Any, said: str) -> None:
    with pytest.raises(LocalProtocolError, match=said):
        group_name(name)


def test_f5_application_cannot_use_a_reserved_group_name() -> None:
    with pytest.raises(LocalProtocolError, match="the prefix 'uvicorn.process.' is reserved"):
        group_name("uvicorn.process.0123456789abcdef")
