"""200 open WebSockets of a WSGI application: W6."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from .clients import connect, normal_client
from .measuring import MIB, Figure, case
from .servers import CaseFailed, Server, Workshop
from .websocket_clients import TEXT, echo, frame, open_websocket, read_close_code

# The default of `--ws-threads`.
_MOST: Final = 200
_GRACE_SECONDS: Final = 30


def _threads(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def _status_above_the_limit(port: int) -> str:
    """Return the start of the response to one more handshake."""
    try:
        open_websocket(port, b"/websocket").close()
    except CaseFailed as error:
        return str(error)
    return "accepted"


@case("W6", "200 open WebSockets of a WSGI application, beside HTTP requests; then one more, then SIGTERM", 90)
def many_threads(workshop: Workshop) -> list[Figure]:
    with workshop.server("websocket", module="wsgi_app") as server, ExitStack() as stack:
        # The server has made its lazy imports, and has begun a thread of the pool.
        with open_websocket(server.port, b"/websocket") as sock:
            echo(sock)
        server.mark_idle()
        threads, descriptors = _threads(server), server.descriptors()
        sockets = [stack.enter_context(open_websocket(server.port, b"/websocket")) for _ in range(_MOST)]
        with normal_client(server.port) as latency:
            until = time.monotonic() + 5
            while time.monotonic() < until:
                for sock in sockets:
                    sock.sendall(frame(TEXT, b"hello"))
                for sock in sockets:
                    sock.recv(7)
                time.sleep(0.5)
        above = _status_above_the_limit(server.port)
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
