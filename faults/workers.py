"""Several processes: one is killed, all are replaced under load, and the cost of their supervisor: D14."""

from __future__ import annotations

import http.client
import math
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .clients import wait_until
from .measuring import MIB, Figure, case
from .servers import CaseFailed, Server, Workshop

_WORKERS: Final = ("--workers", "2")
_RATE: Final = 100
_CLIENTS: Final = 10
_PATHS: Final = ("/", "/late", "/pieces", "/kilobyte")


@dataclass
class _Tally:
    """Counts the outcomes of requests. A request is repeated if the server had closed the kept connection before."""

    complete: int = 0
    failed: int = 0
    truncated: int = 0
    sent_again: int = 0
    slowest: float = 0.0
    stopping: bool = False
    how: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class _Client(threading.Thread):
    """A client that sends ten requests a second, three on each connection."""

    def __init__(self, port: int, number: int, tally: _Tally, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._number = number
        self._tally = tally
        self._stop_asked = stop

    def run(self) -> None:
        connection = self._connection()
        requests = 0
        due = time.monotonic() + self._number / _RATE
        while not self._stop_asked.wait(max(0.0, due - time.monotonic())):
            due += _CLIENTS / _RATE
            if requests % 3 == 0:
                connection.close()
                connection = self._connection()
            requests += 1
            if not self._ask(connection, _PATHS[requests % len(_PATHS)]):
                requests = 0
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)

    def _ask(self, connection: http.client.HTTPConnection, path: str) -> bool:
        began = time.monotonic()
        kept = connection.sock is not None
        response = None
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            good = len(response.read()) > 0 and response.status == 200
            how = f"{path}: {response.status}"
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            if kept and response is None:
                # RFC 9112, section 9.3.1: a GET may be sent again, for an idle connection may be closed at any time.
                connection.close()
                with self._tally.lock:
                    self._tally.sent_again += 1
                return self._ask(connection, path)
            good, how = False, f"{path}: {error!r:.60}"
        except (OSError, http.client.HTTPException) as error:
            if self._tally.stopping and isinstance(error, ConnectionRefusedError):
                return False
            good, how = False, f"{path}: {error!r:.60}"
        with self._tally.lock:
            self._tally.complete += good
            self._tally.failed += not good and response is None
            self._tally.truncated += not good and response is not None
            self._tally.slowest = max(self._tally.slowest, time.monotonic() - began)
            if not good:
                self._tally.how.append(how)
        return good


@contextmanager
def _load(port: int) -> Iterator[_Tally]:
    tally, stop = _Tally(), threading.Event()
    threads = [_Client(port, number, tally, stop) for number in range(_CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield tally
    finally:
        stop.set()
        for thread in threads:
            thread.join(25)


def _ready(server: Server) -> list[int]:
    """Return every worker that has been ready."""
    return [int(pid) for pid in re.findall(r"worker (\d+) is ready", server.stderr())]


def _await_ready(server: Server, count: int, seconds: float = 20) -> None:
    if not wait_until(lambda: len(_ready(server)) >= count, seconds):
        raise CaseFailed(f"{len(_ready(server))} of {count} workers became ready: {server.stderr()[-300:]}")


def _figures(tally: _Tally) -> list[Figure]:
    answered = f"{tally.complete} requests, slowest {tally.slowest * 1000:.0f} ms, sent again {tally.sent_again}"
    note = "; ".join((answered, *tally.how[:3]))
    return [
        Figure("requests failed", tally.failed, "count", 0, bar_may_be_met=True, note=note),
        Figure("responses truncated", tally.truncated, "count", 0, bar_may_be_met=True),
    ]


@case("D14a", "kill -9 of one of two workers under 100 requests/s, five times", 120)
def killed(workshop: Workshop) -> list[Figure]:
    longest, at_most = 0.0, 0
    with workshop.server("serve", *_WORKERS) as server:
        _await_ready(server, 2)
        with _load(server.port) as tally:
            for number in range(5):
                # Longer than a worker has to live for its end not to count as one of a row.
                time.sleep(11)
                victim = _ready(server)[-1]
                began = time.monotonic()
                os.kill(victim, signal.SIGKILL)
                _await_ready(server, 3 + number)
                longest = max(longest, time.monotonic() - began)
                # What was inside of it: of each client, one request.
                at_most += _CLIENTS
        lost = tally.failed + tally.truncated
        note = f"{tally.complete} requests answered; {'; '.join(tally.how[:3])}"
        return [
            Figure("a worker is replaced after, at most", longest, "s", 2.0, bar_may_be_met=True),
            Figure("requests lost with the workers", lost, "count", at_most, bar_may_be_met=True, note=note),
        ]


@case("D14b", "SIGHUP, SIGTTIN, SIGTTOU, SIGHUP and SIGTERM under 100 requests/s", 120)
def rolling(workshop: Workshop) -> list[Figure]:
    with workshop.server("serve", *_WORKERS) as server:
        _await_ready(server, 2)
        with _load(server.port) as tally:
            count = 2
            for number, more in ((signal.SIGHUP, 2), (signal.SIGTTIN, 1), (signal.SIGTTOU, 0), (signal.SIGHUP, 2)):
                time.sleep(1)
                server.process.send_signal(number)
                count += more
                _await_ready(server, count)
            time.sleep(1)
            tally.stopping = True
            code = server.terminate(40)
        return [*_figures(tally), Figure("exit code", code, "", 0, bar_may_be_met=True)]


@case("D14c", "workers that are replaced after 300 requests and up to 100 more, under 100 requests/s for 20 s", 120)
def recycled(workshop: Workshop) -> list[Figure]:
    options = ("--limit-max-requests", "300", "--limit-max-requests-jitter", "100")
    with workshop.server("serve", *_WORKERS, *options) as server:
        _await_ready(server, 2)
        with _load(server.port) as tally:
            time.sleep(20)
        replaced = len(_ready(server)) - 2
        return [
            *_figures(tally),
            Figure("workers that were not replaced, of 4", max(0, 4 - replaced), "count", 0, bar_may_be_met=True),
        ]


@case("SUP", "what a supervisor of two workers takes, after a rolling restart", 60)
def supervisor(workshop: Workshop) -> list[Figure]:
    with workshop.server("serve", *_WORKERS) as server:
        _await_ready(server, 2)
        server.process.send_signal(signal.SIGHUP)
        _await_ready(server, 4)
        memory = Path("/proc", str(server.process.pid), "smaps_rollup").read_text()
        rss, pss = (int(re.findall(rf"^{name}:\s+(\d+) kB", memory, re.MULTILINE)[0]) for name in ("Rss", "Pss"))
        return [
            Figure("RSS of the supervisor", rss * 1024 / MIB, "MiB", 25),
            Figure("PSS of the supervisor", pss * 1024 / MIB, "MiB", 25),
        ]


@case("ORPHAN", "kill -9 of the supervisor of two workers, one with a blocked event loop; grace period of 1 s", 60)
def orphan(workshop: Workshop) -> list[Figure]:
    with workshop.server("serve", *_WORKERS, "--timeout-graceful-shutdown", "1") as server:
        _await_ready(server, 2)
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET /blocked HTTP/1.1\r\nhost: x\r\n\r\n")
            time.sleep(0.5)
            began = time.monotonic()
            server.terminate(20, signal.SIGKILL)
            ended = wait_until(lambda: not any(map(_runs, _ready(server))), 20)
            took = time.monotonic() - began if ended else math.inf
        left = sum(map(_runs, _ready(server)))
        return [
            Figure("kill -9 to the end of the last worker", took, "s", 4.0),
            Figure("workers that live on", left, "count", 0, bar_may_be_met=True),
        ]


def _runs(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path("/proc", str(pid), "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
