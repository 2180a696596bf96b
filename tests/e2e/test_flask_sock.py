"""flask-sock on a real server, with its own WebSocket code and without a change."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.asyncio.client import ClientConnection as AsyncioClientConnection
from websockets.asyncio.client import connect as asyncio_connect
from websockets.client import ClientProtocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from tests.certificates import Certificates
from tests.e2e.client import Client
from tests.e2e.gunicorn_process import running_gunicorn
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

SITES: Final = Path(__file__).parents[1] / "frameworks"

PLAIN: Final = """from simple_websocket import Server

def app(environ, start_response):
    websocket = Server.accept(environ)
    websocket.send(websocket.receive())
    websocket.close()
    return []
"""


@contextmanager
def serving(*options: str, tls: Certificates | None = None, **variables: str) -> Iterator[ServerProcess]:
    encrypted = () if tls is None else ("--ssl-certfile", str(tls.chain), "--ssl-keyfile", str(tls.key))
    with running_server(SITES, "flask_sock_site:app", *encrypted, *options, env=variables) as server:
        yield server


@pytest.fixture(scope="module")
def server(tls: Certificates | None) -> Iterator[ServerProcess]:
    with serving(tls=tls) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.stderr.replace("ValueError: fail", ""), server.stderr


def opened(server: ServerProcess, path: str = "/echo", **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}{path}", open_timeout=LONGEST_WAIT, **options)


@asynccontextmanager
async def connected(
    server: ServerProcess, tls: Certificates | None, **options: Any
) -> AsyncIterator[AsyncioClientConnection]:
    # On one thread: two threads may not use one TLS connection (python/cpython#77271).
    scheme, context = ("ws", None) if tls is None else ("wss", tls.client())
    url = f"{scheme}://127.0.0.1:{server.port}/echo"
    async with asyncio_connect(url, ssl=context, open_timeout=LONGEST_WAIT, **options) as client:
        yield client


async def receive(client: AsyncioClientConnection) -> str | bytes:
    return await asyncio.wait_for(client.recv(), LONGEST_WAIT)


@pytest.mark.any_loop
async def test_flask_sock_echoes_messages(server: ServerProcess, tls: Certificates | None) -> None:
    async with connected(server, tls) as client:
        for message in ("hello", "Grüße", b"\x00\xff", "", "x" * 125):
            await client.send(message)
            assert await receive(client) == message


@pytest.mark.any_loop
@pytest.mark.parametrize("message", ["é" * 150_000, os.urandom(300_000)], ids=["text", "bytes"])
async def test_flask_sock_echoes_a_message_of_300_KB(
    message: str | bytes, server: ServerProcess, tls: Certificates | None
) -> None:
    async with connected(server, tls, max_size=None) as client:
        await client.send(message)
        assert await receive(client) == message


@pytest.mark.any_loop
async def test_flask_sock_echoes_a_message_of_300_KB_without_compression(
    server: ServerProcess, tls: Certificates | None
) -> None:
    message = os.urandom(300_000)
    async with connected(server, tls, max_size=None, compression=None) as client:
        await client.send(message)
        assert await receive(client) == message


@pytest.mark.any_loop
async def test_flask_sock_chooses_a_subprotocol(server: ServerProcess, tls: Certificates | None) -> None:
    async with connected(server, tls, subprotocols=[Subprotocol("a"), Subprotocol("b")]) as client:
        assert client.subprotocol == "b"


@pytest.mark.any_loop
async def test_websocket_closes_with_1000_when_the_flask_sock_view_returns(
    server: ServerProcess, tls: Certificates | None
) -> None:
    async with connected(server, tls) as client:
        await client.send("close")
        with pytest.raises(ConnectionClosed):
            await receive(client)
        assert client.close_code == 1000


@pytest.mark.any_loop
async def test_flask_sock_view_ends_when_the_client_closes(server: ServerProcess, tls: Certificates | None) -> None:
    ended = server.stdout.count("echo ended")
    async with connected(server, tls) as client:
        await client.send("hello")
        assert await receive(client) == "hello"
    server.wait_for_line("echo ended", "stdout", ended + 1)


def test_flask_sock_view_ends_when_the_client_resets_the_connection() -> None:
    with serving() as server:
        client = Client(server)
        client.send(handshake())
        client.receive_until(b"\r\n\r\n")
        client.reset()
        server.wait_for_line("echo ended", "stdout")
        assert server.stop() == 0
        assert "Traceback" not in server.stderr, server.stderr


def handshake(path: str = "/echo") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


def test_flask_sock_receives_a_frame_sent_together_with_the_handshake() -> None:
    with serving() as server, Client(server) as client:
        client.send(handshake() + b"\x81\x85\0\0\0\0hello")
        client.receive_until(b"\x81\x05hello")


def test_flask_sock_connection_stays_open_while_the_client_answers_pings() -> None:
    protocol = ClientProtocol(parse_uri("ws://x/echo"))
    pings = 0
    with serving(PING_INTERVAL="0.05") as server, Client(server) as client:
        client.send(handshake_of(protocol))
        while pings < 5:
            pings += sum(
                isinstance(event, Frame) and event.opcode is Opcode.PING for event in events_of(client, protocol)
            )
        protocol.send_text(b"hello")
        client.send(b"".join(protocol.data_to_send()))
        while not any(isinstance(event, Frame) and event.data == b"hello" for event in events_of(client, protocol)):
            pass


def handshake_of(protocol: ClientProtocol) -> bytes:
    protocol.send_request(protocol.connect())
    return b"".join(protocol.data_to_send())


def events_of(client: Client, protocol: ClientProtocol) -> list[Any]:
    """Read once, answer pings, and return the events."""
    data = client.socket.recv(65536)
    assert data
    protocol.receive_data(data)
    client.send(b"".join(protocol.data_to_send()))
    return protocol.events_received()


def test_flask_sock_closes_with_1008_if_the_client_answers_no_ping() -> None:
    with serving(PING_INTERVAL="0.05") as server, Client(server) as client:
        client.send(handshake())
        client.receive_until(b"\x88\x13\x03\xf0Ping/Pong timeout")


def test_flask_redirect_answers_a_websocket_handshake() -> None:
    with serving() as server:
        with Client(server) as client:
            client.send(handshake("/private"))
            head = client.receive_until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 302 ")
            assert b"\r\nlocation: /login\r\n" in head.lower()
        with pytest.raises(InvalidStatus, match="404"):
            opened(server, "/nowhere")


def test_flask_sock_handshake_from_a_foreign_origin_is_rejected() -> None:
    with serving() as server:
        with pytest.raises(InvalidStatus, match="403"):
            opened(server, origin=Origin("https://evil.example"))
        server.wait_for_line("--ws-allowed-origins")
        assert "echo began" not in server.stdout
        with opened(server, origin=Origin(f"http://127.0.0.1:{server.port}")) as client:
            client.send("hello")
            assert client.recv(LONGEST_WAIT) == "hello"


def test_flask_sock_serves_an_allowed_origin() -> None:
    with serving("--ws-allowed-origins", "https://shop.example") as server:
        with opened(server, origin=Origin("https://shop.example")) as client:
            client.send("hello")
            assert client.recv(LONGEST_WAIT) == "hello"


def test_exception_of_a_flask_sock_view_is_logged_and_closes_the_connection() -> None:
    with serving() as server:
        with opened(server, "/fail") as client:
            client.send("hello")
            with pytest.raises(ConnectionClosed):
                client.recv(LONGEST_WAIT)
            assert client.close_code in (1000, 1011)
        server.wait_for_line("ValueError: fail")


def test_write_timeout_ends_a_flask_sock_view_whose_client_does_not_read() -> None:
    with serving("--timeout-write-stall", "1") as server, Client(server) as client:
        client.send(handshake("/busy"))
        server.wait_for_line("the client read no byte for 1 seconds")
        assert server.stop() == 0


def test_http_request_is_served_while_20_flask_sock_websockets_are_open() -> None:
    with serving("--threads", "2") as server, ExitStack() as clients:
        opened_clients = [clients.enter_context(opened(server)) for _ in range(20)]
        for client in opened_clients:
            client.send("hello")
        assert [client.recv(LONGEST_WAIT) for client in opened_clients] == ["hello"] * 20
        assert server.get() == (200, "Hello, world")


def test_flask_sock_handshake_gets_503_when_all_websocket_threads_are_busy() -> None:
    with serving("--ws-threads", "2") as server, ExitStack() as clients:
        for _ in range(2):
            clients.enter_context(opened(server))
        with pytest.raises(InvalidStatus, match="503"):
            opened(server)
        server.wait_for_line("--ws-threads")
        assert server.get() == (200, "Hello, world")


def test_thread_of_a_closed_flask_sock_websocket_serves_the_next_websocket() -> None:
    with serving("--ws-threads", "1") as server:
        for number in range(1, 4):
            with opened_when_a_thread_is_free(server) as client:
                client.send("hello")
                assert client.recv(LONGEST_WAIT) == "hello"
            server.wait_for_line("echo ended", "stdout", number)


def opened_when_a_thread_is_free(server: ServerProcess) -> ClientConnection:
    # The thread that has printed its last line may have yet to leave the call.
    while True:
        try:
            return opened(server)
        except InvalidStatus:
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_server_closes_flask_sock_websockets_with_1012(number: signal.Signals) -> None:
    with serving() as server, ExitStack() as clients:
        opened_clients = [clients.enter_context(opened(server)) for _ in range(5)]
        for client in opened_clients:
            client.send("hello")
            assert client.recv(LONGEST_WAIT) == "hello"
        server.send_signal(number)
        for client in opened_clients:
            with pytest.raises(ConnectionClosed):
                client.recv(LONGEST_WAIT)
            assert client.close_code == 1012
        assert server.wait() == 0
        assert server.stdout.count("echo ended") == 5
        assert not re.search("ERROR|Traceback|ResourceWarning", server.stderr), server.stderr


def test_stopping_gunicorn_closes_flask_sock_websockets_with_1012() -> None:
    with running_gunicorn(SITES, "flask_sock_site:app") as server, opened(server) as client:
        client.send("hello")
        assert client.recv(LONGEST_WAIT) == "hello"
        server.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            client.recv(LONGEST_WAIT)
        assert client.close_code == 1012
        assert server.wait() == 0


def test_flask_sock_application_mounted_in_a_router_echoes_messages(tmp_path: Path) -> None:
    module = "from uvicorn import Mount, Router\nfrom tests.frameworks.flask_sock_site import app as site\n"
    (tmp_path / "mixed.py").write_text(module + "app = Router(Mount('/site', site))\n")
    with running_server(tmp_path, "mixed:app") as server, opened(server, "/site/echo") as client:
        client.send("hello")
        assert client.recv(LONGEST_WAIT) == "hello"


def test_server_stops_with_exit_code_0_while_a_flask_sock_view_runs() -> None:
    with serving("--timeout-disconnect", "1") as server, opened(server, "/stubborn") as client:
        assert client.recv(LONGEST_WAIT) == "ready"
        assert server.stop() == 0
        assert client.close_code == 1012


def test_simple_websocket_echoes_in_a_plain_wsgi_application(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    with running_server(tmp_path, "plain:app") as server, opened(server) as client:
        client.send("hello")
        assert client.recv(LONGEST_WAIT) == "hello"
