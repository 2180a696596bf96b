"""Event streams of ASGI frameworks whose clients disconnect: LEFT."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Final

from .clients import REQUEST, connect, reset, wait_until
from .measuring import Figure, case
from .servers import CaseFailed, Server, Workshop

_ROOT: Final = Path(__file__).parents[1]

#: Those that listen for http.disconnect while they stream, and those that do not.
_LISTENING: Final = ("starlette", "fastapi", "litestar", "quart", "django", "connexion")
_NOT_LISTENING: Final = ("falcon", "blacksheep", "sanic")

_HALF_CLOSED: Final = 2.0
_DISCONNECT: Final = 1.0

#: Half a tick of the server's clock, to which --timeout-half-closed is kept; and what a message takes to be seen.
_TICK: Final = 0.6


def _seconds_until_closed(server: Server, path: bytes, end: str, events: int) -> float:
    """Read some events, disconnect, and return the seconds until the generator's `finally` has run."""
    sock = connect(server.port)
    try:
        sock.sendall(REQUEST % path)
        received = b""
        while received.count(b"data: ") < events:
            piece = sock.recv(65536)
            if not piece:
                raise CaseFailed(f"{path.decode()}: the stream ended by itself")
            received += piece
        line = re.search(r"the \w+ stream \d+ has ended", received.decode())
        assert line is not None
        began = time.monotonic()
        if end == "reset":
            reset(sock)
    finally:
        sock.close()
    if not wait_until(lambda: line[0] in server.stderr(), 60):
        raise CaseFailed(f"{path.decode()}: not closed 60 s after a {end}")
    return time.monotonic() - began


def _figures(workshop: Workshop, framework: str) -> list[Figure]:
    listens = framework in _LISTENING
    options = ("--app-dir", str(_ROOT))
    if not listens:
        options += ("--timeout-half-closed", str(_HALF_CLOSED), "--timeout-disconnect", str(_DISCONNECT))
    figures = []
    with workshop.server("app", *options, module=f"tests.frameworks.asgi_{framework}") as server:
        # Sanic logs what its handlers raise.
        server.tracebacks_allowed = 100 if framework == "sanic" else 0
        for path in ("/idle", "/busy", *(("/sse/idle", "/sse/busy") if framework == "falcon" else ())):
            for end in ("close", "reset"):
                busy = path.endswith("busy")
                seconds = _seconds_until_closed(server, path.encode(), end, events=5 if busy else 1)
                allowed = _DISCONNECT + (_HALF_CLOSED if end == "close" else 0) + _TICK
                bar = 1.0 if listens or busy else allowed
                figures.append(Figure(f"{framework} {path[1:]}, {end}", seconds, "s", bar))
    return figures


@case("LEFT", "from the end of a connection to the `finally` of a generator, nine ASGI frameworks", 300)
def left_streams(workshop: Workshop) -> list[Figure]:
    return [figure for framework in (*_LISTENING, *_NOT_LISTENING) for figure in _figures(workshop, framework)]
