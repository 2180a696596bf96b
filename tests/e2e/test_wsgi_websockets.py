"""WebSockets of WSGI applications on real servers: `uvicorn`, TLS, worker processes and gunicorn (rules W1 to W9)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as asyncio_connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.certificates import Certificates
from tests.e2e.gunicorn_process import running_gunicorn
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

APP = """
import threading

def app(environ, start_response):
    websocket = environ.get("uvicorn.websocket")
    if websocket is None or environ["PATH_INFO"] == "/page":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"page"]
    for message in websocket:
        websocket.send(message)
    if environ["PATH_INFO"] == "/stay":
        threading.Event().wait()
    return []
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_of_websockets.py").write_text(APP)
    return tmp_path


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[ServerProcess]:
    with running_server(folder, "site_of_websockets:app", *arguments) as server:
        yield server


def talk(server: ServerProcess, path: str = "/") -> ClientConnection:
    url = f"ws://127.0.0.1:{server.port}{path}"
    return connect(url, open_timeout=LONGEST_WAIT, close_timeout=LONGEST_WAIT, max_size=None)


def echo(client: ClientConnection, *messages: str | bytes) -> None:
    for message in messages:
        client.send(message)
        assert client.recv(LONGEST_WAIT) == message


def close_code(client: ClientConnection) -> int:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(LONGEST_WAIT)
    return closed.value.rcvd.code if closed.value.rcvd is not None else 1006


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_W1_wsgi_application_echoes_short_and_long_websocket_messages(folder: Path, loop: str) -> None:
    with serving(folder, "--loop", loop) as server, talk(server) as client:
        echo(client, "hello", b"\0\1", "é" * 150_000)


def test_W1_wsgi_application_echoes_websocket_messages_over_tls(folder: Path) -> None:
    made = Certificates(folder)
    arguments = ("--ssl-certfile", str(made.chain), "--ssl-keyfile", str(made.key))
    with serving(folder, *arguments) as server:
        url = f"wss://localhost:{server.port}/"
        asyncio.run(echo_over_tls(url, made, "hello", "x" * 300_000))


async def echo_over_tls(url: str, made: Certificates, *messages: str) -> None:
    # On one thread: two threads of a client that use the same TLS object fail at times in Python 3.11.
    async with asyncio_connect(url, ssl=made.client(), open_timeout=LONGEST_WAIT, max_size=None) as client:
        for message in messages:
            await client.send(message)
            assert await client.recv() == message


def test_W6_server_answers_http_when_all_websocket_threads_are_busy(folder: Path) -> None:
    with serving(folder, "--ws-threads", "20", "--threads", "2") as server, ExitStack() as stack:
        clients = [stack.enter_context(talk(server)) for _ in range(20)]
        for client in clients:
            echo(client, "hello")
        with pytest.raises(InvalidStatus) as rejected:
            talk(server)
        assert rejected.value.response.status_code == 503
        assert server.get() == (200, "page")
        assert server.stop() == 0
        assert [close_code(client) for client in clients] == [1012] * 20
        assert server.stderr.count("raise --ws-threads") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_W7_server_exits_although_a_websocket_handler_does_not_return(folder: Path, number: int) -> None:
    with serving(folder, "--timeout-disconnect", "0") as server, talk(server, "/stay") as client:
        echo(client, "hello")
        server.send_signal(number)
        assert close_code(client) == 1012
        assert server.wait() == 0
        assert "Traceback" not in server.stderr


def test_W7_each_worker_process_closes_its_websockets_with_1012(folder: Path) -> None:
    with serving(folder, "--workers", "2") as server, ExitStack() as stack:
        clients = [stack.enter_context(talk(server)) for _ in range(6)]
        for client in clients:
            echo(client, "hello")
        assert server.stop() == 0
        assert [close_code(client) for client in clients] == [1012] * 6


@pytest.mark.parametrize("log", [(), ("--access-logfile", "-")], ids=["no access log", "access log"])
def test_W9_gunicorn_serves_websockets_and_pages_of_a_wsgi_application(folder: Path, log: tuple[str, ...]) -> None:
    with running_gunicorn(folder, "site_of_websockets:app", *log) as server:
        with talk(server) as client:
            echo(client, "hello")
            with pytest.raises(InvalidStatus) as answered:
                talk(server, "/page")
            assert answered.value.response.status_code == 200
            assert server.stop() == 0
            assert close_code(client) == 1012
        if log:
            assert server.stdout.count('"GET / HTTP/1.1" 101 0 ') == 1
            assert server.stdout.count('"GET /page HTTP/1.1" 200 4 ') == 1
