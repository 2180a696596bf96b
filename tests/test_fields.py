from __future__ import annotations

import pytest

from uvicorn.errors import LocalProtocolError
from uvicorn.fields import LOWER_NAMES, DefaultFields, is_token, lower_name, split_tokens


@pytest.mark.parametrize("value", [b"a", b"Content-Type", b"!#$%&'*+-.^_`|~09"])
def test_a_token_is_recognized(value: bytes) -> None:
    assert is_token(value)


@pytest.mark.parametrize("value", [b"", b"a b", b"a:", b"a\n", b"\xe9", b"a\0", b'"a"', b"a,b"])
def test_a_malformed_token_is_rejected(value: bytes) -> None:
    assert not is_token(value)


def test_a_list_is_split_into_lower_case_members_without_empty_ones() -> None:
    assert split_tokens(b" Close ,,\tkeep-Alive,") == [b"close", b"keep-alive"]


def test_common_names_have_one_object_for_both_spellings() -> None:
    assert LOWER_NAMES[b"Content-Type"] is LOWER_NAMES[b"content-type"]


def test_every_common_name_is_a_token() -> None:
    assert all(is_token(name) and LOWER_NAMES[name] == name.lower() for name in LOWER_NAMES)


def test_an_uncommon_name_is_lowered() -> None:
    assert lower_name(b"X-Custom") == b"x-custom"


@pytest.mark.parametrize("name", ["text", b"a b", None])
def test_a_name_that_cannot_be_one_is_shown(name: object) -> None:
    with pytest.raises(LocalProtocolError, match="header name: expected"):
        lower_name(name)


def test_the_date_is_in_the_form_of_the_specification() -> None:
    defaults = DefaultFields()
    defaults.update(784111777)
    assert defaults.block == b"server: uvicorn\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def test_a_line_that_is_not_there_cannot_be_left_out() -> None:
    defaults = DefaultFields(b"", send_date=False)
    defaults.update(0)
    assert defaults.without(b"date", b"x") == b"x"


def test_a_server_field_of_the_applications_own_takes_the_place_of_the_users() -> None:
    defaults = DefaultFields(send_date=False, more=b"x-a: b\r\nserver: theirs\r\n")
    assert defaults.block == b"server: theirs\r\nx-a: b\r\n"
    assert defaults.without(b"server", defaults.block) == b"x-a: b\r\n"
