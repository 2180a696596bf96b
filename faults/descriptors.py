"""Lack and loss of file descriptors: D10."""

from __future__ import annotations

import select
import socket
import threading
import time
from typing import Final

from .clients import REQUEST, connections, get, read_response, reset, wait_until
from .measuring import MIB, Figure, case
from .servers import CaseFailed, Server, Workshop

_CONNECTS: Final = 100_000
_AT_A_TIME: Final = 8

# Chosen here: some lines a second tell what is wrong, hundreds fill a disk.
_MOST_LINES_A_SECOND: Final = 12

# Linux's IP_BIND_ADDRESS_NO_PORT, which Python's socket module does not name before 3.12.
_BIND_NO_PORT: Final = 24


@case("D10a", "200 clients of a server that may open 64 descriptors", 60)
def exhausted(workshop: Workshop) -> list[Figure]:
    return _exhausted(workshop, clients=200)


@case("D10c", "400 clients of two workers that may open 64 descriptors each", 60)
def workers_exhausted(workshop: Workshop) -> list[Figure]:
    return _exhausted(workshop, "--workers", "2", clients=400)


def _exhausted(workshop: Workshop, *options: str, clients: int) -> list[Figure]:
    with workshop.server("serve", *options, descriptors=64) as server:
        with connections(server.port, clients) as sockets:
            time.sleep(0.5)
            lines, cpu, began = len(server.stderr().splitlines()), server.cpu_seconds(), time.monotonic()
            time.sleep(4)
            passed = time.monotonic() - began
            cpu = (server.cpu_seconds() - cpu) / passed
            lines_a_second = (len(server.stderr().splitlines()) - lines) / passed
            held = len(sockets) - len(select.select(sockets, [], [], 0)[0])
        served = _served_after(server.port, time.monotonic())
        note = f"{held} of {clients} clients held, the others were closed"
        return [
            Figure("CPU time per second while exhausted", cpu, "s", 0.3, note=note),
            Figure("lines on stderr per second", lines_a_second, "count", _MOST_LINES_A_SECOND),
            Figure("a new client is served after", served, "s", 1, bar_may_be_met=True),
        ]


def _served_after(port: int, freed: float) -> float:
    while time.monotonic() < freed + 5:
        try:
            get(port, timeout=5)
            return time.monotonic() - freed
        except OSError:
            time.sleep(0.01)
    raise CaseFailed("a new client was not served within 5 seconds after descriptors were free")


class _Connector(threading.Thread):
    """Connects again and again, from an address of its own so that ports last; in turn closes at once, resets at
    once, and makes a request first."""

    def __init__(self, port: int, number: int, count: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.done = 0
        self._count = count
        self.error: OSError | None = None
        self._port = port
        self._source = f"127.0.0.{2 + number}"
        self._stop_asked = stop

    def run(self) -> None:
        try:
            while self.done < self._count and not self._stop_asked.is_set():
                self._connect(self.done % 3)
                self.done += 1
        except OSError as error:
            self.error = error

    def _connect(self, kind: int) -> None:
        with socket.socket() as sock:
            sock.settimeout(10)
            sock.setsockopt(socket.IPPROTO_IP, _BIND_NO_PORT, 1)
            sock.bind((self._source, 0))
            sock.connect(("127.0.0.1", self._port))
            if kind == 1:
                sock.sendall(REQUEST % b"/")
                read_response(sock)
            if kind:
                reset(sock)


def _connect_many(server: Server, seconds: float, count: int) -> int:
    stop = threading.Event()
    threads = [_Connector(server.port, number, count // _AT_A_TIME, stop) for number in range(_AT_A_TIME)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    try:
        for thread in threads:
            thread.join(max(0, deadline - time.monotonic()))
    finally:
        stop.set()
        for thread in threads:
            thread.join(15)
    failures = [str(thread.error) for thread in threads if thread.error is not None]
    if failures:
        raise CaseFailed(f"connecting failed: {failures[0]}")
    return sum(thread.done for thread in threads)


@case("D10b", "100,000 connects, 8 at a time: closed, reset, or reset after a response", 240)
def many_connects(workshop: Workshop) -> list[Figure]:
    with workshop.server() as server:
        # What the allocator keeps for good, it has by then.
        _connect_many(server, 180, _CONNECTS // 10)
        server.mark_idle()
        before, tasks = server.descriptors(), int(get(server.port, b"/tasks"))
        done = _connect_many(server, 180, _CONNECTS)
        wait_until(lambda: server.descriptors() <= before, 10)
        left = abs(server.descriptors() - before)
        tasks_left = abs(int(get(server.port, b"/tasks")) - tasks)
        return [
            Figure("connects not made in 180 s", _CONNECTS - done, "count", 0, bar_may_be_met=True),
            Figure("change of open descriptors", left, "count", 0, bar_may_be_met=True, note=f"{before} before"),
            Figure("change of tasks", tasks_left, "count", 0, bar_may_be_met=True),
            Figure("RSS growth", server.growth() / MIB, "MiB", 5),
        ]
