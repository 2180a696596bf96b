"""200 open WebSockets of a WSGI application, by our codec and by flask-sock: W5, W6."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from .clients import connect, normal_client, reset, wait_until
from .measuring import MIB, Figure, case
from .servers import CaseFailed, Server, Workshop
from .websocket_clients import PING, TEXT, echo, frame, open_websocket, read_close_code, read_frames

# The default of `--ws-threads`.
_MOST: Final = 200
_GRACE_SECONDS: Final = 30

_ROOT: Final = Path(__file__).parents[1]
_PING_SECONDS: Final = 5
_OPEN_SECONDS: Final = 12


@contextmanager
def _flask_sock(workshop: Workshop, ping_seconds: int = 25) -> Iterator[Server]:
    """Serve a site with flask-sock, which pings its clients every so many seconds."""
    os.environ["PING_INTERVAL"] = str(ping_seconds)
    try:
        with workshop.server("app", "--app-dir", str(_ROOT), module="tests.frameworks.flask_sock_site") as server:
            yield server
    finally:
        del os.environ["PING_INTERVAL"]


def _threads(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def _status_above_the_limit(port: int, path: bytes) -> str:
    """Return the start of the response to one more handshake."""
    try:
        open_websocket(port, path).close()
    except CaseFailed as error:
        return str(error)
    return "accepted"


@case("W6", "200 open WebSockets of a WSGI application, beside HTTP requests; then one more, then SIGTERM", 90)
def many_threads(workshop: Workshop) -> list[Figure]:
    with workshop.server("websocket", module="wsgi_app") as server:
        return _many(server, b"/websocket")


@case("W5", "the same with flask-sock, whose messages pass through untouched", 90)
def many_of_flask_sock(workshop: Workshop) -> list[Figure]:
    with _flask_sock(workshop) as server:
        # Flask logs the rejection of the last client as an exception.
        server.tracebacks_allowed = 1
        return _many(server, b"/echo")


def _many(server: Server, path: bytes) -> list[Figure]:
    with ExitStack() as stack:
        # The server has made its lazy imports, and has begun a thread of the pool.
        with open_websocket(server.port, path) as sock:
            echo(sock)
        server.mark_idle()
        threads, descriptors = _threads(server), server.descriptors()
        sockets = [stack.enter_context(open_websocket(server.port, path)) for _ in range(_MOST)]
        with normal_client(server.port) as latency:
            until = time.monotonic() + 5
            while time.monotonic() < until:
                for sock in sockets:
                    sock.sendall(frame(TEXT, b"hello"))
                for sock in sockets:
                    sock.recv(7)
                time.sleep(0.5)
        above = _status_above_the_limit(server.port, path)
        with connect(server.port):
            note = (
                f"{latency}; {_threads(server) - threads} threads, {server.descriptors() - descriptors} descriptors, "
                f"{server.growth() / MIB:.0f} MiB more"
            )
        began = time.monotonic()
        code = server.terminate(_GRACE_SECONDS)
        stopped = time.monotonic() - began
        codes = [read_close_code(sock) for sock in sockets]
    return [
        Figure("p99 of HTTP", latency.p99, "ms", 50, note=note),
        Figure("one more is not answered with 503", int("503" not in above), "count", 0, bar_may_be_met=True),
        Figure("not closed with 1012", _MOST - codes.count(1012), "count", 0, bar_may_be_met=True),
        Figure("exit code", code, "", 0, bar_may_be_met=True),
        Figure("time to stop", stopped, "s", 5),
    ]


@case("W5-pings", "a WebSocket of flask-sock with a ping_interval of 5 s is open for 12 s", 60)
def pings(workshop: Workshop) -> list[Figure]:
    with _flask_sock(workshop, _PING_SECONDS) as server, open_websocket(server.port, b"/echo") as sock:
        until = time.monotonic() + _OPEN_SECONDS
        frames = read_frames(sock)
        pinged = 0
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                first, payload = next(frames)
            except TimeoutError:
                break
            pinged += first == PING
            sock.sendall(frame(0x8A, payload))
        sock.settimeout(10)
        echo(sock)
    return [Figure("pings missed", _OPEN_SECONDS // _PING_SECONDS - pinged, "count", 0, bar_may_be_met=True)]


@case("W5-loss", "from the end of a client to the end of its view with flask-sock", 60)
def losses(workshop: Workshop) -> list[Figure]:
    figures = []
    with _flask_sock(workshop) as server:
        for end in ("close", "reset"):
            seconds = []
            for _ in range(10):
                ended = server.stdout().count("echo ended")
                sock = open_websocket(server.port, b"/echo")
                echo(sock)
                began = time.monotonic()
                reset(sock) if end == "reset" else sock.close()
                if not wait_until(lambda ended=ended: server.stdout().count("echo ended") > ended, 20):
                    raise CaseFailed(f"the view did not end 20 s after a {end}")
                seconds.append(time.monotonic() - began)
            figures.append(Figure(f"longest of 10, {end}", max(seconds), "s", 1))
    return figures
