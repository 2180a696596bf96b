"""Creation of the backend for a URL."""

from __future__ import annotations

import subprocess
import sys

import pytest

from uvicorn.broadcast.backend_factory import backend_from_url
from uvicorn.errors import ConfigError

SCHEMES = (
    "memory, redis, rediss, unix, redis+py, rediss+py, unix+py, redis+sentinel, rediss+sentinel, redis+cluster,"
    " rediss+cluster"
)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("memory://", "memory://"),
        ("memory://room/one", "memory://room/one"),
        ("redis://host:1/2", "redis://host:1/2"),
        ("rediss://host", "rediss://host:6379/0"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis+py://user:secret@host:1/2", "redis+py://user@host:1"),
        ("redis+py://[::1]:1", "redis+py://[::1]:1"),
        ("unix+py://:secret@/run/redis.sock", "unix+py:///run/redis.sock"),
        ("rediss+py://host", "rediss+py://host:6379"),
        ("redis+sentinel://:secret@one,two:1/chat/3", "redis+sentinel://one:26379,two:1/chat"),
        ("redis+cluster://one,two:1", "redis+cluster://one:6379,two:1"),
    ],
)
def test_the_repr_of_a_backend_is_its_url_without_the_password(url: str, name: str) -> None:
    assert repr(backend_from_url(url)) == name


def test_the_error_for_an_unknown_scheme_lists_the_known_schemes() -> None:
    expected = ", ".join(f"{scheme}://" for scheme in SCHEMES.split(", "))
    with pytest.raises(ConfigError) as caught:
        backend_from_url("kafka://:secret@host")
    assert str(caught.value) == f"broadcast URL: scheme 'kafka'; expected one of {expected}"


def test_a_broadcast_url_without_a_scheme_is_rejected() -> None:
    with pytest.raises(ConfigError, match="broadcast URL: no scheme; expected one of memory://"):
        backend_from_url("/secret@localhost")


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis+sentinel://host", "expected redis\\+sentinel://host:port,host:port/service"),
        ("redis+py://one,two", "expected one host; several hosts need redis\\+cluster:// or redis\\+sentinel://"),
        ("redis+py://host:seven", "broadcast URL: expected a port from 0 to 65535"),
        ("redis+cluster://one:1,two:99999", "broadcast URL: expected a port from 0 to 65535"),
        ("redis+py://host/one", "expected the number of a database, .* got 'one'"),
        ("redis+sentinel://host/chat/one", "expected the number of a database, .* got 'one'"),
        ("redis+py://host?x", "broadcast URL: expected options as in \\?name=value"),
        ("redis+py://host?db=one", "expected the number of a database, .* got 'one'"),
        ("redis+py://host?tiemout=1", "unknown or reserved option 'tiemout'"),
        ("redis+py://host?protocol=3", "unknown or reserved option 'protocol'"),
    ],
)
def test_error_for_an_invalid_broadcast_url_explains_the_invalid_part(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        backend_from_url(url)


def test_the_error_for_a_missing_redis_py_shows_what_to_install() -> None:
    code = """
import sys
sys.modules["redis"] = None
from uvicorn.broadcast.backend_factory import backend_from_url
from uvicorn.errors import ConfigError
backend_from_url("redis://localhost")
try:
    backend_from_url("redis+cluster://localhost")
except ConfigError as error:
    print(error)
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout == "broadcast URL: redis+cluster:// needs redis-py: pip install 'uvicorn[redis]'\n"
