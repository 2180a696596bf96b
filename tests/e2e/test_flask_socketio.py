"""Flask-SocketIO on threads on a real server, with python-socketio's own client and without a change."""

from __future__ import annotations

import os
import queue
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import requests
import socketio

from tests.certificates import Certificates
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server
from tests.e2e.test_flask_sock import SITES

POLLING_FIRST: Final = ["polling", "websocket"]
WEBSOCKET: Final = ["websocket"]


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

    def __init__(self, client: socketio.Client) -> None:
        self.client = client
        self.received: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        client.on("echo", self.received.put)
        client.on("disconnect", self.ended.put)

    def hear(self) -> Any:
        """Return the next message."""
        return self.received.get(timeout=LONGEST_WAIT)


@contextmanager
def connected(
    server: ServerProcess, transports: list[str], tls: Certificates | None = None, origin: str | None = None
) -> Iterator[Page]:
    session = requests.Session()
    session.trust_env = False
    scheme = "http"
    if tls is not None:
        session.verify = str(tls.authority)
        scheme = "https"
    options = {} if origin is None else {"origin": origin}
    client = socketio.Client(reconnection=False, http_session=session, websocket_extra_options=options)
    page = Page(client)
    try:
        client.connect(f"{scheme}://127.0.0.1:{server.port}", transports=transports)
        websocket, reader = client.eio.ws, client.eio.read_loop_task
        try:
            yield page
        finally:
            client.disconnect()
            if client.eio.queue is not None:
                # After a close by the server, the thread that sends would wait for a message or a ping.
                client.eio.queue.put(None)
            reader.join(LONGEST_WAIT)
            if websocket is not None:
                # After a close by the server the package leaves the socket to the garbage collector.
                websocket.shutdown()
    finally:
        session.close()


@pytest.mark.parametrize("transports", [POLLING_FIRST, WEBSOCKET], ids=["polling first", "websocket"])
def test_socketio_client_echoes_over_a_websocket(
    transports: list[str], server: ServerProcess, tls: Certificates | None
) -> None:
    with connected(server, transports, tls) as page:
        assert page.client.transport() == "websocket"
        page.client.emit("echo", "hello")
        assert page.hear() == "hello"
        page.client.emit("echo", b"\x00\xff")
        assert page.hear() == b"\x00\xff"


def test_socketio_client_echoes_300_KB(server: ServerProcess, tls: Certificates | None) -> None:
    message = os.urandom(300_000)
    with connected(server, WEBSOCKET, tls) as page:
        page.client.emit("echo", message)
        assert page.hear() == message


def test_socketio_broadcast_reaches_each_client(server: ServerProcess, tls: Certificates | None) -> None:
    with connected(server, WEBSOCKET, tls) as first, connected(server, POLLING_FIRST, tls) as second:
        first.client.emit("shout", "hello")
        assert (first.hear(), second.hear()) == ("hello", "hello")


def test_socketio_client_is_disconnected_by_the_server(server: ServerProcess, tls: Certificates | None) -> None:
    with connected(server, WEBSOCKET, tls) as page:
        page.client.emit("leave")
        page.ended.get(timeout=LONGEST_WAIT)


def test_socketio_disconnect_event_follows_the_close_of_a_client(
    server: ServerProcess, tls: Certificates | None
) -> None:
    left = server.stdout.count("left ")
    with connected(server, WEBSOCKET, tls):
        pass
    server.wait_for_line("left ", "stdout", left + 1)


def test_socketio_client_stays_connected_over_several_pings() -> None:
    with serving(PING_INTERVAL="0.05") as server, connected(server, WEBSOCKET) as page:
        for number in range(100):
            page.client.emit("echo", number)
            assert page.hear() == number


def test_connection_error_of_engineio_is_logged_at_debug_only() -> None:
    with serving("--log-level", "debug") as server:
        with connected(server, WEBSOCKET):
            pass
        server.wait_for_line("left ", "stdout")
        with connected(server, WEBSOCKET) as page:
            page.client.emit("leave")
            page.ended.get(timeout=LONGEST_WAIT)
        server.wait_for_line("exception in the application after the disconnect", count=2)
        assert server.stop() == 0
        assert "ERROR" not in server.stderr, server.stderr


def test_socketio_client_of_another_origin_stays_with_polling_and_the_log_names_the_option() -> None:
    with serving(CORS="*") as server, connected(server, POLLING_FIRST, origin="https://shop.example") as page:
        server.wait_for_line("--ws-allowed-origins")
        assert page.client.transport() == "polling"
        page.client.emit("echo", "hello")
        assert page.hear() == "hello"


def test_socketio_client_of_an_allowed_origin_upgrades_to_a_websocket() -> None:
    with serving("--ws-allowed-origins", "*", CORS="*") as server:
        with connected(server, POLLING_FIRST, origin="https://shop.example") as page:
            assert page.client.transport() == "websocket"
            page.client.emit("echo", "hello")
            assert page.hear() == "hello"


def test_stop_disconnects_socketio_clients_and_exits_with_0() -> None:
    with serving() as server, connected(server, WEBSOCKET) as page:
        page.client.emit("echo", "hello")
        assert page.hear() == "hello"
        assert server.stop() == 0
        page.ended.get(timeout=LONGEST_WAIT)
        assert not re.search("ERROR|Traceback|ResourceWarning", server.stderr), server.stderr
