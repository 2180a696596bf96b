from __future__ import annotations

from uvicorn.wire.http1.default_fields import DefaultFields


def test_the_date_field_has_the_format_of_rfc_9110() -> None:
    defaults = DefaultFields()
    defaults.update(784111777)
    assert defaults.block == b"server: uvicorn\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def test_removal_of_a_disabled_default_field_leaves_the_other_fields_unchanged() -> None:
    defaults = DefaultFields(b"", send_date=False)
    defaults.update(0)
    assert defaults.without(b"date", b"x") == b"x"


def test_configured_server_field_replaces_the_default_server_field() -> None:
    defaults = DefaultFields(send_date=False, more=b"x-a: b\r\nserver: theirs\r\n")
    assert defaults.block == b"server: theirs\r\nx-a: b\r\n"


def test_server_field_of_the_application_replaces_the_configured_server_field() -> None:
    defaults = DefaultFields(send_date=False, more=b"x-a: b\r\nserver: theirs\r\n")
    assert defaults.without(b"server", defaults.block) == b"x-a: b\r\n"
