"""TLS connections during their handshake: counted towards the limit, given a deadline, and always closed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme

import uvicorn
from tests.certificates import Certificates
from tests.helpers import hello, settle, until


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@asynccontextmanager
async def serving(made: Certificates, **options: Any) -> AsyncIterator[uvicorn.Server]:
    config = uvicorn.Config(
        hello, port=0, log_config=None, ssl_certfile=str(made.chain), ssl_keyfile=str(made.key), **options
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done())
    try:
        yield server
    finally:
        server.force_exit = True
        await task


def port_of(server: uvicorn.Server) -> int:
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


@asynccontextmanager
async def plain_client(server: uvicorn.Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect a client that does not begin its handshake."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(server: uvicorn.Server, made: Certificates) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=made.client())
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def end_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def handshakes(server: uvicorn.Server) -> int:
    assert server._context is not None
    return len(server._context.arriving)


async def test_D15_a_connection_above_the_limit_is_closed_before_its_tls_handshake(made: Certificates) -> None:
    async with serving(made, limit_concurrency=1) as server, plain_client(server):
        await until(lambda: handshakes(server))
        async with plain_client(server) as (reader, _):
            assert await end_of(reader) == b""


async def test_D15_established_tls_connections_count_towards_the_tls_handshake_limit(made: Certificates) -> None:
    async with serving(made, limit_concurrency=1) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=made.client())
        async with plain_client(server) as (reader, _):
            assert await end_of(reader) == b""
        writer.close()
        await writer.wait_closed()


async def test_D15_tls_handshakes_are_limited_by_limit_concurrency(made: Certificates) -> None:
    async with serving(made, limit_concurrency=2) as server, contextlib.AsyncExitStack() as clients:
        for _ in range(20):
            await clients.enter_async_context(plain_client(server))
        assert server._context is not None
        await until(lambda: handshakes(server) == 2)


async def test_D15_next_client_is_served_after_an_abandoned_tls_handshake(made: Certificates) -> None:
    async with serving(made, limit_concurrency=1) as server:
        async with plain_client(server):
            await until(lambda: handshakes(server))
        await until(lambda: not handshakes(server))
        assert (await ask(server, made)).startswith(b"HTTP/1.1 200 ")


async def test_D15_next_client_is_served_after_a_failed_tls_handshake(made: Certificates) -> None:
    async with serving(made, limit_concurrency=1) as server:
        async with plain_client(server) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            await end_of(reader)
        await until(lambda: not handshakes(server))
        assert (await ask(server, made)).startswith(b"HTTP/1.1 200 ")


async def test_D15_tls_connection_counts_once_towards_limit_concurrency(made: Certificates) -> None:
    async with serving(made, limit_concurrency=2) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=made.client())
        await until(lambda: not handshakes(server))
        assert (await ask(server, made)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await writer.wait_closed()


async def test_D15_number_of_tls_handshakes_is_unlimited_without_limit_concurrency(made: Certificates) -> None:
    async with serving(made) as server, plain_client(server), plain_client(server), plain_client(server):
        await until(lambda: handshakes(server) == 3)


async def test_D15_tls_handshake_ends_at_the_deadline_of_the_request_head(made: Certificates) -> None:
    async with serving(made, timeout_header=0.1) as server, plain_client(server) as (reader, _):
        assert await end_of(reader) == b""


async def test_D15_connection_closes_after_the_tls_handshake_timeout(
    made: Certificates,
) -> None:
    async with serving(made, ssl_handshake_timeout=0.1) as server, plain_client(server) as (reader, _):
        assert await end_of(reader) == b""


async def test_D15_connection_that_is_closed_before_its_tls_handshake_is_logged(
    made: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(made, limit_concurrency=1) as server, plain_client(server):
        await until(lambda: handshakes(server))
        async with plain_client(server) as (reader, writer):
            await end_of(reader)
            host, port = writer.get_extra_info("sockname")
    assert f"{host}:{port} refused before the TLS handshake: over 1 connections" in caplog.messages


async def failed_handshake(made: Certificates, caplog: pytest.LogCaptureFixture, data: bytes, **options: Any) -> str:
    """Return the log of a server to which a client has sent `data` instead of a TLS handshake."""
    async with serving(made, **options) as server, plain_client(server) as (reader, writer):
        await until(lambda: handshakes(server))
        writer.write(data)
        if not data:
            writer.close()
        await end_of(reader)
        await until(lambda: not handshakes(server))
    return caplog.text


async def test_plain_http_request_to_a_tls_port_is_logged_with_the_remedy(
    made: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    log = await failed_handshake(made, caplog, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    assert "refused: plain HTTP on a port for TLS: connect to https://" in log


async def test_bytes_that_are_no_tls_handshake_are_logged(made: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    log = await failed_handshake(made, caplog, bytes(20))
    assert "refused: the TLS handshake failed: " in log


async def test_client_that_leaves_during_its_tls_handshake_is_not_logged(
    made: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    assert "TLS" not in await failed_handshake(made, caplog, b"")


async def test_client_that_rejects_the_certificate_of_the_server_is_logged(
    made: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    # asyncio's own client sends no alert.
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with serving(made) as server, plain_client(server) as (reader, writer):
        with pytest.raises(ssl.SSLCertVerificationError):
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        writer.write(outgoing.read())
        await until(lambda: "refused" in caplog.text)
    assert "refused: the TLS handshake failed: the client sent the alert 'unknown ca'" in caplog.text


async def test_client_without_the_required_certificate_is_logged(
    made: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(made, ssl_cert_reqs=2, ssl_ca_certs=str(made.authority)) as server:
        with contextlib.suppress(OSError):
            await ask(server, made)
        await until(lambda: "refused" in caplog.text)
    assert "refused: the TLS handshake failed: peer did not return a certificate" in caplog.text


async def test_client_with_a_certificate_of_another_authority_is_logged(
    made: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = made.client()
    trustme.CA().issue_cert("client@example.org").configure_cert(stranger)
    async with serving(made, ssl_cert_reqs=2, ssl_ca_certs=str(made.authority)) as server:
        with contextlib.suppress(OSError):
            reader, _ = await asyncio.open_connection("127.0.0.1", port_of(server), ssl=stranger)
            await reader.read()
        await until(lambda: "refused" in caplog.text)
    assert "refused: invalid client certificate: unable to get local issuer certificate" in caplog.text


async def test_request_sent_with_the_last_bytes_of_the_tls_handshake_gets_a_response(made: Certificates) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = made.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
    async with serving(made) as server, plain_client(server) as (reader, writer):
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(65536))
        tls.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        writer.write(outgoing.read())
        answer = b""
        while b"hello" not in answer:
            try:
                answer += tls.read()
            except ssl.SSLWantReadError:
                incoming.write(await reader.read(65536))
        assert answer.startswith(b"HTTP/1.1 200 ")


async def test_tls_handshakes_are_aborted_by_force_exit(made: Certificates) -> None:
    async with serving(made) as server, plain_client(server) as (reader, _):
        await until(lambda: handshakes(server))
        server.force_exit = True
        assert await end_of(reader) == b""


async def break_off(made: Certificates) -> None:
    """Stop a server at once while it waits for a handshake."""
    with socket.socket() as client:
        # Its end forces the server to exit.
        async with serving(made) as server:
            client.connect(("127.0.0.1", port_of(server)))
            await until(lambda: handshakes(server))


async def test_socket_is_closed_if_its_tls_handshake_is_aborted(made: Certificates) -> None:
    # The first time the event loop makes what it keeps.
    await break_off(made)
    await settle()
    before = _descriptors()
    await break_off(made)
    await settle()
    assert _descriptors() == before
