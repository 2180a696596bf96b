"""Shutdown under load (requirement D13), and disconnects of clients (D12, D16)."""

from __future__ import annotations

import signal
import socket
import struct
import threading
from pathlib import Path

import pytest

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

APPS = """
import asyncio
import signal
import time

async def slow(message, channels):
    await asyncio.sleep(0.02)
    await channels['reply'].send({'status': 200, 'content': b'x' * 1000})

async def endless(message, channels):
    if message['path'] == '/hello':
        await channels['reply'].send({'status': 200, 'content': b'hello'})
        return
    print('begun', flush=True)
    try:
        await channels['reply'].send({'status': 200, 'more_content': True})
        while True:
            await channels['reply'].send({'content': b'x' * 1000, 'more_content': True})
    finally:
        print('ended', flush=True)

async def hanging(message, channels):
    print('begun', flush=True)
    await asyncio.Event().wait()

async def blocking(message, channels):
    server = signal.getsignal(signal.SIGINT).__self__
    print('blocked', flush=True)
    while not server.should_exit:
        time.sleep(0.01)
    print('first', flush=True)
    while not server.force_exit:
        time.sleep(0.01)
    print('second', flush=True)
    while True:
        time.sleep(0.01)
"""

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
HEAD_END = b"\r\n\r\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPS)
    return tmp_path


class Client(threading.Thread):
    """Asks again and again on one connection, until the response has `connection: close` or connecting fails."""

    def __init__(self, server: ServerProcess, begun: threading.Barrier) -> None:
        super().__init__()
        self._server = server
        self._begun = begun
        self.answered = 0
        self.lost: list[str] = []

    def run(self) -> None:
        port = self._server.port
        for attempt in range(10_000):
            try:
                connection = socket.create_connection(("127.0.0.1", port), LONGEST_WAIT)
            except ConnectionRefusedError:
                return
            with connection:
                if attempt == 0:
                    self._begun.wait(LONGEST_WAIT)
                if not self._ask_while_kept_alive(connection):
                    return

    def _ask_while_kept_alive(self, connection: socket.socket) -> bool:
        asked = 0
        while True:
            try:
                connection.sendall(GET)
                answer = self._read_response(connection)
            except OSError as error:
                # A reset before anything was answered: the kernel still had the connection in its queue when the
                # socket was closed, so that it was never accepted.
                if asked or not isinstance(error, ConnectionResetError):
                    self.lost.append(f"{error!r} after {asked}")
                return False
            if answer is None:
                self.lost.append(f"cut off after {asked}")
                return False
            asked += 1
            self.answered += 1
            if b"connection: close" in answer:
                return True

    def _read_response(self, connection: socket.socket) -> bytes | None:
        data = b""
        while len(data.partition(HEAD_END)[2]) < 1000:
            received = connection.recv(65536)
            if not received:
                return None
            data += received
        return data.partition(HEAD_END)[0]


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_D13_SIGTERM_under_load_loses_no_accepted_request(folder: Path, loop: str) -> None:
    with running_server(folder, "app:slow", "--loop", loop, "--no-access-log") as server:
        begun = threading.Barrier(17)
        clients = [Client(server, begun) for _ in range(16)]
        for client in clients:
            client.start()
        begun.wait(LONGEST_WAIT)
        while sum(client.answered for client in clients) < 200:
            clients[0].join(0.01)
        assert server.stop(signal.SIGTERM) == 0
        for client in clients:
            client.join(LONGEST_WAIT)
        assert [client.lost for client in clients if client.lost] == []


def test_D13_hanging_handler_is_cancelled_at_the_end_of_the_grace_period(folder: Path) -> None:
    with running_server(folder, "app:hanging", "--timeout-graceful-shutdown", "0.2") as server:
        with socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as connection:
            connection.sendall(GET)
            server.wait_for_line("begun", "stdout")
            assert server.stop(signal.SIGTERM) == 1
        assert "aborted 1 request after 0.2 seconds" in server.stderr


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
def test_third_ctrl_c_stops_a_handler_that_blocks_the_event_loop(folder: Path, loop: str) -> None:
    with running_server(folder, "app:blocking", "--loop", loop) as server:
        with socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as connection:
            connection.sendall(GET)
            for line in ("blocked", "first"):
                server.wait_for_line(line, "stdout")
                server.send_signal(signal.SIGINT)
            server.wait_for_line("second", "stdout")
            assert server.stop(signal.SIGINT) == 0
        assert "in blocking" in server.stderr


def test_access_log_marks_a_response_aborted_by_the_shutdown(folder: Path) -> None:
    with running_server(folder, "app:endless", "--timeout-graceful-shutdown", "0.2") as server:
        with socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as connection:
            connection.sendall(GET)
            server.wait_for_line("begun", "stdout")
            server.stop(signal.SIGTERM)
        assert "(server shutdown)" in server.stdout


@pytest.mark.parametrize("loop", ["auto", "asyncio"])
@pytest.mark.parametrize("fault", ["reset", "close"])
def test_D16_server_answers_the_next_client_after_a_client_disconnects(folder: Path, loop: str, fault: str) -> None:
    with running_server(folder, "app:endless", "--loop", loop) as server:
        connection = socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT)
        connection.sendall(GET)
        server.wait_for_line("begun", "stdout")
        connection.recv(1000)
        if fault == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        server.wait_for_line("ended", "stdout")
        assert server.get("/hello") == (200, "hello")
        assert server.stop() == 0
        assert "Traceback" not in server.stderr


def test_D16_endless_stream_to_one_client_does_not_block_another_client(folder: Path) -> None:
    with running_server(folder, "app:endless", "--loop", "asyncio") as server:
        with socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT) as connection:
            connection.sendall(GET)
            stop = threading.Event()

            def read() -> None:
                while not stop.is_set():
                    connection.recv(1 << 20)

            reader = threading.Thread(target=read)
            reader.start()
            try:
                assert server.get("/hello") == (200, "hello")
            finally:
                stop.set()
                reader.join(LONGEST_WAIT)


ENDLESS = """
import asyncio

class Endless:
    async def shutdown(self):
        print("shutting down", flush=True)
        await asyncio.Event().wait()

    async def __call__(self, message, channels): ...

app = Endless()
"""


@pytest.mark.parametrize("arguments", [(), ("--workers", "2")])
def test_D13_second_signal_cancels_the_application_shutdown(folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "endless.py").write_text(ENDLESS)
    with running_server(folder, "endless:app", *arguments) as server:
        server.send_signal(signal.SIGTERM)
        server.wait_for_line("shutting down", "stdout")
        assert server.stop(signal.SIGTERM) == 1
        assert "the application's shutdown has not ended" in server.stderr


def test_D13_application_shutdown_is_cancelled_at_the_end_of_the_grace_period(folder: Path) -> None:
    (folder / "endless.py").write_text(ENDLESS)
    with running_server(folder, "endless:app", "--timeout-graceful-shutdown", "0") as server:
        assert server.stop() == 1
        assert "the application's shutdown has not ended" in server.stderr
