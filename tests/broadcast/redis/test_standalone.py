"""Addresses of Redis servers, TLS, and what a fork inherits."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broadcast.ear import listening
from tests.broadcast.redis_servers import RedisServer, free_port, running
from uvicorn.broadcast.redis.standalone import parse_address
from uvicorn.errors import BroadcastUnavailable, ConfigError


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
def test_a_url_says_where_redis_is_and_who_we_are(url: str, expected: tuple[object, ...]) -> None:
    address = parse_address(url)
    assert (address.host, address.port, address.username, address.password, address.database) == expected
    assert address.tls is None


def test_a_url_names_a_unix_socket() -> None:
    address = parse_address("unix://user:secret@/run/redis%20one.sock?db=2")
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
        ("redis://host?tiemout=1", "option 'tiemout' is not known for redis://"),
        ("redis://host?ssl_ca_certs=x", "option 'ssl_ca_certs' is not known for redis://"),
        ("redis://host/٣", "expected the number of a database"),
        ("redis://host:seven", "broadcast URL: expected a port from 0 to 65535"),
        ("redis://host:65536", "broadcast URL: expected a port from 0 to 65535"),
        ("redis://host?x", "broadcast URL: expected options as in \\?name=value"),
        ("redis://[::1", "broadcast URL: the host cannot be read"),
        ("unix://", "expected the path of a socket, as in unix:///run/redis.sock"),
        ("rediss://host?ssl_cert_reqs=maybe", "ssl_cert_reqs is 'maybe'; expected 'required' or 'none'"),
        ("rediss://host?ssl_ca_certs=/does/not/exist", "ssl_ca_certs, ssl_certfile or ssl_keyfile: .*No such file"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_what_to_do(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_address(url)


@pytest.mark.parametrize("url", ["redis://user:secret@host:1/2", "rediss://:secret@host", "unix://:secret@/path"])
def test_f4_an_address_does_not_show_its_password(url: str) -> None:
    assert "secret" not in repr(parse_address(url))


def test_an_address_shows_where_it_leads() -> None:
    assert repr(parse_address("redis://user:secret@[::1]:1/2")) == "redis://user@[::1]:1/2"


def test_f3_certificates_are_verified_unless_the_url_says_otherwise() -> None:
    strict = parse_address("rediss://host").tls
    assert strict is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    trusting = parse_address("rediss://host?ssl_cert_reqs=none").tls
    assert trusting is not None
    assert trusting.verify_mode == ssl.CERT_NONE


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For localhost, signed by itself; the key is beside it."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "certificate.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def tls_port(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-auth-clients", "no"]
    options += ["--tls-key-file", str(certificate.with_name("key.pem")), "--tls-ca-cert-file", str(certificate)]
    with running(RedisServer(tmp_path_factory.mktemp("tls"), *options)):
        yield port


@pytest.mark.parametrize("scheme", ["rediss", "rediss+py"])
async def test_messages_go_over_tls(scheme: str, tls_port: int, certificate: Path) -> None:
    async with listening(f"{scheme}://localhost:{tls_port}?ssl_ca_certs={certificate}", "group") as (backend, ear):
        await backend.publish("group", b"x" * 100_000)
        assert await ear.hear(1) == [b"x" * 100_000]


async def test_f3_a_certificate_that_nobody_vouches_for_is_refused(tls_port: int) -> None:
    async with listening(f"rediss://localhost:{tls_port}") as (backend, _):
        with pytest.raises(BroadcastUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await backend.publish("group", b"x")


# asyncio's streams, which redis-py uses, now and then leave a future with the error behind on uvloop.
@pytest.mark.any_loop
async def test_f3_a_certificate_that_nobody_vouches_for_is_refused_by_redis_py(tls_port: int) -> None:
    async with listening(f"rediss+py://localhost:{tls_port}") as (backend, _):
        with pytest.raises(BroadcastUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await backend.publish("group", b"x")


# Forks.

_FORK = """
import asyncio, os, sys
from uvicorn.broadcast.backend_factory import backend_from_url
from uvicorn.errors import BroadcastUnavailable

async def use(backend, name):
    heard = asyncio.Queue()
    await backend.start(lambda group, payload: heard.put_nowait(payload), lambda *gap: None)
    await backend.subscribe(["group"])
    await backend.publish("group", name)
    assert await heard.get() == name
    return heard

async def child(backend):
    asyncio.get_running_loop().slow_callback_duration = 60
    try:
        await backend.publish("group", b"no")
    except BroadcastUnavailable as error:
        assert "not started in this process" in str(error), error
    else:
        raise AssertionError("published on the parent's connection")
    await use(backend, b"child")
    await backend.stop()

async def parent(backend):
    # Of a machine that has much else to do nobody wants to know.
    asyncio.get_running_loop().slow_callback_duration = 60
    heard = await use(backend, b"parent")
    pid = os.fork()
    if not pid:
        # As if the loop of the parent had never been here.
        asyncio._set_running_loop(None)
        asyncio.set_event_loop(None)
        status = 1
        try:
            asyncio.Runner().run(child(backend))
            status = 0
        finally:
            os._exit(status)
    assert await heard.get() == b"child"
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    await backend.publish("group", b"after")
    assert await heard.get() == b"after"
    assert backend.metrics.reconnects == 0
    await backend.stop()

asyncio.run(parent(backend_from_url(sys.argv[1])))
print("done")
"""


@pytest.mark.parametrize("scheme", ["redis", "redis+py"])
def test_after_a_fork_the_child_starts_anew_and_the_parent_notices_nothing(
    redis_server: RedisServer, scheme: str
) -> None:
    outcome = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", _FORK, redis_server.url.replace("redis", scheme, 1)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (outcome.stdout, outcome.stderr) == ("done\n", "")
