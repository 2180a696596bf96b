"""Whose pages may open a websocket (E1)."""

from __future__ import annotations

import pytest

from uvicorn.websocket_origin import is_allowed_origin, is_same_origin


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://example.com", "example.com"),
        ("https://example.com", "example.com"),
        ("http://example.com:8001", "example.com:8000"),
        ("HTTP://Example.COM", "example.com"),
        ("http://localhost:8001", "127.0.0.1:8000"),
        ("http://127.0.0.1", "localhost"),
        ("http://127.9.8.7", "127.0.0.1"),
        ("http://[::1]:8001", "localhost:8000"),
        ("http://localhost", "[::1]:8000"),
        ("http://[2001:db8::1]:80", "[2001:db8::1]:8000"),
        ("http://10.0.0.1", "10.0.0.1:8000"),
    ],
)
def test_origin_with_the_host_name_of_the_request_counts_as_the_same_origin(origin: str, host: str) -> None:
    assert is_same_origin(origin, host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://evil.com", "example.com"),
        ("null", "example.com"),
        ("null", "null"),
        ("", ""),
        ("", "example.com"),
        ("http://", ""),
        ("http://example.com", ""),
        ("http://example.com.evil.com", "example.com"),
        ("http://evil-example.com", "example.com"),
        ("http://sub.example.com", "example.com"),
        ("http://example.com", "sub.example.com"),
        ("http://example.com@evil.com", "example.com"),
        ("http://evil.com#@example.com", "example.com"),
        ("http://evil.com/example.com", "example.com"),
        ("http://evil.com\\example.com", "example.com"),
        ("http://example.com/", "example.com"),
        ("http://example.com http://evil.com", "example.com"),
        ("http://example.com\n", "example.com"),
        ("example.com", "example.com"),
        ("file://", "example.com"),
        ("file://localhost", "localhost"),
        ("capacitor://localhost", "localhost"),
        ("http://127.0.0.1.evil.com", "127.0.0.1"),
        ("http://localhost.evil.com", "localhost"),
        ("http://128.0.0.1", "127.0.0.1"),
        ("http://127.0.0.1", "10.0.0.1"),
        ("http://10.0.0.1", "localhost"),
        ("http://[::2]", "[::1]"),
        ("http://[::1", "[::1]"),
        ("http://example.com:80:80", "example.com"),
        ("http://example.com:x", "example.com"),
        ("http://exämple.com", "example.com"),
    ],
)
def test_malformed_or_foreign_origin_does_not_count_as_the_same_origin(origin: str, host: str) -> None:
    assert not is_same_origin(origin, host)


@pytest.mark.parametrize(
    ("origin", "allowed", "checks_origin", "may"),
    [
        (None, (), True, True),
        (None, ("https://a.example",), True, True),
        ("https://example.com", (), True, True),
        ("https://evil.com", (), True, False),
        ("https://evil.com", (), False, True),
        ("https://evil.com", ("*",), True, True),
        ("https://a.example", ("https://a.example",), True, True),
        ("https://example.com", ("https://a.example",), True, False),
        ("https://evil.com", ("https://a.example",), False, False),
    ],
)
def test_websocket_origin_must_match_the_host_or_the_list_of_allowed_origins(
    origin: str | None, allowed: tuple[str, ...], checks_origin: bool, may: bool
) -> None:
    assert is_allowed_origin(origin, "example.com", allowed, checks_origin) == may
