"""https and wss as a client sees them."""

from __future__ import annotations

import asyncio
import http.client
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.certificates import Certificates
from tests.e2e.client import Client
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server
from uvicorn import Config
from uvicorn.errors import ConfigError

APP = """
async def app(message, channels):
    if message["channel"] == "http.request":
        body = b""
        while "body" in channels:
            chunk = await channels["body"].receive()
            body += chunk["content"]
            if not chunk.get("more_content"):
                break
        await channels["reply"].send({"status": 200, "content": message["scheme"].encode() + b" " + body})
    elif message["channel"] == "websocket.connect":
        await channels["reply"].send({"text": message["scheme"]})
"""


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    (tmp_path / "app.py").write_text(APP)
    return Certificates(tmp_path)


@pytest.fixture(params=["uvloop", "asyncio"])
def server(made: Certificates, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with running_server(
        tmp_path, "app:app", "--ssl-certfile", "chain.pem", "--ssl-keyfile", "key.pem", "--loop", request.param
    ) as running:
        yield running


def ask(server: ServerProcess, context: ssl.SSLContext, content: bytes = b"") -> bytes:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=LONGEST_WAIT, context=context)
    try:
        connection.request("POST", "/", content)
        return connection.getresponse().read()
    finally:
        connection.close()


def serial_of(server: ServerProcess, context: ssl.SSLContext) -> object:
    with (
        socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        certificate = client.getpeercert()
        assert certificate is not None
        return certificate["serialNumber"]


def test_application_is_served_by_https(server: ServerProcess, made: Certificates) -> None:
    assert ask(server, made.client()) == b"https "


def test_upload_of_3_MB_arrives_over_tls(server: ServerProcess, made: Certificates) -> None:
    assert ask(server, made.client(), b"x" * 3_000_000) == b"https " + b"x" * 3_000_000


def test_address_of_a_server_with_a_certificate_begins_with_https(server: ServerProcess) -> None:
    assert server.addresses[0].startswith("https://127.0.0.1:")


@pytest.mark.any_loop
async def test_websockets_are_served_over_tls(server: ServerProcess, made: Certificates) -> None:
    # On one thread: two threads may not use one TLS connection (python/cpython#77271).
    async with connect(f"wss://127.0.0.1:{server.port}/", ssl=made.client()) as websocket:
        assert await asyncio.wait_for(websocket.recv(), LONGEST_WAIT) == "wss"


def test_alpn_selects_http_1_1(server: ServerProcess, made: Certificates) -> None:
    context = made.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        assert client.selected_alpn_protocol() == "http/1.1"


def test_D15_plain_bytes_on_a_tls_port_do_not_affect_other_clients(server: ServerProcess, made: Certificates) -> None:
    with socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        while plain.recv(4096):
            pass
    assert ask(server, made.client()) == b"https "
    assert server.stop() == 0
    assert "Traceback" not in server.stderr


def test_D15_a_tls_handshake_that_stalls_does_not_delay_other_clients(
    server: ServerProcess, made: Certificates
) -> None:
    with socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT):
        assert ask(server, made.client()) == b"https "


def test_D15_tls_handshake_has_a_deadline(made: Certificates, tmp_path: Path) -> None:
    with (
        running_server(tmp_path, "app:app", "--ssl-certfile", "both.pem", "--ssl-handshake-timeout", "0.1") as server,
        socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as plain,
    ):
        assert plain.recv(1) == b""


def test_SIGHUP_reloads_the_certificates(server: ServerProcess, made: Certificates) -> None:
    before = serial_of(server, made.client())
    made.issue()
    server.send_signal(signal.SIGHUP)
    server.wait_for_line("certificates reloaded")
    assert serial_of(server, made.client()) != before


def test_SIGHUP_keeps_the_old_certificates_if_the_new_files_are_invalid(
    server: ServerProcess, made: Certificates
) -> None:
    made.chain.write_text("Hello")
    server.send_signal(signal.SIGHUP)
    server.wait_for_line("cannot reload certificates")
    assert ask(server, made.client()) == b"https "


def test_SIGHUP_keeps_the_old_certificate_if_the_key_does_not_match(
    server: ServerProcess, made: Certificates, tmp_path: Path
) -> None:
    before = serial_of(server, made.client())
    key = tmp_path / "key.pem"
    old = key.read_bytes()
    made.issue()
    key.write_bytes(old)
    server.send_signal(signal.SIGHUP)
    server.wait_for_line("cannot reload certificates")
    assert serial_of(server, made.client()) == before


def test_SIGHUP_makes_workers_reload_the_certificates(made: Certificates, tmp_path: Path) -> None:
    with running_server(
        tmp_path, "app:app", "--ssl-certfile", "chain.pem", "--ssl-keyfile", "key.pem", "--workers", "2"
    ) as server:
        server.wait_for_line(" is ready", count=2)
        before = serial_of(server, made.client())
        made.issue()
        server.send_signal(signal.SIGHUP)
        server.wait_for_line("Finished server process", count=2)
        assert serial_of(server, made.client()) != before


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_client_without_a_required_certificate_is_rejected(made: Certificates, tmp_path: Path, loop: str) -> None:
    with running_server(
        tmp_path, "app:app", "--ssl-certfile", "both.pem", "--ssl-ca-certs", "authority.pem", "--ssl-cert-reqs", "2",
        "--loop", loop,
    ) as server:  # fmt: skip
        assert ask(server, made.client(with_certificate=True)) == b"https "
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
            ask(server, made.client())
        assert server.stop() == 0
        assert "Traceback" not in server.stderr


def test_tls_server_exits_with_0_while_a_client_is_connected(server: ServerProcess, made: Certificates) -> None:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=LONGEST_WAIT, context=made.client())
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
        assert server.stop() == 0
    finally:
        connection.close()
    assert "Traceback" not in server.stderr


def test_D13_stopping_server_serves_a_client_in_the_tls_handshake(server: ServerProcess, made: Certificates) -> None:
    with socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as plain:
        server.send_signal(signal.SIGTERM)
        server.wait_for_line("Shutting down")
        with made.client().wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            connection = http.client.HTTPResponse(client)
            connection.begin()
            assert connection.read() == b"https "
            assert connection.headers["connection"] == "close"
    assert server.wait() == 0


def test_D13_unfinished_tls_handshake_does_not_prevent_the_shutdown(made: Certificates, tmp_path: Path) -> None:
    arguments = ("--ssl-certfile", "chain.pem", "--ssl-keyfile", "key.pem", "--ssl-handshake-timeout", "0.1")
    with running_server(tmp_path, "app:app", *arguments) as server:
        with socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT):
            assert server.stop() == 0


FACTORY = """
import ssl
import uvicorn

def make(config, usual):
    context = usual()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context

uvicorn.run("app:app", port=0, ssl_certfile="chain.pem", ssl_keyfile="key.pem", ssl_context_factory=make)
"""


def test_ssl_context_factory_sets_the_tls_version(made: Certificates, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text(FACTORY)
    with running_server(tmp_path, program=["main.py"]) as server, Client(server, made.client()) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        assert client.socket.version() == "TLSv1.2"
        assert client.get().startswith(b"HTTP/1.1 200")


def test_default_ssl_context_requires_ssl_certfile(made: Certificates) -> None:
    config = Config("app:app", log_config=None, ssl_context_factory=lambda config, usual: usual())
    with pytest.raises(ConfigError, match="ssl_context_factory: the default context needs ssl_certfile"):
        config.ssl_context()
