"""Large responses over real sockets, where the transports of the event loops differ."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

APP = """
served = 0
content = b'x' * 1000000

async def app(message, channels):
    global served
    if message['path'] == '/served':
        await channels['reply'].send({'status': 200, 'content': b'%d' % served})
    else:
        served += 1
        await channels['reply'].send({'status': 200, 'content': content})
"""


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("large")
    (folder / "app.py").write_text(APP)
    with running_server(folder, "app", "--loop", request.param, "--no-access-log") as server:
        yield server


def connected(server: ServerProcess) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT)


def read_to_the_end(connection: socket.socket) -> bytes:
    data = b""
    while received := connection.recv(1 << 20):
        data += received
    return data


def test_large_response_to_HEAD_has_a_content_length_and_no_content(server: ServerProcess) -> None:
    with connected(server) as connection:
        connection.sendall(b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = read_to_the_end(connection)
    assert b"content-length: 1000000\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_large_response_content_arrives_complete(server: ServerProcess) -> None:
    with connected(server) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert read_to_the_end(connection).partition(b"\r\n\r\n")[2] == b"x" * 1000000


def test_next_client_is_served_after_a_reset_during_large_pipelined_responses(
    server: ServerProcess,
) -> None:
    for _ in range(3):
        with connected(server) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 5)
            connection.recv(1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert server.get("/served")[0] == 200
    assert "Traceback" not in server.stderr


def test_D7_pipelined_requests_are_not_served_while_the_client_does_not_read(server: ServerProcess) -> None:
    before = int(server.get("/served")[1])
    with connected(server) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 200)
        # Asked twice: by the second answer, whatever the first one had let pass has been served.
        server.get("/served")
        assert int(server.get("/served")[1]) - before < 50
