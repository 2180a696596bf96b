"""What one WSGI request costs in process, threads and all: bytes in, bytes out, no socket.

As bench/protocol.py, but requests come on 64 connections at once and the event loop waits until all are answered, as it
does under load. The process is kept on one CPU, where servers are measured too. README.md says how to read the output.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import protocol
from protocol import CONNECTIONS, GET, VARIED, Harness, microseconds

# As servers have them when they are measured.
sys.path.insert(0, str(Path(__file__).resolve().parent / "apps"))

import hello_bridge
import hello_inline
import hello_wsgi

from uvicorn import ASGIAdapter
from uvicorn.server.loops import loop_factory


@dataclass(frozen=True)
class Row:
    """An application, and the way it is called."""

    name: str
    app: Any


ROWS = (
    Row("on the loop's thread (floor)", hello_inline.app),
    Row("on the worker pool", hello_wsgi.app),
    Row("in a mixed site", hello_bridge.mixed),
    Row("on a ThreadPoolExecutor", ASGIAdapter(hello_wsgi.app, executor=ThreadPoolExecutor(8))),
    Row("(async, no WSGI)", hello_bridge.hello),
)


class ThreadedHarness(Harness):
    """A harness that waits for responses in the event loop's poll, so that worker threads get the interpreter."""

    def __init__(self, row: Row, requests: tuple[bytes, ...]) -> None:
        super().__init__(protocol.Scenario(row.name, row.app, requests))
        self._unanswered = 0
        self._answered = asyncio.get_running_loop().create_future()
        for transport in self.transports:
            transport.on_write = self._note

    async def check(self) -> None:
        """Check that each request gets a response. Raises TimeoutError if one is missing."""
        async with asyncio.timeout(10):
            await super().check()
        for transport in self.transports:
            transport.on_write = self._note

    async def request(self, connections: Sequence[asyncio.BaseProtocol]) -> None:
        """Send one request on each of `connections`, and await all responses."""
        self._unanswered = len(connections)
        self._answered = asyncio.get_running_loop().create_future()
        self.feed(connections)
        await self._answered

    def _note(self, data: bytes) -> None:
        if len(self.written) < 4096:
            self.written.extend(data)
        self._unanswered -= 1
        if not self._unanswered:
            self._answered.set_result(None)


async def run(seconds: float) -> None:
    """Run all rows."""
    loop = type(asyncio.get_running_loop()).__module__
    print(f"Python {sys.version.split()[0]}, {loop}, {CONNECTIONS} connections at once\n")
    print(f"{'':<30} {'varied heads':>17} {'one head':>17}")
    print(f"{'WSGI hello':<30}" + f" {'us':>7} {'floor/it':>9}" * 2)
    floors: list[float] = []
    for row in ROWS:
        bests = []
        for requests in (VARIED, GET):
            harness = ThreadedHarness(row, requests)
            await harness.check()
            bests.append(await microseconds(harness, harness.connections, seconds))
        floors = floors or bests
        figures = (f" {best:7.2f} {floor / best:9.2f}" for best, floor in zip(bests, floors, strict=True))
        print(f"{row.name:<30}" + "".join(figures), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row (2)")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(run(options.seconds))


if __name__ == "__main__":
    main()
