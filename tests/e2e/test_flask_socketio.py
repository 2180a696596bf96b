"""Flask-SocketIO on threads on a real server, with python-socketio's own client and without a change."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

import aiohttp
import pytest
import socketio

from tests.certificates import Certificates
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server
from tests.e2e.test_flask_sock import SITES
from tests.helpers import until

POLLING_FIRST: Final = ["polling", "websocket"]
WEBSOCKET: Final = ["websocket"]

pytestmark = pytest.mark.any_loop


@contextmanager
def serving(*options: str, tls: Certificates | None = None, **variables: str) -> Iterator[ServerProcess]:
    encrypted = () if tls is None else ("--ssl-certfile", str(tls.chain), "--ssl-keyfile", str(tls.key))
    with running_server(SITES, "flask_socketio_site:app", *encrypted, *options, env=variables) as server:
        yield server


@pytest.fixture(scope="module")
def server(tls: Certificates | None) -> Iterator[ServerProcess]:
    with serving(tls=tls) as server:
        yield server
        assert server.stop() == 0
        assert not re.search("ERROR|Traceback|ResourceWarning", server.stderr), server.stderr


class Page:
    """A page that python-socketio's client keeps connected."""

    def __init__(self, client: socketio.AsyncClient) -> None:
        self.client = client
        self.received: asyncio.Queue[Any] = asyncio.Queue()
        self.ended: asyncio.Queue[Any] = asyncio.Queue()
        client.on("echo", self.received.put)
        client.on("disconnect", self.ended.put)

    async def hear(self) -> Any:
        """Return the next message."""
        return await asyncio.wait_for(self.received.get(), LONGEST_WAIT)

    async def end(self) -> None:
        """Wait until the client knows that it is disconnected."""
        await asyncio.wait_for(self.ended.get(), LONGEST_WAIT)


@asynccontextmanager
async def connected(
    server: ServerProcess, transports: list[str], tls: Certificates | None = None, origin: str | None = None
) -> AsyncIterator[Page]:
    # The client of the asyncio kind: the blocking one reads and writes a TLS connection on two threads, which Python's
    # ssl module does not support (python/cpython#77271).
    scheme, context = ("http", None) if tls is None else ("https", tls.client())
    headers = {} if origin is None else {"origin": origin}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context or True)) as session:
        client = socketio.AsyncClient(reconnection=False, http_session=session)
        page = Page(client)
        await client.connect(
            f"{scheme}://127.0.0.1:{server.port}", headers, transports=transports, wait_timeout=LONGEST_WAIT
        )
        websocket, reader = client.eio.ws, client.eio.read_loop_task
        connection = None if websocket is None else websocket.get_extra_info("socket")
        try:
            yield page
        finally:
            await client.disconnect()
            if client.eio.queue is not None:
                # After a close by the server, the task that sends would wait for a message or a ping.
                await client.eio.queue.put(None)
            await reader
            if websocket is not None and connection is not None:
                await websocket.close()
                # Over TLS, the package does not wait until the connection is closed.
                await until(lambda: connection.fileno() < 0)


@pytest.mark.parametrize("transports", [POLLING_FIRST, WEBSOCKET], ids=["polling first", "websocket"])
async def test_socketio_client_gets_its_echo_over_a_websocket(
    transports: list[str], server: ServerProcess, tls: Certificates | None
) -> None:
    async with connected(server, transports, tls) as page:
        assert page.client.transport() == "websocket"
        await page.client.emit("echo", "hello")
        assert await page.hear() == "hello"
        await page.client.emit("echo", b"\x00\xff")
        assert await page.hear() == b"\x00\xff"


async def test_socketio_client_echoes_300_KB(server: ServerProcess, tls: Certificates | None) -> None:
    message = os.urandom(300_000)
    async with connected(server, WEBSOCKET, tls) as page:
        await page.client.emit("echo", message)
        assert await page.hear() == message


async def test_socketio_broadcast_reaches_each_client(server: ServerProcess, tls: Certificates | None) -> None:
    async with connected(server, WEBSOCKET, tls) as first, connected(server, POLLING_FIRST, tls) as second:
        await first.client.emit("shout", "hello")
        assert (await first.hear(), await second.hear()) == ("hello", "hello")


async def test_server_disconnects_a_socketio_client(server: ServerProcess, tls: Certificates | None) -> None:
    async with connected(server, WEBSOCKET, tls) as page:
        await page.client.emit("leave")
        await page.end()


async def test_socketio_application_gets_a_disconnect_event_when_the_client_closes(
    server: ServerProcess, tls: Certificates | None
) -> None:
    left = server.stdout.count("left ")
    async with connected(server, WEBSOCKET, tls):
        pass
    server.wait_for_line("left ", "stdout", left + 1)


async def test_socketio_client_stays_connected_over_several_pings() -> None:
    with serving(PING_INTERVAL="0.05") as server:
        async with connected(server, WEBSOCKET) as page:
            for number in range(100):
                await page.client.emit("echo", number)
                assert await page.hear() == number


async def test_exception_after_a_socketio_disconnect_is_logged_at_debug_level() -> None:
    with serving("--log-level", "debug") as server:
        async with connected(server, WEBSOCKET):
            pass
        server.wait_for_line("left ", "stdout")
        async with connected(server, WEBSOCKET) as page:
            await page.client.emit("leave")
            await page.end()
        server.wait_for_line("exception in the application after the disconnect", count=2)
        assert server.stop() == 0
        assert "ERROR" not in server.stderr, server.stderr


async def test_socketio_client_from_a_foreign_origin_falls_back_to_polling() -> None:
    with serving(CORS="*") as server:
        async with connected(server, POLLING_FIRST, origin="https://shop.example") as page:
            server.wait_for_line("--ws-allowed-origins")
            assert page.client.transport() == "polling"
            await page.client.emit("echo", "hello")
            assert await page.hear() == "hello"


async def test_socketio_client_from_an_allowed_origin_upgrades_to_a_websocket() -> None:
    with serving("--ws-allowed-origins", "*", CORS="*") as server:
        async with connected(server, POLLING_FIRST, origin="https://shop.example") as page:
            assert page.client.transport() == "websocket"
            await page.client.emit("echo", "hello")
            assert await page.hear() == "hello"


async def test_stopping_server_disconnects_socketio_clients() -> None:
    with serving() as server:
        async with connected(server, WEBSOCKET) as page:
            await page.client.emit("echo", "hello")
            assert await page.hear() == "hello"
            assert await asyncio.to_thread(server.stop) == 0
            await page.end()
            assert not re.search("ERROR|Traceback|ResourceWarning", server.stderr), server.stderr
