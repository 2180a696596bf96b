"""Connections over TLS, with a malformed password, and after a fork."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.broadcast.recorder import listening
from tests.broadcast.redis_servers import RedisServer, free_port, running
from uvicorn.broadcast.redis.standalone import connect
from uvicorn.broadcast.redis.url import RedisAddress
from uvicorn.errors import BroadcastUnavailable


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a self-signed certificate for localhost, and its key."""
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
async def test_messages_are_delivered_over_redis_with_tls(scheme: str, tls_port: int, certificate: Path) -> None:
    async with listening(f"{scheme}://localhost:{tls_port}?ssl_ca_certs={certificate}", "group") as (backend, recorder):
        await backend.publish("group", b"x" * 100_000)
        assert await recorder.receive(1) == [b"x" * 100_000]


async def test_f3_an_untrusted_certificate_is_rejected(tls_port: int) -> None:
    async with listening(f"rediss://localhost:{tls_port}") as (backend, _):
        with pytest.raises(BroadcastUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await backend.publish("group", b"x")


# asyncio's streams, which redis-py uses, now and then leave a future with the error behind on uvloop.
@pytest.mark.any_loop
async def test_f3_an_untrusted_certificate_is_rejected_by_redis_py(tls_port: int) -> None:
    async with listening(f"rediss+py://localhost:{tls_port}") as (backend, _):
        with pytest.raises(BroadcastUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await backend.publish("group", b"x")


async def test_password_that_cannot_be_encoded_leaves_no_connection_open() -> None:
    accepted = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        writer.write(await reader.read(1))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(UnicodeEncodeError):
        await connect(RedisAddress("127.0.0.1", port, password="\udcff"))
    # The server accepts connections in order.
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"x")
    answer, connections = await reader.read(1), len(accepted)
    for end in (writer, *accepted):
        end.close()
    server.close()
    assert (answer, connections) == (b"x", 1)


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
    # No warnings about a busy machine.
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
def test_forked_child_and_parent_use_separate_redis_connections(redis_server: RedisServer, scheme: str) -> None:
    outcome = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", _FORK, redis_server.url.replace("redis", scheme, 1)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (outcome.stdout, outcome.stderr) == ("done\n", "")
