"""The interface's WebSocket examples, unchanged, with the client of the `websockets` library."""

from __future__ import annotations

import re
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

SEEDS = Path(__file__).parent / "seeds"
DOCUMENTS = ["implicit_accept", "explicit_accept"]


@pytest.fixture(params=["auto", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=DOCUMENTS)
def document(request: pytest.FixtureRequest) -> Path:
    return SEEDS / str(request.param)


def serving(document: Path, name: str, loop: str) -> Iterator[ServerProcess]:
    with running_server(document, f"app:{name}", "--loop", loop) as server:
        yield server


def talk(server: ServerProcess) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}/", open_timeout=LONGEST_WAIT, close_timeout=LONGEST_WAIT)


def test_websocket_echo_example_returns_each_message(document: Path, loop: str) -> None:
    for server in serving(document, "echo", loop):
        with talk(server) as client:
            for text in ("hello", "", "é" * 100_000):
                client.send(text)
                assert client.recv(LONGEST_WAIT) == text


def test_tick_example_sends_the_current_time_until_the_client_disconnects(document: Path, loop: str) -> None:
    for server in serving(document, "tick", loop):
        with talk(server) as client:
            assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", str(client.recv(LONGEST_WAIT)))
        # A handler that went on would hold up the stop, and be cancelled with a warning after 30 seconds.
        assert server.stop() == 0
        assert "cancelled" not in server.stderr
        assert "Traceback" not in server.stderr


WATCHED = """
import asyncio
import os
import sys

os.chdir({folder!r})
sys.path.insert(0, {folder!r})
from app import tick

async def app(message, channels):
    if message['channel'] == 'http.request':
        while len(asyncio.all_tasks()) > ours:
            await asyncio.sleep(0.01)
        await channels['reply'].send({{'status': 200, 'content': b'ended'}})
    else:
        await tick(message, channels)

# The server's own, and the handler of the request.
ours = 2
"""


@pytest.mark.parametrize("ending", ["closed", "gone", "killed"])
def test_tick_example_of_the_readme_ends_when_its_client_disconnects(
    document: Path, loop: str, ending: str, tmp_path: Path
) -> None:
    (tmp_path / "watched.py").write_text(WATCHED.format(folder=str(document)))
    with running_server(tmp_path, "watched:app", "--loop", loop) as server:
        with talk(server) as client:
            client.recv(LONGEST_WAIT)
            if ending == "gone":
                client.socket.shutdown(socket.SHUT_RDWR)
            elif ending == "killed":
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.socket.close()
        assert server.get() == (200, "ended")
        assert "Traceback" not in server.stderr


def test_chat_example_delivers_messages_while_clients_come_and_go(document: Path, loop: str) -> None:
    for server in serving(document, "chat_server", loop):
        with talk(server) as staying, ExitStack() as others:
            for number in range(10):
                passing = others.enter_context(talk(server))
                passing.send(f"from {number}")
                assert staying.recv(LONGEST_WAIT) == f"from {number}"
                if number % 2:
                    passing.close()
                else:
                    # Gone without a word.
                    passing.socket.close()
            staying.send("still here")
            assert staying.recv(LONGEST_WAIT) == "still here"
        assert "Traceback" not in server.stderr


def test_chat_example_serves_its_page(document: Path) -> None:
    for server in serving(document, "chat_server", "auto"):
        status, page = server.get()
        assert status == 200
        assert page == (document / "index.html").read_text()


def test_hello_world_example_answers_a_websocket_handshake_with_200() -> None:
    with running_server(SEEDS, "app:hello_world") as server:
        with pytest.raises(InvalidStatus) as refusal, talk(server):
            pass
        assert refusal.value.response.status_code == 200


def test_stopping_server_closes_the_websocket_of_an_example_with_1012() -> None:
    with running_server(SEEDS / "explicit_accept", "app:echo") as server, talk(server) as client:
        client.send("hello")
        client.recv(LONGEST_WAIT)
        server.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as end:
            client.recv(LONGEST_WAIT)
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == 1012
        assert server.wait() == 0
