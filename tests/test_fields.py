from __future__ import annotations

import pytest

from uvicorn.errors import LocalProtocolError
from uvicorn.fields import CLOSE_CODES, LOWER_NAMES, encode_field_line, has_controls, is_token, lower_name, split_tokens


def test_close_codes_of_rfc_6455_and_of_the_registry_are_valid() -> None:
    assert sorted(CLOSE_CODES) == [*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)]


@pytest.mark.parametrize("value", [b"a", b"Content-Type", b"!#$%&'*+-.^_`|~09"])
def test_valid_token_is_accepted(value: bytes) -> None:
    assert is_token(value)


@pytest.mark.parametrize("value", [b"", b"a b", b"a:", b"a\n", b"\xe9", b"a\0", b'"a"', b"a,b"])
def test_malformed_token_is_rejected(value: bytes) -> None:
    assert not is_token(value)


def test_comma_separated_tokens_are_split_and_converted_to_lower_case() -> None:
    assert split_tokens(b" Close ,,\tkeep-Alive,") == [b"close", b"keep-alive"]


def test_common_field_name_in_any_case_gives_the_same_lower_case_object() -> None:
    assert LOWER_NAMES[b"Content-Type"] is LOWER_NAMES[b"content-type"]


def test_every_common_field_name_is_a_token() -> None:
    assert all(is_token(name) and LOWER_NAMES[name] == name.lower() for name in LOWER_NAMES)


def test_uncommon_field_name_is_returned_in_lower_case() -> None:
    assert lower_name(b"X-Custom") == b"x-custom"


@pytest.mark.parametrize("name", ["text", b"a b", None])
def test_invalid_field_name_is_shown_in_the_error(name: object) -> None:
    with pytest.raises(LocalProtocolError, match="header name: expected"):
        lower_name(name)


@pytest.mark.parametrize("value", [b"", b"a\tb", bytes(range(32, 127)), bytes(range(128, 256))])
def test_field_value_without_control_characters_is_accepted(value: bytes) -> None:
    assert not has_controls(value)
    assert encode_field_line(b"x-a", value) == b"x-a: " + value + b"\r\n"


@pytest.mark.parametrize("control", [*range(9), *range(10, 32), 127])
def test_each_control_character_in_a_field_value_is_rejected(control: int) -> None:
    value = b"a%cb" % control
    assert has_controls(value)
    with pytest.raises(LocalProtocolError, match="control character"):
        encode_field_line(b"x-a", value)


@pytest.mark.parametrize("value", ["text", 1, None, bytearray(b"a")])
def test_field_value_other_than_bytes_is_rejected(value: object) -> None:
    with pytest.raises(LocalProtocolError, match="header b'x-a': expected a value of bytes"):
        encode_field_line(b"x-a", value)
