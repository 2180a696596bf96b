"""Redis URLs, and errors that show no password."""

from __future__ import annotations

import ssl

import pytest

from uvicorn.broadcast.backend_factory import backend_from_url
from uvicorn.broadcast.publisher import Publisher
from uvicorn.broadcast.redis.url import RedisAddress, parse_redis_url, split_url
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
def test_f4_error_for_a_url_hides_its_unescaped_password(scheme: str, rest: str) -> None:
    for use in (backend_from_url, Publisher):
        with pytest.raises(ConfigError, match="^broadcast URL: ") as caught:
            use(f"{scheme}://:" + rest % "SECRET")
        assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://[",
        "redis://:12#secret",
        "redis://:secret",
        "redis://host?secret",
        "redis://host/secret@host",
        "redis+sentinel://host/secret@host",
    ],
)
def test_the_error_for_a_malformed_url_shows_how_to_escape_a_password(url: str) -> None:
    with pytest.raises(ConfigError, match="in a password, / .* %2F"):
        parse_redis_url(url)


def test_last_value_counts_when_a_url_repeats_an_option() -> None:
    assert parse_redis_url("redis+py://host?a=1&a=2&b=%26").options == {"a": "2", "b": "&"}


def test_sentinel_url_has_hosts_service_database_and_two_passwords() -> None:
    url = parse_redis_url("redis+sentinel://user:one@a,b:1/chat/3?sentinel_password=two")
    assert url.hosts == (("a", 26379), ("b", 1))
    assert (url.service, url.database, url.password, url.sentinel_password) == ("chat", 3, "one", "two")


def test_a_broadcast_url_that_is_not_text_is_rejected() -> None:
    with pytest.raises(ConfigError, match="expected text, got int"):
        split_url(6379)  # type: ignore[arg-type]


def address_of(url: str) -> RedisAddress:
    return parse_redis_url(url).addresses()[0]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", ("localhost", 6379, "", "", 0)),
        ("redis://example.org", ("example.org", 6379, "", "", 0)),
        ("redis://example.org:7000/3", ("example.org", 7000, "", "", 3)),
        ("redis://example.org?db=4", ("example.org", 6379, "", "", 4)),
        ("redis://:secret@example.org", ("example.org", 6379, "", "secret", 0)),
        ("redis://user:se%40cr%2Fet@example.org/", ("example.org", 6379, "user", "se@cr/et", 0)),
        ("redis://[::1]:7000", ("::1", 7000, "", "", 0)),
    ],
)
def test_a_redis_url_contains_host_port_user_password_and_database(url: str, expected: tuple[object, ...]) -> None:
    address = address_of(url)
    assert (address.host, address.port, address.username, address.password, address.database) == expected
    assert address.tls is None


def test_a_unix_url_contains_the_path_of_the_socket() -> None:
    address = address_of("unix://user:secret@/run/redis%20one.sock?db=2")
    assert (address.path, address.username, address.password, address.database) == (
        "/run/redis one.sock",
        "user",
        "secret",
        2,
    )


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis://host/one", "expected the number of a database, as in redis://localhost:6379/0; got 'one'"),
        ("redis://host?tiemout=1", "unknown option 'tiemout' for redis://"),
        ("redis://host?ssl_ca_certs=x", "unknown option 'ssl_ca_certs' for redis://"),
        ("redis://host/٣", "expected the number of a database"),
        ("redis://host:seven", "broadcast URL: expected a port from 0 to 65535"),
        ("redis://host:65536", "broadcast URL: expected a port from 0 to 65535"),
        ("redis://host?x", "broadcast URL: expected options as in \\?name=value"),
        ("redis://[::1", "broadcast URL: malformed host"),
        ("redis://one,two", "expected one host"),
        ("unix://", "expected the path of a socket, as in unix:///run/redis.sock"),
        ("rediss://host?ssl_cert_reqs=maybe", "ssl_cert_reqs is 'maybe'; expected 'required' or 'none'"),
        ("rediss://host?ssl_ca_certs=/does/not/exist", "ssl_ca_certs, ssl_certfile or ssl_keyfile: .*No such file"),
    ],
)
def test_the_error_for_an_invalid_redis_url_shows_the_expected_form(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        address_of(url)


@pytest.mark.parametrize("url", ["redis://user:secret@host:1/2", "rediss://:secret@host", "unix://:secret@/path"])
def test_f4_the_repr_of_an_address_does_not_show_the_password(url: str) -> None:
    assert "secret" not in repr(address_of(url))


def test_an_address_is_shown_as_a_url_without_the_password() -> None:
    assert repr(address_of("redis://user:secret@[::1]:1/2")) == "redis://user@[::1]:1/2"


def test_f3_certificates_are_verified_unless_the_url_disables_verification() -> None:
    strict = address_of("rediss://host").tls
    assert strict is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    trusting = address_of("rediss://host?ssl_cert_reqs=none").tls
    assert trusting is not None
    assert trusting.verify_mode == ssl.CERT_NONE
