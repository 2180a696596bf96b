"""`environ['werkzeug.socket']` of a WSGI application, on a real server and a real client's socket (rule W5)."""

from __future__ import annotations

import asyncio
import copy
import logging
import selectors
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

import uvicorn
from tests.helpers import until
from tests.interfaces.test_takeover import HANDSHAKE
from tests.interfaces.test_wsgi_websocket import echo
from tests.interfaces.wsgi_websockets import opened
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.interfaces.takeover import HandedSocket

SWITCHED: Final = b"HTTP/1.1 101 \r\n\r\n"


class Call:
    """A WSGI application that calls `use` with the environ, and records the result."""

    def __init__(self, use: Callable[[dict[str, Any]], Any]) -> None:
        self._use = use
        self.returned: Any = None
        self.error: BaseException | None = None
        self.has_ended = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        try:
            self.returned = self._use(environ)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.has_ended = True
        start_response("200 OK", [])
        return [b"ordinary"]


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def client_of(app: Callable[..., Any], request: bytes = HANDSHAKE, **options: Any) -> AsyncIterator[Streams]:
    """Serve `app`, and send it `request`."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, interface="wsgi", **options))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done())
    host, port = server.servers[0].sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        server.should_exit = True
        await task


async def test_W5_first_socket_method_call_takes_over_the_connection() -> None:
    def use(environ: dict[str, Any]) -> bytes:
        with environ["werkzeug.socket"] as sock:
            sock.sendall(SWITCHED)
            return bytes(sock.recv(5))

    app = Call(use)
    async with client_of(app) as (reader, writer):
        assert await reader.readexactly(len(SWITCHED)) == SWITCHED
        writer.write(b"hello")
        assert await reader.read() == b""
    assert app.returned == b"hello"


async def test_W5_application_that_calls_no_method_of_its_socket_sends_an_http_response() -> None:
    async with client_of(Call(lambda environ: environ["werkzeug.socket"])) as (reader, _):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")


async def test_W5_repr_and_copy_of_the_socket_do_not_take_over_the_connection() -> None:
    def use(environ: dict[str, Any]) -> bool:
        sock = environ["werkzeug.socket"]
        shown = repr(sock), str(sock), f"{environ}"
        same = copy.copy(sock) is sock and copy.deepcopy([sock])[0] is sock
        names = hasattr(sock, "recv") and not hasattr(sock, "unknown") and callable(sock.fileno)
        kind = (sock.family, sock.type, sock.proto) == (socket.AF_UNIX, socket.SOCK_STREAM, 0)
        return same and names and kind and shown[0] == "<HandedSocket unused>" and sock == sock and bool(sock)

    app = Call(use)
    async with client_of(app) as (reader, _):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert app.returned is True


async def test_W5_repr_of_a_used_socket_shows_its_descriptor() -> None:
    def use(environ: dict[str, Any]) -> bool:
        with environ["werkzeug.socket"] as sock:
            return f"fd={sock.fileno()}" in repr(sock)

    app = Call(use)
    async with client_of(app) as (reader, _):
        assert await reader.read() == b""
    assert app.returned is True


async def test_W5_socket_can_be_read_with_a_selector_on_a_second_thread() -> None:
    def use(environ: dict[str, Any]) -> bytes:
        sock = environ["werkzeug.socket"]
        heard: list[bytes] = []

        def receive() -> None:
            with selectors.DefaultSelector() as selector:
                selector.register(sock, selectors.EVENT_READ)
                assert selector.select()
                heard.append(sock.recv(4096))
            sock.close()

        receiver = threading.Thread(target=receive)
        receiver.start()
        sock.send(SWITCHED)
        receiver.join()
        return heard[0]

    app = Call(use)
    async with client_of(app) as (reader, writer):
        await reader.readexactly(len(SWITCHED))
        writer.write(b"hello")
        assert await reader.read() == b""
    assert app.returned == b"hello"


async def test_W5_concurrent_fileno_calls_return_the_same_descriptor() -> None:
    def use(environ: dict[str, Any]) -> int:
        sock = environ["werkzeug.socket"]
        descriptors: list[int] = []
        threads = [threading.Thread(target=lambda: descriptors.append(sock.fileno())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sock.close()
        return len(set(descriptors))

    app = Call(use)
    async with client_of(app) as (reader, _):
        assert await reader.read() == b""
    assert app.returned == 1


async def test_W5_concurrent_sends_of_two_threads_do_not_interleave() -> None:
    long, short = b"x" * (1 << 20), b"\0"

    def use(environ: dict[str, Any]) -> None:
        sock = environ["werkzeug.socket"]
        has_ended = threading.Event()

        def send_short() -> None:
            while not has_ended.is_set():
                sock.send(short)

        sender = threading.Thread(target=send_short)
        sender.start()
        for _ in range(8):
            assert sock.send(long) == len(long)
        has_ended.set()
        sender.join()
        sock.close()

    async with client_of(Call(use)) as (reader, _):
        received = await reader.read()
    assert {len(run) % len(long) for run in received.split(short)} == {0}


async def test_W5_close_waits_for_a_send_of_another_thread() -> None:
    # More than the buffers between the application and a client that reads nothing.
    message = b"x" * (16 << 20)
    may_read = asyncio.Event()
    loop = asyncio.get_running_loop()

    def use(environ: dict[str, Any]) -> bool:
        sock = environ["werkzeug.socket"]
        sock.send(b"\0")
        threads = [threading.Thread(target=sock.sendall, args=(message,)), threading.Thread(target=sock.close)]
        threads[0].start()
        while not sock._sending.locked():
            pass
        threads[1].start()
        # Time enough for the other thread, if it did not wait.
        is_open = all(sock.fileno() >= 0 for _ in range(100_000))
        loop.call_soon_threadsafe(may_read.set)
        for thread in threads:
            thread.join()
        return is_open

    call = Call(use)
    async with client_of(call) as (reader, _):
        await may_read.wait()
        assert await reader.read() == b"\0" + message
    assert call.returned


async def test_W5_socket_is_blocking_despite_a_default_socket_timeout() -> None:
    def use(environ: dict[str, Any]) -> Any:
        socket.setdefaulttimeout(5)
        try:
            with environ["werkzeug.socket"] as sock:
                return sock.gettimeout()
        finally:
            socket.setdefaulttimeout(None)

    app = Call(use)
    async with client_of(app) as (reader, _):
        assert await reader.read() == b""
    assert (app.returned, app.error) == (None, None)


async def test_W5_request_without_a_websocket_handshake_has_no_socket() -> None:
    app = Call(lambda environ: [key for key in environ if key.endswith(".socket")])
    async with client_of(app, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n") as (reader, _):
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    assert app.returned == []


async def test_W4_disallowed_origin_gets_403_when_the_application_uses_the_socket() -> None:
    app = Call(lambda environ: environ["werkzeug.socket"].fileno())
    request = HANDSHAKE[:-2] + b"Origin: https://evil.example\r\n\r\n"
    async with client_of(app, request) as (reader, _):
        assert (await reader.readline()).startswith(b"HTTP/1.1 403")
    assert isinstance(app.error, ClientDisconnected)


async def test_W6_handshake_gets_503_when_every_websocket_thread_holds_a_socket() -> None:
    leave = threading.Event()

    def use(environ: dict[str, Any]) -> None:
        environ["werkzeug.socket"].sendall(SWITCHED)
        leave.wait()

    app = Call(use)
    async with client_of(app, ws_threads=1) as (reader, writer):
        await reader.readexactly(len(SWITCHED))
        host, port = writer.get_extra_info("peername")
        second_reader, second_writer = await asyncio.open_connection(host, port)
        second_writer.write(HANDSHAKE)
        assert (await second_reader.readline()).startswith(b"HTTP/1.1 503")
        await until(lambda: isinstance(app.error, ClientDisconnected))
        second_writer.transport.abort()
        leave.set()


async def test_W2_server_sends_close_code_1000_if_the_application_returns_after_socket_use() -> None:
    app = Call(lambda environ: environ["werkzeug.socket"].sendall(SWITCHED))
    async with client_of(app) as (reader, _):
        assert await reader.read() == SWITCHED + b"\x88\x02\x03\xe8"


async def test_W2_exception_after_use_of_the_socket_sends_close_code_1011(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def use(environ: dict[str, Any]) -> None:
        environ["werkzeug.socket"].sendall(SWITCHED)
        raise ValueError("fault")

    async with client_of(Call(use)) as (reader, _):
        assert await reader.read() == SWITCHED + b"\x88\x02\x03\xf3"
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]


@pytest.mark.parametrize("error", [ConnectionError(), StopIteration()])
async def test_W2_ConnectionError_and_StopIteration_after_the_close_frame_log_no_warning(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def use(environ: dict[str, Any]) -> None:
        environ["werkzeug.socket"].sendall(SWITCHED + b"\x88\x00")
        raise error

    app = Call(use)
    async with client_of(app) as (reader, writer):
        assert await reader.readexactly(len(SWITCHED) + 2) == SWITCHED + b"\x88\x00"
        await until(lambda: app.has_ended)
        writer.close()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_W2_ValueError_after_the_close_frame_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def use(environ: dict[str, Any]) -> None:
        environ["werkzeug.socket"].sendall(SWITCHED + b"\x88\x00")
        raise ValueError("fault")

    app = Call(use)
    async with client_of(app) as (reader, writer):
        assert await reader.readexactly(len(SWITCHED) + 2) == SWITCHED + b"\x88\x00"
        await until(lambda: any(record.levelno == logging.ERROR for record in caplog.records))
        writer.close()


async def test_W2_exception_after_the_client_has_closed_is_logged_at_debug(caplog: pytest.LogCaptureFixture) -> None:
    def use(environ: dict[str, Any]) -> None:
        sock = environ["werkzeug.socket"]
        sock.sendall(SWITCHED)
        assert sock.recv(1) == b""
        raise ConnectionError

    caplog.set_level(logging.DEBUG, "uvicorn.app")
    async with client_of(Call(use)) as (reader, writer):
        await reader.readexactly(len(SWITCHED))
        writer.close()
        await until(lambda: any(record.exc_info for record in caplog.records))
    assert [record.levelname for record in caplog.records if record.exc_info] == ["DEBUG"]


async def test_W7_stopping_server_closes_the_socket_with_1012() -> None:
    def use(environ: dict[str, Any]) -> bytes:
        sock = environ["werkzeug.socket"]
        sock.sendall(SWITCHED)
        return bytes(sock.recv(1))

    app = Call(use)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, interface="wsgi"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done())
    reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
    writer.write(HANDSHAKE)
    await reader.readexactly(len(SWITCHED))
    server.should_exit = True
    assert await reader.read() == b"\x88\x02\x03\xf4"
    writer.close()
    await task
    assert app.returned == b""


async def test_application_that_accepted_the_websocket_cannot_use_the_werkzeug_socket() -> None:
    errors: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        websocket = environ["uvicorn.websocket"]
        websocket.accept()
        try:
            environ["werkzeug.socket"].fileno()
        except LocalProtocolError as error:
            errors.append(error)
        echo(websocket)

    site = await opened(app)
    await site.say("hello")
    assert await site.hears() == ["hello"]
    assert "werkzeug.socket" in str(errors[0])
    await site.end()


def test_werkzeug_socket_has_the_methods_of_a_socket() -> None:
    made = HandedSocket.__new__(HandedSocket)
    made._socket = None
    for name in ("recv", "send", "sendall", "recv_into", "fileno", "shutdown", "settimeout", "makefile", "getpeername"):
        assert callable(getattr(made, name)), name
