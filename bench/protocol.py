"""What one request costs in process: bytes in, bytes out, no socket; with varied heads, and with one repeated.

Drives `HTTP1Connection` as an event loop would, on a transport that only counts. What the harness itself takes is
printed as its own line and is part of every other. README.md says how to read the output.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# The checkout that this file is part of, whatever else is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from heads import COUNT, one_head, varied_heads

from uvicorn.interfaces.detect import build_interface
from uvicorn.server.clock import Clock
from uvicorn.server.context import ServerContext
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.loops import loop_factory
from uvicorn.settings import Settings

Application = Callable[..., Any]

# As many as in the load benchmark, in turn, so that no connection's state stays in the nearest cache.
CONNECTIONS = 64

# What is the same in every request is cached on the first ones, and the interpreter specialises its instructions.
_WARM_UP_ROUNDS = 50

# Each connection gets another of the heads every time, and all of them before one comes again: 65 and 512 have no
# common factor, whereas 64 would give each connection the same eight.
_STEP = CONNECTIONS + 1

_HELLO_BUDGET_MICROSECONDS = 9.0


async def hello(message: Any, channels: Any) -> None:
    """Respond with 12 bytes."""
    await channels["reply"].send(
        {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"Hello, world"}
    )


async def echo(message: Any, channels: Any) -> None:
    """Respond with the request's content."""
    content = b""
    more_content = True
    while more_content:
        chunk = await channels["body"].receive()
        content += chunk["content"]
        more_content = chunk["more_content"]
    await channels["reply"].send({"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": content})


async def stream(message: Any, channels: Any) -> None:
    """Respond with three pieces."""
    send = channels["reply"].send
    await send(
        {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"Hello", "more_content": True}
    )
    await send({"content": b", ", "more_content": True})
    await send({"content": b"world"})


async def hello_asgi3(scope: Any, receive: Any, send: Any) -> None:
    """Respond with 12 bytes, as an ASGI application."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"Hello, world"})


_HOST = "127.0.0.1:8000"
GET = (one_head(_HOST),)
VARIED = tuple(varied_heads(_HOST))
# From a proxy, which the transport's address makes a trusted one.
_VARIED_FORWARDED = tuple(varied_heads(_HOST, forwarded=True))
_GET_FORWARDED = (one_head(_HOST, forwarded=True),)
_BROWSER_GET = b"""GET /articles/2024/hello?page=2&sort=new HTTP/1.1
Host: www.example.org
Connection: keep-alive
sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"
sec-ch-ua-mobile: ?0
sec-ch-ua-platform: "Linux"
Upgrade-Insecure-Requests: 1
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8
Sec-Fetch-Site: same-origin
Accept-Encoding: gzip, deflate, br, zstd
Accept-Language: en-GB,en;q=0.9
Cookie: session=d41d8cd98f00b204e9800998ecf8427e; theme=dark

""".replace(b"\n", b"\r\n")
_POST = b"POST /echo HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n"
_KIBIBYTE = b"x" * 1024
_HELLO_END = b"content-length: 12\r\n\r\nHello, world"


@dataclass(frozen=True)
class Scenario:
    """An application, its requests, and the end of each response."""

    name: str
    app: Application
    requests: tuple[bytes, ...]
    ending: bytes = _HELLO_END


SCENARIOS = (
    Scenario("GET hello, varied", hello, VARIED),
    Scenario("  behind a proxy", hello, _VARIED_FORWARDED),
    Scenario("  as ASGI", hello_asgi3, VARIED),
    Scenario("GET hello, one head", hello, GET),
    Scenario("  behind a proxy", hello, _GET_FORWARDED),
    Scenario("  as ASGI", hello_asgi3, GET),
    Scenario("  a browser's head", hello, (_BROWSER_GET,)),
    Scenario("POST 1 KiB, echoed", echo, (_POST + _KIBIBYTE,), b"content-length: 1024\r\n\r\n" + _KIBIBYTE),
    Scenario("GET, streamed in 3 chunks", stream, GET, b"5\r\nworld\r\n0\r\n\r\n"),
)


class CountingTransport(asyncio.Transport):
    """A transport that is always writable. `on_write` is called with the written bytes."""

    def __init__(self, on_write: Callable[[bytes], object]) -> None:
        super().__init__()
        self.writes = 0
        self.on_write: Callable[[bytes], object] | None = on_write

    def write(self, data: Any) -> None:
        self.writes += 1
        if self.on_write is not None:
            self.on_write(data)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 8000) if name in ("sockname", "peername") else default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class Nothing(asyncio.BufferedProtocol):
    """A protocol that ignores its input, to measure the harness itself."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(65536))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer


class Harness:
    """Connections to one application, and requests for them."""

    def __init__(self, scenario: Scenario, counts: bool = False) -> None:
        """With `counts`, requests are counted for metrics."""
        settings = Settings(access_log=False, metrics="127.0.0.1:0" if counts else "")
        self.scenario = scenario
        requests = scenario.requests
        # So many that a slice of one for each connection can begin anywhere in the first 512.
        self._requests = [requests[number % len(requests)] for number in range(COUNT + CONNECTIONS)]
        self._next = 0
        self.written = bytearray()
        self.context = ServerContext(build_interface(scenario.app, settings), settings, Clock())
        # The date, as a running server's clock would have set it.
        self.context.tick()
        self.transports = [CountingTransport(self.written.extend) for _ in range(CONNECTIONS)]
        self.connections = [HTTP1Connection(self.context) for _ in self.transports]
        for connection, transport in zip(self.connections, self.transports, strict=True):
            connection.connection_made(transport)

    async def check(self) -> None:
        """Raise RuntimeError unless the response is right, twice on each connection."""
        for connection in self.connections * 2:
            self.written.clear()
            await self.request((connection,))
            if not (self.written.startswith(b"HTTP/1.1 200 OK\r\n") and self.written.endswith(self.scenario.ending)):
                raise RuntimeError(f"{self.scenario.name}: wrong answer {bytes(self.written)!r:.200}")
        for transport in self.transports:
            transport.on_write = None

    async def request(self, connections: Sequence[asyncio.BaseProtocol]) -> None:
        """Send one request on each of `connections`, and await all responses."""
        self.feed(connections)
        # Python 3.11 starts handlers on the loop's next turn; later ones have answered already.
        while self.context.requests:  # noqa: ASYNC110
            await asyncio.sleep(0)

    def feed(self, connections: Sequence[asyncio.BaseProtocol]) -> None:
        """Send one request on each of `connections`."""
        first = self._next
        self._next = (first + _STEP) % COUNT
        for connection, request in zip(connections, self._requests[first : first + CONNECTIONS], strict=False):
            length = len(request)
            # What an event loop does with what it reads, the kernel's copy included.
            if isinstance(connection, asyncio.BufferedProtocol):
                connection.get_buffer(-1)[:length] = request  # type: ignore[index]
                connection.buffer_updated(length)
            elif isinstance(connection, asyncio.Protocol):
                connection.data_received(bytes(memoryview(request)))


async def microseconds(harness: Harness, connections: Sequence[asyncio.BaseProtocol], seconds: float) -> float:
    """Return the CPU time of one request, in the fastest of as many rounds as fit into `seconds`.

    Other processes make rounds slower. The garbage collector stays on, because its work is part of a server's cost.
    """
    for _ in range(_WARM_UP_ROUNDS):
        await harness.request(connections)
    gc.collect()
    # As a server does before its first request: what has been loaded is not examined again.
    gc.freeze()
    best = float("inf")
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.process_time()
        for _ in range(8):
            await harness.request(connections)
        best = min(best, time.process_time() - started)
    return best / (8 * len(connections)) * 1e6


async def live_blocks(harness: Harness) -> int:
    """Return the allocator blocks that one request occupies when its response is written.

    It is a lower bound: blocks that were freed before the last write do not count, nor do objects from free lists
    (frames, small tuples, dicts), which are not returned to the allocator.
    """
    count = sys.getallocatedblocks
    transport, connection = harness.transports[0], harness.connections[0]
    at_write = 0

    def note(data: bytes) -> None:
        nonlocal at_write
        at_write = count()

    transport.on_write = note
    await harness.request((connection,))
    before = count()
    await harness.request((connection,))
    transport.on_write = None
    return at_write - before


async def peak_bytes(harness: Harness) -> int:
    """Return the most memory that one request occupies at any moment, measured by tracemalloc."""
    connections = harness.connections[:1]
    tracemalloc.start()
    try:
        for _ in range(3):
            await harness.request(connections)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        await harness.request(connections)
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


async def kept_blocks(harness: Harness) -> float:
    """Return the allocator blocks that a request leaves behind: 0 but for rounding, unless there is a leak."""
    rounds = 100
    await harness.request(harness.connections)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(rounds):
        await harness.request(harness.connections)
    gc.collect()
    return (sys.getallocatedblocks() - before) / (rounds * CONNECTIONS)


async def measure(scenario: Scenario, seconds: float) -> float:
    """Print a scenario's line and return its microseconds."""
    harness = Harness(scenario)
    await harness.check()
    best = await microseconds(harness, harness.connections, seconds)
    writes = -sum(transport.writes for transport in harness.transports)
    await harness.request(harness.connections)
    writes += sum(transport.writes for transport in harness.transports)
    blocks, peak, kept = await live_blocks(harness), await peak_bytes(harness), await kept_blocks(harness)
    print(f"{scenario.name:<26} {best:7.2f} {writes / CONNECTIONS:7.1f} {blocks:7} {peak:11,} {kept:6.2f}")
    return best


async def run(seconds: float) -> None:
    """Run all scenarios."""
    loop = type(asyncio.get_running_loop()).__module__
    print(f"Python {sys.version.split()[0]}, {loop}, {CONNECTIONS} connections in turn\n")
    print(f"{'':<26} {'us':>7} {'writes':>7} {'blocks':>7} {'peak bytes':>11} {'kept':>6}")
    results = [await measure(scenario, seconds) for scenario in SCENARIOS]
    harness = Harness(SCENARIOS[0])
    nothing = await microseconds(harness, [Nothing()] * CONNECTIONS, min(seconds, 0.5))
    print(f"{'(the harness itself)':<26} {nothing:7.2f}")
    repeated = results[3]
    missed = "" if repeated <= _HELLO_BUDGET_MICROSECONDS else "  MISSED"
    print(f"\nGET hello, one head: budget <= {_HELLO_BUDGET_MICROSECONDS:.2f} us, measured {repeated:.2f}{missed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each scenario (2)")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        runner.run(run(options.seconds))


if __name__ == "__main__":
    main()
