"""Files sent by the kernel on real sockets, through `http.response.pathsend` of an ASGI application."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates
from tests.helpers import ManualClock, parse_responses, until
from uvicorn.interfaces.detect import build_interface
from uvicorn.keywords import build_settings
from uvicorn.server.context import ServerContext
from uvicorn.server.http1 import HTTP1Connection

# More than the kernel holds for a client that does not read.
CONTENT = os.urandom(1 << 20) * 8

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Files:
    """An application that responds with a file, and records the exceptions of its sends."""

    def __init__(self, path: Path, *, length: int = 0, waits: bool = False) -> None:
        self.path = path
        self.length = length
        self.waits = waits
        self.errors: list[BaseException] = []
        self.sent = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", str(self.length).encode())] if self.length else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if self.waits:
            # The head leaves without a length.
            await asyncio.sleep(0.001)
        try:
            await send({"type": "http.response.pathsend", "path": str(self.path)})
        except BaseException as error:
            self.errors.append(error)
            raise
        self.sent += 1


class Served:
    """A client's socket that is connected to `app`."""

    def __init__(
        self, client: socket.socket, connections: list[HTTP1Connection], clock: ManualClock, address: tuple[str, int]
    ) -> None:
        self.client = client
        self.connections = connections
        self.clock = clock
        self.address = address

    @property
    def connection(self) -> HTTP1Connection:
        """The server's connection."""
        return self.connections[0]

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, data)

    async def read(self, until_bytes: int) -> bytes:
        """Read at least `count` bytes, or fewer at the end."""
        data = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while len(data) < until_bytes and (
                piece := await asyncio.get_running_loop().sock_recv(self.client, 1 << 20)
            ):
                data += piece
        return bytes(data)


@asynccontextmanager
async def served(app: Any, tls: ssl.SSLContext | None = None, **settings: Any) -> AsyncIterator[Served]:
    loop = asyncio.get_running_loop()
    clock = ManualClock()
    chosen = build_settings({"access_log": False, "pathsend": True, **settings})
    interface = build_interface(app, chosen)
    context = ServerContext(interface, chosen, clock)
    clock.on_tick(context.tick)
    clock.tick()
    made: list[HTTP1Connection] = []

    def connection() -> HTTP1Connection:
        made.append(HTTP1Connection(context))
        return made[-1]

    server = await loop.create_server(connection, "127.0.0.1", 0, ssl=tls)
    address = server.sockets[0].getsockname()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.setblocking(False)
    try:
        await loop.sock_connect(client, address)
        if tls is None:
            await until(lambda: made)
        yield Served(client, made, clock, address)
    finally:
        client.close()
        server.close()
        await until(lambda: not context.connections)
        await interface.tasks.finish(0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def descriptors() -> Any:
    """Fail if the test leaves a descriptor open."""

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    return count


@pytest.mark.parametrize("waits", [False, True])
async def test_two_files_on_one_connection_arrive_complete(file: Path, waits: bool, monkeypatch: Any) -> None:
    used = []
    sendfile = os.sendfile
    monkeypatch.setattr(os, "sendfile", lambda *arguments: used.append(1) or sendfile(*arguments))
    app = Files(file, waits=waits)
    async with served(app) as conversation:
        await conversation.send(GET * 2)
        data = b""
        while len(data) < 2 * len(CONTENT) + 100 or not data.endswith((b"0\r\n\r\n", CONTENT[-10:])):
            data += await conversation.read(1)
        responses = parse_responses(data)
        assert [response.content == CONTENT for response in responses] == [True, True]
        assert [response.complete for response in responses] == [True, True]
    assert used


async def test_empty_file_is_sent_as_a_complete_response(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    async with served(Files(empty)) as conversation:
        await conversation.send(GET)
        assert (await conversation.read(70)).endswith(b"content-length: 0\r\n\r\n")


async def test_descriptors_used_for_sendfile_are_closed_when_the_client_disconnects(
    file: Path, descriptors: Any
) -> None:
    app = Files(file)
    async with served(app) as conversation:
        await conversation.send(GET)
        await conversation.read(1)
        before = descriptors()
        conversation.client.close()
        await until(lambda: app.errors)
        # The client's, the server's, its duplicate, and the file.
        await until(lambda: descriptors() == before - 4)
    assert isinstance(app.errors[0], OSError)


async def test_response_is_aborted_if_its_file_shrinks_during_the_transfer(file: Path) -> None:
    app = Files(file)
    async with served(app) as conversation:
        await conversation.send(GET)
        data = await conversation.read(1)
        os.truncate(file, 1 << 20)
        data += await conversation.read(1 << 30)
        assert not parse_responses(data, closed=True)[0].complete
    assert "bytes shorter than when it was opened" in str(app.errors[0])


async def test_client_that_receives_no_byte_of_a_file_is_reset_after_the_timeout(file: Path) -> None:
    app = Files(file)
    async with served(app, timeout_write_stall=5.0) as conversation:
        await conversation.send(GET)
        await until(lambda: conversation.connection._file_left)
        left = -1
        while left != conversation.connection._file_left:
            left = conversation.connection._file_left
            await asyncio.sleep(0.01)
        conversation.clock.advance(10)
        await until(lambda: app.errors)
    assert isinstance(app.errors[0], OSError)


async def test_cancellation_of_a_handler_aborts_its_file_response(file: Path) -> None:
    task: list[asyncio.Task[None]] = []
    files = Files(file)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        current = asyncio.current_task()
        assert current is not None
        task.append(current)
        await files(scope, receive, send)

    async with served(app) as conversation:
        await conversation.send(GET)
        data = await conversation.read(1)
        task[0].cancel()
        data += await conversation.read(1 << 30)
        assert not parse_responses(data, closed=True)[0].complete


async def test_file_longer_than_content_length_is_sent_only_up_to_content_length(file: Path) -> None:
    app = Files(file, length=1000)
    async with served(app) as conversation:
        await conversation.send(GET)
        data = await conversation.read(1080)
        response = parse_responses(data)[0]
        assert (response.complete, response.content) == (True, CONTENT[:1000])


@pytest.mark.parametrize("forwarded", [b"", b"x-forwarded-proto: http\r\n"])
async def test_file_on_a_tls_connection_is_sent_encrypted(
    file: Path, tmp_path: Path, forwarded: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> int:
        raise AssertionError("os.sendfile on a connection with TLS")

    monkeypatch.setattr(os, "sendfile", refuse)
    certificates = Certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.both)
    app = Files(file)
    async with served(app, tls) as conversation:
        reader, writer = await asyncio.open_connection(*conversation.address, ssl=certificates.client())
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n%bconnection: close\r\n\r\n" % forwarded)
        response = parse_responses(await reader.read(), closed=True)[0]
        assert (response.complete, response.content == CONTENT) == (True, True)
        writer.close()
