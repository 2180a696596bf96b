"""The conversion between response heads of WSGI and of an exchange, both ways, without a server."""

from __future__ import annotations

from typing import Any

import pytest

from uvicorn.errors import LocalProtocolError
from uvicorn.interfaces.wsgi_response import (
    _DECODED_FIELDS,
    _ENCODED_FIELDS,
    _FIELD_NAMES,
    _STATUSES,
    decode_response,
    encode_response,
    field_octets,
)


@pytest.mark.parametrize(
    "status",
    ["200\r\nx", "200 O\rK", "200 \0", "abc", "99 x", "199 x", "1000 x", "2000 x", "200 \u2603", 200, None, b"200"],
)
def test_malformed_wsgi_status_is_rejected(status: Any) -> None:
    with pytest.raises(LocalProtocolError, match="start_response: expected a status"):
        encode_response(status, [])


def test_wsgi_status_gives_the_same_result_when_it_is_parsed_twice() -> None:
    assert [encode_response("299 Odd", [])[:2] for _ in range(2)] == [(299, b"Odd")] * 2


def test_wsgi_status_is_parsed_when_the_cache_of_statuses_is_full() -> None:
    for number in range(1000):
        assert encode_response(f"200 {number}", [])[1] == b"%d" % number
    assert len(_STATUSES) <= 256


@pytest.mark.parametrize(
    "field",
    [
        ("a b", "c"),
        ("", "c"),
        ("a:", "c"),
        ("é", "c"),
        ("a", "b\r\nc: d"),
        ("a", "\0"),
        ("a", "€"),
        ("a",),
        3,
        ("a", 3),
    ],
)
def test_malformed_wsgi_header_raises_in_start_response(field: Any) -> None:
    with pytest.raises(LocalProtocolError, match="start_response"):
        encode_response("200 OK", [field])


def test_repeated_malformed_wsgi_header_is_rejected() -> None:
    for _ in range(2):
        with pytest.raises(LocalProtocolError):
            encode_response("200 OK", [("a b", "c")])


def test_wsgi_header_value_may_be_any_latin_1_text_with_tabs() -> None:
    assert encode_response("404", [("X-A", "\tcaf\xe9\xa0")]) == (404, b"", [(b"x-a", b"\tcaf\xe9\xa0")])


@pytest.mark.parametrize("field", [("X-A", "1"), ["X-A", "1"]])
def test_wsgi_header_may_be_a_tuple_or_a_list(field: Any) -> None:
    for _ in range(2):
        assert encode_response("200 OK", [field])[2] == [(b"x-a", b"1")]


def test_wsgi_header_is_encoded_when_the_cache_of_fields_is_full() -> None:
    for number in range(300):
        assert encode_response("200 OK", [("X-A", str(number))])[2] == [(b"x-a", b"%d" % number)]
    assert len(_ENCODED_FIELDS) <= 256


def test_long_wsgi_header_is_not_cached() -> None:
    field = ("X-A", "x" * 200)
    assert encode_response("200 OK", [field])[2] == [(b"x-a", b"x" * 200)]
    assert field not in _ENCODED_FIELDS


def test_long_wsgi_header_name_is_not_cached() -> None:
    name = "X-" + "a" * 65536
    encode_response("200 OK", [(name, "1")])
    assert name not in _FIELD_NAMES


def test_wsgi_header_name_of_a_str_subclass_is_not_cached() -> None:
    class Name(str):
        pass

    encode_response("200 OK", [(Name("X-Of-A-Subclass"), "1")])
    assert "X-Of-A-Subclass" not in _FIELD_NAMES


def test_wsgi_header_name_is_encoded_when_the_cache_of_names_is_full() -> None:
    names = [f"x-{number}" for number in range(1000)]
    assert [name.decode() for name, value in encode_response("200 OK", [(name, "") for name in names])[2]] == names


@pytest.mark.parametrize("status", [199, 1000, "200", None])
def test_response_head_with_a_malformed_status_code_is_rejected(status: Any) -> None:
    with pytest.raises(LocalProtocolError, match="status: expected an int"):
        decode_response(status, b"", [], "")


@pytest.mark.parametrize("reason", ["Nope", b"a\nb", 5])
def test_response_head_with_a_malformed_reason_phrase_is_rejected(reason: Any) -> None:
    with pytest.raises(LocalProtocolError, match="status_text: expected bytes without control characters, got"):
        decode_response(200, reason, [], "OK")


@pytest.mark.parametrize("field", [(b"content-length", 5), (5, b"x"), (b"content-length", 1 << 40)])
def test_response_head_with_a_number_in_a_header_is_rejected(field: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"headers: expected \[name, value\] pairs of bytes, got \[\("):
        decode_response(200, b"", [field], "OK")


@pytest.mark.parametrize("field", [(b"a b", b"c"), (b"a", b"\n"), ("a", "b"), (b"a",), 3])
def test_response_head_with_a_malformed_header_is_rejected(field: Any) -> None:
    with pytest.raises(LocalProtocolError):
        decode_response(200, b"", [field], "OK")


def test_header_names_are_decoded_when_the_name_cache_is_full() -> None:
    names = [b"X-M-%d" % number for number in range(1000)]
    fields = decode_response(200, b"", [(name, b"") for name in names], "OK")[1]
    assert fields == [(name.decode().lower(), "") for name in names]


@pytest.mark.parametrize("part", [bytearray(b"x"), memoryview(b"x")])
def test_bytearray_or_memoryview_in_a_header_is_converted_to_bytes(part: object) -> None:
    assert field_octets(part) == b"x"


@pytest.mark.parametrize("part", ["text", 5, None])
def test_header_part_that_is_not_bytes_raises_TypeError(part: object) -> None:
    with pytest.raises(TypeError):
        field_octets(part)


@pytest.mark.parametrize("value", [bytearray(b"X"), memoryview(bytearray(b"X")), memoryview(b"X")])
def test_response_header_may_be_bytearray_or_memoryview(value: Any) -> None:
    assert decode_response(200, b"", [(value, value)], "OK")[1] == [("x", "X")]


def test_cache_of_decoded_response_headers_is_bounded() -> None:
    for number in range(1000):
        field = (b"X-%d" % number, b"V")
        assert [decode_response(200, b"", [field], "OK")[1] for _ in range(2)] == [[(f"x-{number}", "V")]] * 2
    assert len(_DECODED_FIELDS) <= 256


def test_long_response_header_is_not_cached() -> None:
    decode_response(200, b"", [(b"X-Long", b"v" * 200)], "OK")
    assert (b"X-Long", b"v" * 200) not in _DECODED_FIELDS
