"""SIGTERM under load: D13."""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from .clients import get, wait_until
from .measuring import Figure, case
from .servers import CaseFailed, Server, Workshop

_STARTS: Final = 10
_REQUESTS: Final = 1000
_CLIENTS: Final = 16
_PATHS: Final = ("/", "/late", "/pieces", "/length")
_CONTENT: Final = b"x" * 100_000


@dataclass
class Tally:
    """Counts the outcomes of requests. A refused connection does not count."""

    complete: int = 0
    lost: int = 0
    truncated: int = 0
    how: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, complete: bool = False, truncated: bool = False, how: str = "") -> None:
        """Count one request."""
        with self.lock:
            self.complete += complete
            self.truncated += truncated
            self.lost += not complete and not truncated
            if how:
                self.how.append(how)


class _PersistentClient(threading.Thread):
    """A client that keeps its connection as long as the server does, and reconnects until it is refused."""

    def __init__(self, port: int, number: int, tally: Tally, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._turn = number
        self._tally = tally
        self._stop_asked = stop

    def run(self) -> None:
        while not self._stop_asked.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
            try:
                connection.connect()
            except OSError:
                return
            # Not to reconnect silently: a request on a connection that has gone is a loss.
            connection.auto_open = 0
            try:
                self._use(connection)
            finally:
                connection.close()

    def _use(self, connection: http.client.HTTPConnection) -> None:
        requests = 0
        keep_alive = True
        while keep_alive and not self._stop_asked.is_set():
            self._turn += 1
            path = _PATHS[self._turn % len(_PATHS)]
            response = None
            try:
                connection.request(
                    "POST" if path == "/length" else "GET", path, _CONTENT if path == "/length" else None
                )
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                how = f"request {requests + 1} of a connection, {path}: {error!r:.60}"
                self._tally.add(truncated=response is not None, how=how)
                return
            requests += 1
            good = response.status == 200 and (path != "/length" or content == str(len(_CONTENT)).encode())
            self._tally.add(complete=good, how="" if good else f"{path}: {response.status} {content[:50]!r}")
            keep_alive = not response.will_close


def _stop_under_load(server: Server, tally: Tally) -> tuple[int, float]:
    """Stop the server under load; return the exit code, and the seconds until it ended."""
    stop = threading.Event()
    threads = [_PersistentClient(server.port, number, tally, stop) for number in range(_CLIENTS)]
    before = tally.complete
    for thread in threads:
        thread.start()
    try:
        if not wait_until(lambda: tally.complete - before >= _REQUESTS, 30):
            raise CaseFailed(f"{tally.complete - before} of {_REQUESTS} requests in 30 seconds")
        began = time.monotonic()
        code = server.terminate(40)
        took = time.monotonic() - began
        for thread in threads:
            thread.join(10)
    finally:
        stop.set()
    if any(thread.is_alive() for thread in threads):
        raise CaseFailed("a client still waits for a server that has exited")
    return code, took


@case("D13", "SIGTERM under the load of 16 persistent clients, 10 starts, 1,000 requests and more each", 400)
def stops(workshop: Workshop) -> list[Figure]:
    tally = Tally()
    codes: list[int] = []
    longest = 0.0
    for _ in range(_STARTS):
        with workshop.server() as server:
            code, took = _stop_under_load(server, tally)
        codes.append(code)
        longest = max(longest, took)
    total = tally.complete + tally.lost + tally.truncated
    note = "; ".join((f"{total} requests, stopped within {longest:.1f} s", *tally.how[:3]))
    return [
        Figure("requests lost", tally.lost, "count", 0, bar_may_be_met=True, note=note),
        Figure("responses truncated", tally.truncated, "count", 0, bar_may_be_met=True),
        Figure("exit codes other than 0", sum(code != 0 for code in codes), "count", 0, bar_may_be_met=True),
    ]


@case("EXIT", "SIGTERM while a job of a thread pool sleeps, with one process and with two workers", 90)
def foreign_thread(workshop: Workshop) -> list[Figure]:
    longest, codes, warnings = 0.0, [], []
    for options in ((), ("--workers", "2")):
        with workshop.server("serve", "--timeout-graceful-shutdown", "1", *options) as server:
            get(server.port, b"/job")
            began = time.monotonic()
            codes.append(server.terminate(30))
            longest = max(longest, time.monotonic() - began)
            warnings.append(server.stderr().count("threads still run after the server has stopped"))
    return [
        Figure("SIGTERM to exit, at most", longest, "s", 8.0),
        Figure("exit codes other than 0", sum(code != 0 for code in codes), "count", 0, bar_may_be_met=True),
        Figure("stops without one warning", sum(count != 1 for count in warnings), "count", 0, bar_may_be_met=True),
    ]
