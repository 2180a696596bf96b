"""`--watch-loop`: it names the line that blocks the event loop, is silent under load, and takes little CPU time."""

from __future__ import annotations

import time
from typing import Final

from .clients import REQUEST, connections, get, read_response, wait_until
from .measuring import Figure, case
from .servers import CaseFailed, Server, Workshop

_LIMIT: Final = "0.2"
_BLOCKED: Final = "blocked the event loop"

_RATE: Final = 1000
_CONNECTIONS: Final = 40
_LOAD_SECONDS: Final = 60.0
_IDLE_SECONDS: Final = 20.0


def _load(port: int) -> int:
    """Send `_RATE` requests a second, and return their number."""
    began = time.monotonic()
    count = 0
    with connections(port, _CONNECTIONS) as sockets:
        while time.monotonic() < began + _LOAD_SECONDS:
            for sock in sockets:
                sock.sendall(REQUEST % b"/late")
            for sock in sockets:
                read_response(sock)
            count += _CONNECTIONS
            time.sleep(max(0, began + count / _RATE - time.monotonic()))
    return count


def _percent(server: Server, used: float, seconds: float, what: str) -> Figure:
    return Figure(f"CPU time of the watch, {what}", (server.thread_seconds() - used) / seconds * 100, "%", 0.1)


@case("LOOP", "a handler that blocks for 0.3 s; 1,000 requests a second for a minute", 120)
def watched_loop(workshop: Workshop) -> list[Figure]:
    with workshop.server("serve", "--watch-loop", _LIMIT) as server:
        used = server.thread_seconds()
        time.sleep(_IDLE_SECONDS)
        idle = _percent(server, used, _IDLE_SECONDS, "idle")
        used, began = server.thread_seconds(), time.monotonic()
        count = _load(server.port)
        loaded = _percent(server, used, time.monotonic() - began, "under load")
        lines = server.stderr().count(_BLOCKED)
        get(server.port, b"/paused")
        if not wait_until(lambda: f"in _pause, called by serve: {_BLOCKED}" in server.stderr(), 5):
            raise CaseFailed("a handler that blocks for 0.3 s was not logged")
    silent = Figure("log under load", lines, "lines", 0, bar_may_be_met=True, note=f"{count} requests")
    return [idle, loaded, silent]
