"""New clients at a busy server, and the distribution of connections over workers."""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from .clients import REQUEST, read_response
from .measuring import Figure, case
from .servers import CaseFailed, Workshop

_BUSY: Final = 200
_NEW: Final = 100
_ROUNDS: Final = 5

_WORKERS: Final = 4
_KEPT: Final = 400


def _connect_at_once(port: int, count: int, stack: ExitStack) -> dict[socket.socket, float]:
    """Connect `count` clients at once, each with a request; return the seconds until each has its response."""
    times: dict[socket.socket, float] = {}
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for _ in range(count):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            selector.register(sock, selectors.EVENT_WRITE)
        while len(times) < count:
            ready = selector.select(10)
            if not ready:
                raise CaseFailed("new clients were not answered within 10 seconds")
            for key, events in ready:
                assert isinstance(key.fileobj, socket.socket)
                if events & selectors.EVENT_WRITE:
                    key.fileobj.sendall(REQUEST % b"/")
                    selector.modify(key.fileobj, selectors.EVENT_READ)
                else:
                    read_response(key.fileobj)
                    times[key.fileobj] = time.perf_counter() - began
                    selector.unregister(key.fileobj)
    return times


@case("ACCEPT", "100 new clients at once, five times, of a server that 200 connections keep busy", 60)
def new_clients(workshop: Workshop) -> list[Figure]:
    with workshop.server() as server:
        command = [sys.executable, str(Path(__file__).with_name("busy_clients.py")), str(server.port), str(_BUSY)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as busy:
            assert busy.stdin is not None and busy.stdout is not None
            try:
                if busy.stdout.readline() != "busy\n":
                    raise CaseFailed("the busy connections were not made")
                worst = 0.0
                for _ in range(_ROUNDS):
                    time.sleep(0.5)
                    with ExitStack() as stack:
                        worst = max(worst, *_connect_at_once(server.port, _NEW, stack).values())
                busy.stdin.close()
                percentile = float(busy.stdout.readline()) / 1000
            finally:
                busy.kill()
        note = f"worst {worst * 1000:.0f} ms, p99 of the busy connections {percentile * 1000:.0f} ms"
        return [Figure("worst new client, by that p99", worst / percentile, "times", 2, True, note)]


@case("SHARE", "400 kept-alive connections to four workers: the most that one has, by its share", 60)
def shares(workshop: Workshop) -> list[Figure]:
    with workshop.server("serve", "--workers", str(_WORKERS)) as server, ExitStack() as stack:
        pid = server.process.pid
        children = Path("/proc", str(pid), "task", str(pid), "children")
        deadline = time.monotonic() + 20
        while len(workers := children.read_text().split()) < _WORKERS or "ready" not in server.stderr():
            if time.monotonic() > deadline:
                raise CaseFailed("the workers were not started")
            time.sleep(0.05)
        while server.stderr().count(" is ready") < _WORKERS and time.monotonic() < deadline:
            time.sleep(0.05)
        folders = [Path("/proc", worker, "fd") for worker in workers]
        before = [len(list(folder.iterdir())) for folder in folders]
        _connect_at_once(server.port, _KEPT, stack)
        held = [len(list(folder.iterdir())) - count for folder, count in zip(folders, before, strict=True)]
        most = max(held) * _WORKERS / _KEPT
        return [Figure("the most of one worker, by its share", most, "times", 1.5, True, f"held: {held}")]
