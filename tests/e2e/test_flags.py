"""Each group of `uvicorn --help`, by a server as a user starts it; see also test_command_line.py, test_workers.py,
test_reload.py, test_tls.py and test_shutdown.py."""

from __future__ import annotations

import contextlib
import json
import select
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.certificates import Certificates
from tests.corpus import HANDSHAKE, request
from tests.e2e.client import Client, content_of, status_of
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, run_command, running_server

APP = """
import asyncio
import json
import sys

async def app(message, channels):
    channel, path = message["channel"], message["path"]
    if channel == "websocket.connect" and path == "/undecided":
        await asyncio.sleep(3600)
    elif channel == "websocket.receive":
        await channels["reply"].send({"text": message["text"]})
    elif channel != "http.request" or path == "/silent":
        return
    elif path == "/stuck":
        print("stuck", file=sys.stderr, flush=True)
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("cancelled", file=sys.stderr, flush=True)
            raise
    elif path == "/large":
        await channels["reply"].send({"status": 200, "content": bytes(1 << 26)})
    else:
        content, more = b"", "body" in channels
        while more:
            message = await channels["body"].receive()
            content, more = content + message["content"], message.get("more_content")
        await channels["reply"].send({"status": 200, "content": content or b"hello"})

async def peer(message, channels):
    seen = json.dumps({"client": message["client"], "scheme": message["scheme"]})
    await channels["reply"].send({"status": 200, "content": seen.encode()})

async def where_channels(message, channels):
    where = json.dumps([message["root_path"], message["path"]])
    await channels["reply"].send({"status": 200, "content": where.encode()})

async def where_asgi(scope, receive, send):
    if scope["type"] == "http":
        where = json.dumps([scope["root_path"], scope["path"]])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": where.encode()})

def where_wsgi(environ, start_response):
    start_response("200 OK", [])
    script_name = environ["SCRIPT_NAME"]
    return [json.dumps([script_name, script_name + environ["PATH_INFO"]]).encode()]

def consumer(message):
    message["reply_channel"].send({"status": 200, "content": b"hello"})

def blocking(environ, start_response):
    print("blocked", file=sys.stderr, flush=True)
    import time
    while True:
        time.sleep(3600)

class Lifespan:
    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            raise RuntimeError("no part in it")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})

asgi = Lifespan()
"""

GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
OPENING = request(b"GET / HTTP/1.1", *HANDSHAKE)
PING = b"\x89"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flags")
    (folder / "app.py").write_text(APP)
    return folder


def serving(folder: Path, name: str, *arguments: str) -> Iterator[ServerProcess]:
    with running_server(folder, f"app:{name}", *arguments) as server:
        yield server


def talk(server: ServerProcess, path: str = "/", **options: Any) -> ClientConnection:
    uri = f"ws://127.0.0.1:{server.port}{path}"
    client: ClientConnection = connect(
        uri, open_timeout=LONGEST_WAIT, close_timeout=LONGEST_WAIT, ping_interval=None, **options
    )
    return client


def answer(server: ServerProcess, *pieces: bytes) -> bytes:
    """Send `pieces`, then wait; return all bytes until the server closes."""
    with Client(server) as client:
        for piece in pieces:
            client.send(piece)
        return client.receive()


# Limits


@pytest.fixture(scope="module")
def limited(folder: Path) -> Iterator[ServerProcess]:
    yield from serving(
        folder, "app",
        "--max-request-line-bytes", "100", "--max-header-bytes", "512", "--max-header-fields", "5",
        "--max-content-bytes", "10", "--max-chunk-extension-bytes", "4", "--max-chunk-extensions-bytes", "6",
    )  # fmt: skip


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414),
        (GET + b"a: " + b"a" * 600 + b"\r\n\r\n", 431),
        (GET + b"a: b\r\n" * 5 + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 11\r\n\r\n", 413),
        (CHUNKED + b"6\r\naaaaaa\r\n5\r\naaaaa\r\n0\r\n\r\n", 413),
        (CHUNKED + b"1;abcde\r\na\r\n0\r\n\r\n", 400),
        (CHUNKED + b"1;abc\r\na\r\n1;abc\r\na\r\n0\r\n\r\n", 400),
    ],
    ids=["request line", "header", "fields", "content", "chunked content", "chunk extension", "chunk extensions"],
)
def test_request_above_a_limit_is_rejected(limited: ServerProcess, asked: bytes, status: int) -> None:
    assert status_of(answer(limited, asked)) == status


def test_a_request_within_the_limits_is_served(limited: ServerProcess) -> None:
    with Client(limited) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 10\r\n\r\n0123456789")
        assert content_of(client.receive()) == b"0123456789"


def test_request_above_the_concurrency_limit_gets_503(folder: Path) -> None:
    for server in serving(folder, "app", "--limit-concurrency", "1"):
        with Client(server) as first:
            first.send(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n")
            server.wait_for_line("stuck")
            assert server.get()[0] == 503


TOO_LARGE = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 11\r\n\r\n01234567890"


def test_consumer_request_above_max_inline_bytes_gets_413(folder: Path) -> None:
    for server in serving(folder, "consumer", "--max-inline-bytes", "10", "--interface", "consumer"):
        assert status_of(answer(server, TOO_LARGE)) == 413


def test_request_beyond_the_thread_queue_limit_gets_503(folder: Path) -> None:
    for server in serving(folder, "blocking", "--threads", "1", "--thread-queue", "1"):
        with Client(server) as first, Client(server) as second, Client(server) as third:
            first.send(GET + b"\r\n")
            server.wait_for_line("blocked")
            second.send(GET + b"\r\n")
            third.send(GET + b"\r\n")
            readable = {second.socket, third.socket}
            ready, _, _ = select.select(readable, (), (), LONGEST_WAIT)
            assert [status_of(sock.recv(65536)) for sock in ready] == [503]


# Deadlines


@pytest.fixture(scope="module")
def hasty(folder: Path) -> Iterator[ServerProcess]:
    yield from serving(
        folder, "app",
        "--timeout-keep-alive", "0.1", "--timeout-header", "0.1", "--timeout-content-idle", "0.1",
        "--timeout-write-stall", "0.1", "--reply-timeout", "0.1", "--timeout-disconnect", "0.1",
        "--timeout-linger", "0.1",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (GET, 408),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n0", 408),
        (b"GET /silent HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 500),
    ],
    ids=["head", "content", "reply"],
)
def test_request_past_its_deadline_gets_an_error_status(hasty: ServerProcess, asked: bytes, status: int) -> None:
    assert status_of(answer(hasty, asked)) == status


def test_idle_connection_is_closed_after_the_keep_alive_timeout(hasty: ServerProcess) -> None:
    assert status_of(answer(hasty, GET + b"\r\n")) == 200


def test_a_client_that_does_not_read_is_reset_after_the_write_timeout(hasty: ServerProcess) -> None:
    with Client(hasty) as client:
        client.send(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        poll = select.poll()
        poll.register(client.socket, select.POLLERR)
        assert poll.poll(LONGEST_WAIT * 1000)


def test_handler_is_cancelled_when_the_disconnect_timeout_ends_after_a_reset(hasty: ServerProcess) -> None:
    with Client(hasty) as client:
        client.send(b"GET /stuck HTTP/1.1\r\nhost: x\r\n\r\n")
        hasty.wait_for_line("stuck")
        client.reset()
    hasty.wait_for_line("cancelled")


# WebSockets


@pytest.fixture(scope="module")
def websockets(folder: Path) -> Iterator[ServerProcess]:
    yield from serving(
        folder, "app",
        "--ws-allowed-origins", "https://a.example", "--ws-accept-timeout", "0.1", "--ws-max-size", "200",
        "--ws-max-fragments", "3", "--ws-per-message-deflate", "false", "--ws-ping-interval", "0.1",
        "--ws-ping-timeout", "600",
    )  # fmt: skip


def code_of(client: ClientConnection) -> int:
    """Return the close code of a WebSocket."""
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(LONGEST_WAIT)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def test_websocket_messages_within_the_limits_are_handled(websockets: ServerProcess) -> None:
    with talk(websockets) as client:
        client.send(["a" * 100, "b" * 100])
        assert client.recv(LONGEST_WAIT) == "a" * 100 + "b" * 100


def test_a_websocket_from_an_allowed_origin_is_served(websockets: ServerProcess) -> None:
    with talk(websockets, origin="https://a.example") as client:
        client.send("hello")
        assert client.recv(LONGEST_WAIT) == "hello"


def test_websocket_from_a_foreign_origin_is_rejected(websockets: ServerProcess) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        talk(websockets, origin="https://b.example")


def test_websocket_that_is_not_accepted_in_time_is_rejected(websockets: ServerProcess) -> None:
    with pytest.raises(InvalidStatus, match="403"):
        talk(websockets, "/undecided")


@pytest.mark.parametrize("message", ["a" * 201, ["a", "b", "c", "d"]], ids=["size", "fragments"])
def test_websocket_closes_with_1009_after_a_message_above_a_limit(websockets: ServerProcess, message: Any) -> None:
    with talk(websockets) as client:
        # The server may close before the client has sent the last fragment.
        with contextlib.suppress(ConnectionClosed):
            client.send(message)
        assert code_of(client) == 1009


def test_websocket_has_no_extension_when_compression_is_off(websockets: ServerProcess) -> None:
    with talk(websockets) as client:
        assert client.protocol.extensions == []


def test_silent_websocket_client_is_pinged(websockets: ServerProcess) -> None:
    with Client(websockets) as client:
        client.send(OPENING)
        client.receive_until(PING)


def test_websocket_closes_with_1011_when_the_client_answers_no_ping(folder: Path) -> None:
    for server in serving(folder, "app", "--ws-ping-interval", "0.1", "--ws-ping-timeout", "0.1"):
        with Client(server) as client:
            client.send(OPENING)
            assert client.receive_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101")
            assert (1011).to_bytes(2) in client.receive()


def test_server_with_option_ws_none_answers_a_websocket_handshake_with_200(folder: Path) -> None:
    for server in serving(folder, "app", "--ws", "none"):
        with pytest.raises(InvalidStatus, match="200"):
            talk(server)


def test_unaccepted_websocket_is_rejected_when_implicit_accept_is_off(folder: Path) -> None:
    for server in serving(folder, "app", "--no-ws-implicit-accept"):
        with pytest.raises(InvalidStatus, match="403"):
            talk(server)


# Behind a proxy


FORWARDED = ("x-forwarded-for: 192.0.2.1", "x-forwarded-proto: https")
TAKEN = {"client": ["192.0.2.1", 0], "scheme": "https"}


def seen(client: Client) -> Any:
    """Return client and scheme as the application sees them."""
    return json.loads(content_of(client.get("/", *FORWARDED)))


@pytest.mark.parametrize("arguments", [(), ("--forwarded-allow-ips", "127.0.0.0/8"), ("--forwarded-allow-ips", "*")])
def test_forwarded_headers_of_a_trusted_proxy_are_applied(folder: Path, arguments: tuple[str, ...]) -> None:
    for server in serving(folder, "peer", *arguments):
        with Client(server) as client:
            assert seen(client) == TAKEN


@pytest.mark.parametrize("arguments", [("--no-proxy-headers",), ("--forwarded-allow-ips", "192.0.2.7")])
def test_forwarded_fields_of_an_untrusted_peer_are_ignored(folder: Path, arguments: tuple[str, ...]) -> None:
    for server in serving(folder, "peer", *arguments):
        with Client(server) as client:
            assert seen(client) == {"client": list(client.socket.getsockname()), "scheme": "http"}


def test_forwarded_fields_of_a_proxy_on_a_unix_socket_are_applied(folder: Path) -> None:
    for _ in serving(folder, "peer", "--uds", "proxied.sock"):
        with Client(None, path=str(folder / "proxied.sock")) as client:
            assert seen(client) == TAKEN


MOUNTED = ["/api", "/api/show"]


@pytest.mark.parametrize("kind", ["channels", "asgi", "wsgi"])
@pytest.mark.parametrize(
    ("cut", "targets"),
    [
        ("yes", {"/show": MOUNTED, "/api/show": ["/api", "/api/api/show"]}),
        ("no", {"/api/show": MOUNTED, "/show": ["", "/show"], "/apiary": ["", "/apiary"]}),
        ("auto", {"/show": MOUNTED, "/api/show": MOUNTED, "/apiary": ["/api", "/api/apiary"]}),
    ],
)
def test_path_under_a_root_path_is_the_same_for_channels_asgi_and_wsgi(
    folder: Path, kind: str, cut: str, targets: dict[str, list[str]]
) -> None:
    arguments = ("--root-path", "/api", "--root-path-cut", cut)
    for server in serving(folder, f"where_{kind}", *arguments):
        assert {target: json.loads(server.get(target)[1]) for target in targets} == targets


# Other


def test_header_option_adds_fields_to_responses(folder: Path) -> None:
    arguments = ("--header", "X-Served-By: us", "--no-server-header", "--no-date-header")
    for server in serving(folder, "app", *arguments, "--http", "httptools", "--reset-contextvars"):
        with Client(server) as client:
            head = client.get().partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nx-served-by: us" in head
        assert b"\r\nserver:" not in head
        assert b"\r\ndate:" not in head


def test_responses_have_server_and_date_by_default(folder: Path) -> None:
    for server in serving(folder, "app"):
        with Client(server) as client:
            head = client.get().partition(b"\r\n\r\n")[0].lower()
        assert b"\r\nserver: uvicorn" in head
        assert b"\r\ndate: " in head


# The application and logging


def test_application_without_lifespan_is_served_by_default(folder: Path) -> None:
    for server in serving(folder, "asgi"):
        assert server.get() == (200, "hello")


def test_option_lifespan_on_rejects_an_application_without_lifespan(folder: Path) -> None:
    assert run_command(folder, "app:asgi", "--lifespan", "on", "--port", "0").returncode == 3


def test_use_colors_option_colours_log_lines_in_a_pipe(folder: Path) -> None:
    for server in serving(folder, "app", "--use-colors"):
        assert "\x1b[" in server.stderr


# TLS


def test_ssl_keyfile_password_and_ssl_ciphers_options_are_applied(folder: Path) -> None:
    made = Certificates(folder)
    key = load_pem_private_key(made.key.read_bytes(), None)
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (folder / "locked.pem").write_bytes(encrypted)
    for server in serving(
        folder, "app", "--ssl-certfile", "chain.pem", "--ssl-keyfile", "locked.pem",
        "--ssl-keyfile-password", "secret",
        "--ssl-ciphers", "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384",
    ):  # fmt: skip
        context = made.client()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with Client(server, context) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            cipher = client.socket.cipher()
            assert cipher is not None
            assert "AES256-GCM-SHA384" in cipher[0]
