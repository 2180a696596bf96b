"""WSGI applications that block, and their clients that disconnect: C9, C10."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from .clients import REQUEST, connect, get, normal_client, read_response, reset, wait_until
from .measuring import Figure, case
from .servers import CaseFailed, Server, Workshop

# As wsgi_apps.py has them, which cannot be imported here.
_THREADS: Final = 40
_QUEUE: Final = 160

_MORE: Final = 5


def _occupy(server: Server, stack: ExitStack) -> list[socket.socket]:
    """Send as many requests as there are threads, and as many as may wait."""
    sockets = []
    for _ in range(_THREADS + _QUEUE):
        sock = stack.enter_context(connect(server.port, timeout=20))
        sock.sendall(REQUEST % b"/block")
        sockets.append(sock)
    expected = b"%d %d" % (_THREADS, _QUEUE)
    if not wait_until(lambda: get(server.port, b"/state") == expected, 10):
        state = get(server.port, b"/state").decode()
        raise CaseFailed(f"expected {expected.decode()} requests blocked and waiting, got {state}")
    return sockets


def _is_refused(port: int) -> bool:
    """Return whether one more request gets 503."""
    with connect(port) as sock:
        sock.sendall(REQUEST % b"/block")
        try:
            head = sock.recv(65536).lower()
        except TimeoutError:
            return False
    return head.startswith(b"http/1.1 503 ") and b"\r\nretry-after: " in head


def _released(server: Server, sockets: Sequence[socket.socket]) -> int:
    """Release the blocked requests; return how many get a response."""
    get(server.port, b"/release")
    return sum(read_response(sock) == (200, b"released") for sock in sockets)


@case("C9", "200 WSGI requests that block, on 40 threads, beside an async endpoint", 60)
def blocked_threads(workshop: Workshop) -> list[Figure]:
    with workshop.server("mixed", module="wsgi_app") as server, ExitStack() as stack:
        sockets = _occupy(server, stack)
        with normal_client(server.port) as latency:
            time.sleep(3)
            refused = sum(_is_refused(server.port) for _ in range(_MORE))
        unanswered = len(sockets) - _released(server, sockets)
    return [
        Figure("p99 of the async endpoint", latency.p99, "ms", 100, note=str(latency)),
        Figure("over 200, not told 503 and Retry-After", _MORE - refused, "count", 0, bar_may_be_met=True),
        Figure("of 200, not answered when released", unanswered, "count", 0, bar_may_be_met=True),
    ]


@case("C9b", "jobs that wait for a worker while others are idle, 8 threads", 60)
def waits_for_a_worker(workshop: Workshop) -> list[Figure]:
    probe = Path(__file__).with_name("pool_probe.py")
    command = [sys.executable, str(probe), workshop.loop]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=50).stdout
    by_blocked, newly_blocked, burst = json.loads(output)
    medians = [statistics.median(waits) for waits in by_blocked]
    note = "medians in ms with 0 to 7 blocked: " + " ".join(f"{median:.2f}" for median in medians)
    # Two looks at headway, a millisecond apart. The bar of the second figure leaves room for a busy machine.
    return [
        Figure("median wait with 1 to 7 workers blocked, worst", max(medians[1:]), "ms", 2.2, note=note),
        Figure("p99 of the same", _p99([wait for waits in by_blocked[1:] for wait in waits]), "ms", 5),
        Figure("median wait right after a job that blocks", statistics.median(newly_blocked), "ms", 3),
        Figure("longest of 32 jobs at once that take 0.5 ms", burst, "ms", 6),
    ]


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def _seconds_until_over(server: Server, path: bytes, lines: Sequence[str], number: int) -> float:
    """Reset the client of an endless response; return the seconds until the application has printed `lines`."""
    sock = connect(server.port)
    sock.sendall(REQUEST % path)
    received = 0
    while received < 300:
        received += len(sock.recv(65536))
    at = time.monotonic()
    reset(sock)

    def times(line: str) -> list[float]:
        return [float(text.split()[1]) for text in server.stdout().splitlines() if text.startswith(line)]

    if not wait_until(lambda: all(len(times(line)) > number for line in lines), 5):
        heard = ", ".join(f"{line}: {len(times(line)) - number}" for line in lines)
        raise CaseFailed(f"{path.decode()}: not over within 5 seconds ({heard})")
    if any(len(times(line)) > number + 1 for line in lines):
        raise CaseFailed(f"{path.decode()}: closed more than once")
    return max(times(line)[number] for line in lines) - at


def _departures(server: Server, lines_of: dict[bytes, Sequence[str]]) -> list[Figure]:
    figures = []
    for path, lines in lines_of.items():
        before = {line: server.stdout().count(line) for line in lines}
        if len(set(before.values())) != 1:
            raise CaseFailed(f"{path.decode()}: an earlier response is not over")
        number = next(iter(before.values()))
        longest = 0.0
        for turn in range(5):
            longest = max(longest, _seconds_until_over(server, path, lines, number + turn))
        figures.append(Figure(f"{path.decode()} over after, at most", longest, "s", 1))
    return figures


def _wsgi_departures(server: Server) -> list[Figure]:
    # Endless first: its `closed` lines count with those of the other.
    figures = _departures(server, {b"/endless": ("stopped", "closed")})
    return figures + _departures(server, {b"/endless-drops": ("closed",)})


def _async_departures(server: Server) -> list[Figure]:
    return _departures(server, {b"/endless": ("ended",), b"/endless-drops": ("ended",)})


@case("C10", "clients that leave an endless WSGI response, served directly", 60)
def departures(workshop: Workshop) -> list[Figure]:
    with workshop.server("serve", module="wsgi_app") as server:
        return _wsgi_departures(server)


@case("C10-messages", "the same, through an ASGIAdapter that is called with messages", 60)
def departures_by_messages(workshop: Workshop) -> list[Figure]:
    with workshop.server("routed", module="wsgi_app") as server:
        return _wsgi_departures(server)


@case("C10-sync", "clients that leave an endless async response, WSGIAdapter on gunicorn sync", 60)
def departures_sync(workshop: Workshop) -> list[Figure]:
    with workshop.host("gunicorn-sync", "bridged") as server:
        return _async_departures(server)


@case("C10-gthread", "the same on gunicorn gthread", 60)
def departures_gthread(workshop: Workshop) -> list[Figure]:
    with workshop.host("gunicorn-gthread", "bridged") as server:
        return _async_departures(server)


@case("C10-waitress", "the same on waitress", 60)
def departures_waitress(workshop: Workshop) -> list[Figure]:
    with workshop.host("waitress", "bridged") as server:
        return _async_departures(server)
