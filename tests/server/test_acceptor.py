"""How the acceptor takes connections from the kernel's queue: how many in each iteration of the loop, and errors."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import uvicorn
from tests.helpers import GET, hello, settle, until
from uvicorn import process_count
from uvicorn.core.exchange import HTTPExchange
from uvicorn.interfaces.detect import build_interface
from uvicorn.keywords import build_settings
from uvicorn.server import acceptor as module
from uvicorn.server.acceptor import Acceptor
from uvicorn.server.clock import Clock
from uvicorn.server.context import ServerContext
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.listener import Address, open_sockets


def build_context(app: Callable[..., Any] = hello) -> ServerContext:
    settings = build_settings({"access_log": False})
    return ServerContext(build_interface(app, settings), settings, Clock())


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_count, "count", 1)


@contextlib.contextmanager
def waiting_clients(sock: socket.socket, count: int) -> Iterator[list[socket.socket]]:
    """Connect `count` clients that wait in the kernel's queue."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.socket(sock.family))
            client.connect(sock.getsockname())
            clients.append(client)
        yield clients


@asynccontextmanager
async def accepting(
    sock: socket.socket, app: Callable[..., Any] = hello
) -> AsyncIterator[tuple[Acceptor, ServerContext]]:
    """Start an acceptor, which accepts from the next iteration of the event loop on."""
    context = build_context(app)
    acceptor = Acceptor(context, sock)
    acceptor.start()
    try:
        yield acceptor, context
    finally:
        acceptor.abort()
        await until(lambda: not context.arriving)
        for connection in tuple(context.connections):
            connection.reset()
        await until(lambda: not context.connections)


async def accepted_on_each_turn(context: ServerContext, total: int) -> list[int]:
    """Return how many connections each iteration has accepted, without empty ones, until there are `total`."""
    counts = []
    before = 0
    while before < total:
        await asyncio.sleep(0)
        now = len(context.connections) + len(context.arriving)
        if now > before:
            counts.append(now - before)
        before = now
    return counts


def listening(**options: Any) -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=256, **options)


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


class Recorder:
    """An application that records the paths of its requests."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        self.paths.append(message["path"])
        await hello(message, channels)


@pytest.mark.usefixtures("one_process")
async def test_single_process_accepts_up_to_128_clients_per_loop_iteration() -> None:
    with listening() as sock, waiting_clients(sock, 200):
        async with accepting(sock) as (_, context):
            assert await accepted_on_each_turn(context, 200) == [128, 72]


@pytest.mark.parametrize(("processes", "most"), [(0, 128), (2, 32), (4, 16), (65, 1)])
async def test_process_that_shares_a_socket_accepts_fewer_connections_per_loop_iteration(
    processes: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process_count, "count", processes)
    with listening() as sock, waiting_clients(sock, 2 * most):
        async with accepting(sock) as (_, context):
            assert await accepted_on_each_turn(context, 2 * most) == [most, most]


async def test_clients_of_a_unix_socket_are_accepted(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "web.sock"))
        sock.listen(10)
        with waiting_clients(sock, 3):
            async with accepting(sock) as (_, context):
                await until(lambda: len(context.connections) == 3)


async def test_accepted_connection_sends_small_packets_without_delay() -> None:
    (sock,) = open_sockets([Address(port=0)], 10)
    with sock, waiting_clients(sock, 1):
        async with accepting(sock) as (_, context):
            await until(lambda: context.connections)
            (connection,) = context.connections
            own = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class FailingSocket(socket.socket):
    """A listening socket whose next calls of `accept` fail."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.bind(("127.0.0.1", 0))
        super().listen(200)
        self.numbers = list(numbers)
        self.attempts = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.attempts += 1
        if self.numbers:
            number = self.numbers.pop(0)
            raise OSError(number, errno.errorcode[number])
        return super().accept()


async def test_reset_connection_does_not_delay_the_accept_of_the_next_connection() -> None:
    with FailingSocket(errno.ECONNABORTED) as sock, waiting_clients(sock, 3):
        async with accepting(sock) as (_, context):
            assert await accepted_on_each_turn(context, 3) == [3]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_D10_server_without_free_descriptors_stops_accepting_and_logs_one_line(
    number: int, caplog: pytest.LogCaptureFixture
) -> None:
    with FailingSocket(*[number] * 100) as sock, waiting_clients(sock, 3):
        async with accepting(sock):
            await settle()
            assert sock.attempts == 1
    assert caplog.messages == [
        f"cannot accept connections: {errno.errorcode[number]}; "
        "raise the limit (ulimit -n), or lower --limit-concurrency"
    ]


async def test_D10_acceptor_pauses_after_any_OSError(caplog: pytest.LogCaptureFixture) -> None:
    with FailingSocket(*[errno.EPERM] * 100) as sock, waiting_clients(sock, 3):
        async with accepting(sock):
            await settle()
            assert sock.attempts == 1
    assert caplog.messages == ["cannot accept connections: [Errno 1] EPERM"]


async def test_D10_server_without_free_descriptors_accepts_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0)
    with FailingSocket(errno.EMFILE) as sock, waiting_clients(sock, 3):
        async with accepting(sock) as (_, context):
            await until(lambda: len(context.connections) == 3)


async def test_acceptor_that_is_closed_during_a_pause_does_not_retry() -> None:
    with FailingSocket(errno.EMFILE) as sock, waiting_clients(sock, 1):
        async with accepting(sock) as (acceptor, _):
            await until(lambda: sock.attempts)
            retry = acceptor._retry
            assert retry is not None
            acceptor.abort()
            assert retry.cancelled()


async def test_clients_in_the_accept_queue_are_accepted_when_the_acceptor_closes() -> None:
    with listening() as sock, waiting_clients(sock, 100):
        async with accepting(sock) as (acceptor, context):
            acceptor.close()
            await until(lambda: len(context.connections) == 100)


async def test_closed_acceptor_leaves_no_reader_in_the_event_loop() -> None:
    with listening() as sock:
        number = sock.fileno()
        async with accepting(sock) as (acceptor, context):
            acceptor.close()
            assert not context.loop.remove_reader(number)


async def paths_of_busy_and_new_client() -> list[str]:
    """Have a busy client send a request after a new client has, and return the paths in the order of service."""
    app = Recorder()
    with listening() as sock, waiting_clients(sock, 1) as (busy,):
        async with accepting(sock, app) as (_, context):
            await until(lambda: context.connections)
            with waiting_clients(sock, 1) as (new,):
                new.sendall(request("/new"))
                await asyncio.sleep(0)
                # The server accepts the new client in this iteration.
                busy.sendall(request("/busy"))
                await until(lambda: len(app.paths) == 2)
    return app.paths


async def test_new_client_is_served_before_the_next_request_of_a_busy_client() -> None:
    assert await paths_of_busy_and_new_client() == ["/new", "/busy"]


async def test_busy_client_is_served_before_a_new_client_if_the_event_loop_reads_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_reads_when_ready", lambda loop: False)
    assert await paths_of_busy_and_new_client() == ["/busy", "/new"]


def test_server_assumes_that_an_unknown_event_loop_reads_ahead() -> None:
    assert not module._reads_when_ready(asyncio.AbstractEventLoop())  # type: ignore[abstract]


async def test_new_client_that_sends_its_request_later_gets_a_response() -> None:
    app = Recorder()
    with listening() as sock, waiting_clients(sock, 1) as (client,):
        async with accepting(sock, app) as (_, context):
            await until(lambda: context.connections)
            await settle()
            client.sendall(request("/later"))
            await until(lambda: app.paths)
            assert app.paths == ["/later"]


async def test_new_client_that_sends_only_a_FIN_is_disconnected() -> None:
    with listening() as sock, waiting_clients(sock, 1) as (client,):
        client.shutdown(socket.SHUT_WR)
        async with accepting(sock) as (_, context):
            await until(lambda: context.accepted and not context.connections)


async def test_new_client_is_served_after_the_previous_client_resets_its_connection() -> None:
    app = Recorder()
    with listening() as sock, waiting_clients(sock, 2) as (leaving, staying):
        leaving.sendall(request("/left"))
        staying.sendall(request("/stayed"))
        leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaving.close()
        async with accepting(sock, app) as (_, context):
            await until(lambda: context.accepted == 2 and len(context.connections) == 1)
            await until(lambda: "/stayed" in app.paths)


async def test_connection_is_removed_if_the_client_resets_it_during_the_first_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = Recorder()

    def fail(sock: socket.socket, *arguments: object) -> int:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    with listening() as sock, waiting_clients(sock, 1) as (client,):
        client.sendall(request("/read-by-the-loop"))
        async with accepting(sock, app) as (_, context):
            monkeypatch.setattr(socket.socket, "recv_into", fail)
            await until(lambda: context.connections)
            client.close()
            await until(lambda: not context.connections)


async def test_server_error_in_a_first_request_does_not_affect_the_next_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Recorder()
    with listening() as sock, waiting_clients(sock, 2) as clients:
        clients[0].sendall(request("/first"))
        clients[1].sendall(request("/second"))
        async with accepting(sock, app) as (_, context):
            interface = context.interface
            serve_http = interface.serve_http

            def serve(exchange: HTTPExchange) -> None:
                if exchange.raw_path == b"/first":
                    raise RuntimeError("a fault of the server")
                serve_http(exchange)

            interface.serve_http = serve  # type: ignore[method-assign]
            await until(lambda: app.paths)
            await until(lambda: len(context.connections) == 1)
    assert app.paths == ["/second"]
    assert caplog.messages == ["reading the first request of a connection failed; resetting the connection"]


async def test_context_variable_that_one_request_sets_is_not_visible_to_other_clients() -> None:
    variable = ContextVar("variable", default="unset")
    seen = []

    def app(message: dict[str, Any], channels: dict[str, Any]) -> Awaitable[None]:
        seen.append(variable.get())
        variable.set(message["path"])
        return hello(message, channels)

    with listening() as sock, waiting_clients(sock, 2) as clients:
        for client in clients:
            client.sendall(GET)
        async with accepting(sock, app):
            await until(lambda: len(seen) == 2)
    assert seen == ["unset", "unset"]


async def test_acceptor_does_not_read_a_request_before_the_connection_has_a_transport() -> None:
    ours, client = socket.socketpair()
    with listening() as sock, ours, client:
        client.sendall(GET)
        async with accepting(sock) as (acceptor, context):
            acceptor._read_first_requests([(ours, HTTP1Connection(context))])
        assert ours.recv(1000) == GET


async def test_sockets_attribute_of_an_acceptor_is_empty_after_close() -> None:
    with listening() as sock:
        async with accepting(sock) as (acceptor, _):
            before = acceptor.sockets
            acceptor.close()
            assert (before, acceptor.sockets) == ((sock,), ())


async def test_stopping_server_responds_to_clients_in_the_accept_queue() -> None:
    sock = listening()
    server = uvicorn.Server(uvicorn.Config(hello, log_config=None, access_log=False))
    task = asyncio.create_task(server.serve([sock]))
    await until(lambda: server.started)
    with waiting_clients(sock, 100) as clients:
        for client in clients:
            client.sendall(GET)
        # In the same iteration of the event loop, so that none of them has been accepted.
        server.should_exit = True
        await task
        answers = [client.recv(1000) for client in clients]
    assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 100


async def test_socket_is_closed_if_the_protocol_closes_the_transport_at_once() -> None:
    class Closing(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.close()

    loop = asyncio.get_running_loop()
    with listening() as sock, waiting_clients(sock, 1):
        accepted, _ = sock.accept()
        await loop.connect_accepted_socket(Closing, accepted)
        await settle()
        # Otherwise Python would close the descriptor again, which may belong to another connection by then.
        assert accepted.fileno() == -1
