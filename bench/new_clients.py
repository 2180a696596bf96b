"""How long new clients wait at a busy server: 200 connections keep it busy, 100 more at once connect, ask and leave.

Five times, one after another; what counts is the longest wait, from connecting to the end of the answer. README.md
says how to read the output.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from contenders import GRANIAN, OURS, PUBLIC_UVICORN, granian, public_uvicorn, uvicorn
from environments import CHECKOUT
from heads import one_head
from results import Results, Target
from rounds import Contender, Scenario, run_program
from servers import Question

_CLIENTS = 100
_TIMES = 5
_HEAD_START_SECONDS = 0.5
_PAUSE_SECONDS = 0.1
_TIMEOUT_SECONDS = 3.0


@dataclass(frozen=True)
class Arrivals(Question):
    """The varied load, with new clients beside it on the CPU of the load."""

    @contextmanager
    def load(self, port: int, connections: int, seconds: int) -> Iterator[list[str]]:
        with super().load(port, connections, seconds) as command:
            yield [sys.executable, __file__, str(port), *command]


def arrive(port: int) -> list[float]:
    """Connect new clients at once; return the seconds that each waited for its response."""
    head = one_head(f"127.0.0.1:{port}", "/articles")
    waits = []
    started = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(_CLIENTS):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", port))
            selector.register(sock, selectors.EVENT_WRITE, (sock, bytearray()))
        while selector.get_map() and time.perf_counter() < started + _TIMEOUT_SECONDS:
            for key, events in selector.select(_TIMEOUT_SECONDS):
                sock, answer = key.data
                if events & selectors.EVENT_WRITE:
                    sock.send(head)
                    selector.modify(sock, selectors.EVENT_READ, key.data)
                    continue
                received = sock.recv(65536)
                # Head and content may come one by one.
                answer += received
                if received and not answer.endswith(b"Hello, world"):
                    continue
                if received:
                    waits.append(time.perf_counter() - started)
                selector.unregister(sock)
                sock.close()
        for key in list(selector.get_map().values()):
            key.data[0].close()
    return waits


def main(port: int, command: list[str]) -> None:
    """Run wrk with new clients beside it, until there were enough or wrk ends; print both reports."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    time.sleep(_HEAD_START_SECONDS)
    waits, unanswered = [], 0
    for _ in range(_TIMES):
        found = arrive(port)
        # A server that wrk has just left is not busy.
        if process.poll() is not None:
            break
        waits += found
        unanswered += _CLIENTS - len(found)
        time.sleep(_PAUSE_SECONDS)
    print(process.communicate()[0])
    print(f"New clients: worst {max(waits, default=_TIMEOUT_SECONDS) * 1e3:.1f} ms, {unanswered} without an answer")


_APP = ("app:hello_world", "--app-dir", str(CHECKOUT / "examples" / "hello"))

CONTENDERS = (
    Contender("ours", OURS, uvicorn(*_APP), is_peer=False),
    Contender("ours-asyncio", OURS, uvicorn(*_APP, "--loop", "asyncio"), is_peer=False),
    Contender("granian-asgi", GRANIAN, granian("asginl", "hello_asgi:app")),
    Contender("public-uvicorn", PUBLIC_UVICORN, public_uvicorn("hello_asgi:app")),
)


def _target(ours: str) -> Target:
    def bound(results: Results) -> float | None:
        p99 = results.p99(ours)
        return None if p99 is None else 2 * p99

    what = f"{ours}, new ms against 2 x p99"
    return Target("S2a", 200, what, "<=", bound, lambda results: results.new_clients(ours))


SCENARIO = Scenario(
    "new-clients",
    "100 new clients at a busy server",
    CONTENDERS,
    (_target("ours"), _target("ours-asyncio")),
    Arrivals(),
)

if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[2] == "wrk":
        main(int(sys.argv[1]), sys.argv[2:])
    else:
        # Long enough for five times where new clients wait a second.
        run_program([SCENARIO], __doc__, [200], seconds=7)
