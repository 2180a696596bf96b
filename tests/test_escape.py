"""Text from outside on one line of a log."""

from __future__ import annotations

import pytest

from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.escape import escaped, escaped_lines, escaped_report


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode", "plain, ünïcode"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31m\x00\x7f\x9b", "\\x1b[31m\\x00\\x7f\\x9b"),
        ("\u2028\u202e\u2066", "\\u2028\\u202e\\u2066"),
        ("\ud800", "\\ud800"),
        ("\u00a0\u00ad\u200b\u3000\ue000", "\\xa0\\xad\\u200b\\u3000\\ue000"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_escaped_text_is_truncated() -> None:
    assert escaped("x" * 300) == "x" * 200 + "..."


def test_escaped_lines_keep_line_feeds_and_tabs() -> None:
    assert escaped_lines("a\n\tb\r\x1b") == "a\n\tb\\r\\x1b"


def test_value_whose_str_method_raises_is_shown_as_its_type() -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError

    assert escaped(Broken()) == "<Broken, whose text fails with ValueError>"


def test_every_line_of_an_escaped_report_is_indented() -> None:
    assert escaped_report("one\x1b\n  two\n") == "\n    one\\x1b\n      two"


def test_report_of_one_line_is_not_indented() -> None:
    assert escaped_report("no database\n") == "no database"


def test_repr_of_an_exchange_is_one_short_line() -> None:
    target = b"/%0A%1B" + b"x" * 60000
    shown = repr(HTTPExchange(HTTPGateway(), Endpoint(), "GET\n" + "x" * 1000, target, "1.1", ((), ()), False))
    assert shown.isprintable()
    assert len(shown) < 300
