"""URLs that cannot be read, and what is not shown of them."""

from __future__ import annotations

import pytest

from uvicorn.broadcast.backend_factory import backend_from_url
from uvicorn.broadcast.publisher import Publisher
from uvicorn.broadcast.redis.url import database_of, options_of, port_of, service_of, split_url
from uvicorn.errors import ConfigError

# As people write a password that they have been given, or forget what comes behind it.
_UNESCAPED = (
    "%s",
    "%s/x@host:6379/0",
    "12/%s@host/0",
    "12#%s@host",
    "x?%s@host",
    "%s\u2100@host",
    "%s@[host]",
    "%s@a:b",
)


@pytest.mark.parametrize("rest", _UNESCAPED)
@pytest.mark.parametrize("scheme", ["redis", "rediss", "redis+py", "redis+sentinel", "redis+cluster"])
def test_f4_a_url_whose_password_is_not_escaped_is_refused_without_it(scheme: str, rest: str) -> None:
    for use in (backend_from_url, Publisher):
        with pytest.raises(ConfigError, match="^broadcast URL: ") as caught:
            use(f"{scheme}://:" + rest % "SECRET")
        assert "SECRET" not in str(caught.value)


def test_what_could_be_a_password_s_rest_is_told_how_to_be_written() -> None:
    with pytest.raises(ConfigError, match="in a password, / .* %2F"):
        split_url("redis://[")
    with pytest.raises(ConfigError, match="in a password, / .* %2F"):
        split_url("redis://:12#secret")
    with pytest.raises(ConfigError, match="in a password, / .* %2F"):
        port_of(split_url("redis://:secret"))
    with pytest.raises(ConfigError, match="in a password, / .* %2F"):
        options_of(split_url("redis://host?secret"))
    with pytest.raises(ConfigError, match="in a password, / .* %2F"):
        database_of("secret@host")
    with pytest.raises(ConfigError, match="in a password, / .* %2F"):
        service_of("/secret@host")


def test_what_can_be_read_is() -> None:
    parts = split_url("redis://host:7/3?a=1&a=2&b=%26")
    assert (port_of(parts), options_of(parts), database_of("3"), database_of("")) == (7, {"a": "2", "b": "&"}, 3, 0)
    assert (service_of("/chat"), service_of("/chat/3")) == (("chat", 0), ("chat", 3))


def test_a_url_that_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected text, got int"):
        split_url(6379)  # type: ignore[arg-type]
