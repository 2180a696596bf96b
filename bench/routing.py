"""What a Router adds to a request in process: a table of 16 entries, against the application alone.

The requests are for the deepest entry, and the rounds of both take turns. `WSGIAdapter` is called as a WSGI host calls
it. README.md says how to read the output.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from protocol import CONNECTIONS, GET, Harness, Scenario, hello, hello_asgi3

from uvicorn import Mount, Route, Router, WSGIAdapter
from uvicorn.server.loops import loop_factory

_BUDGET_MICROSECONDS = 1.0
_COUNTING_BUDGET_MICROSECONDS = 0.3
_ADAPTER_BUDGET_MICROSECONDS = 3.0
_FORWARDED = b"x-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\n\r\n"
_SLASHES = 8000
_COUNTED_CONNECTIONS = 16
_COUNTED_ROUNDS = 4
# A server folds the counts once a second, after thousands of requests.
_FOLD_ROUNDS = 100


async def other(message: Any, channels: Any) -> None:
    """An application that is never called."""


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    """Respond with 12 bytes."""
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"Hello, world"]


async def missing(message: Any, channels: Any) -> None:
    """Respond that there is no such page."""
    await channels["reply"].send(
        {"status": 404, "headers": [[b"content-type", b"text/plain"]], "content": b"Not Found"}
    )


def table(entry: Any) -> Router:
    """Return 16 entries, of which `entry` is the deepest, and a default."""
    return Router(
        *(Route(f"/pages/{number}/*", other) for number in range(10)),
        *(Route(f"/pages/{number}", other) for number in range(3)),
        Route("/shop/*", other),
        Mount("/shop/old", other),
        entry,
        default=other,
    )


def asking(path: str, fields: bytes = b"\r\n") -> tuple[bytes, ...]:
    return tuple(request.replace(b" / ", b" %s " % path.encode()).removesuffix(b"\r\n") + fields for request in GET)


async def difference(
    name: str,
    alone: Any,
    routed: Any,
    requests: tuple[bytes, ...],
    seconds: float,
    without: tuple[bytes, ...] = (),
) -> float:
    """Print a line; return by how many microseconds `routed` is slower than `alone`."""
    harnesses = [Harness(Scenario(name, alone, without or requests)), Harness(Scenario(name, routed, requests))]
    best = [float("inf")] * 2
    for harness in harnesses:
        await harness.check()
        for _ in range(50):
            await harness.request(harness.connections)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for number, harness in enumerate(harnesses):
            started = time.process_time()
            for _ in range(8):
                await harness.request(harness.connections)
            best[number] = min(best[number], time.process_time() - started)
    first, second = (each / (8 * CONNECTIONS) * 1e6 for each in best)
    print(f"{name:<34} {first:7.2f} {second:7.2f} {second - first:7.2f} {second / first:7.2f}")
    return second - first


async def counting(name: str, app: Any, requests: tuple[bytes, ...], seconds: float) -> float:
    """Print a line; return the microseconds that counting a request takes.

    Counting is switched on and off in turn, over the same connections: two harnesses of the same application differ by
    as much as counting takes. The result is the difference of the 20th parts of the rounds that were fastest.
    """
    harness = Harness(Scenario(name, app, requests), counts=True)
    context = harness.context
    counts, clock = context.counts, context.response_clock
    assert counts is not None
    connections = harness.connections[:_COUNTED_CONNECTIONS]
    for transport in harness.transports:
        transport.on_write = None
    for _ in range(100):
        await harness.request(connections)
    durations: tuple[list[int], list[int]] = ([], [])
    folding = []
    gc.collect()
    gc.freeze()
    gc.disable()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        order = (0, 1) if len(durations[0]) % 2 else (1, 0)
        for is_counted in order:
            context.counts, context.response_clock = (counts, clock) if is_counted else (None, None)
            # The first round lets the interpreter specialise its instructions for the other way.
            await harness.request(connections)
            started = time.perf_counter_ns()
            for _ in range(_COUNTED_ROUNDS):
                await harness.request(connections)
            durations[is_counted].append(time.perf_counter_ns() - started)
        if len(durations[1]) % _FOLD_ROUNDS == 0:
            started = time.perf_counter_ns()
            counts.fold()
            folding.append((time.perf_counter_ns() - started) / (_FOLD_ROUNDS * (_COUNTED_ROUNDS + 1)))
    gc.enable()
    first, second = (sorted(each)[len(each) // 20] / _COUNTED_ROUNDS for each in durations)
    first, second = (each / len(connections) / 1000 for each in (first, second + median(folding)))
    print(f"{name:<34} {first:7.2f} {second:7.2f} {second - first:7.2f} {second / first:7.2f}")
    return second - first


def of_adapter(name: str, app: Callable[..., Any], path: str, seconds: float) -> float:
    """Return the row for a WSGI application on a host's own thread."""
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "HTTP_HOST": "127.0.0.1:8000"}
    environ |= {f"HTTP_X_{number}": "value" for number in range(20)}
    best = [float("inf")] * 2
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for number, called in enumerate((wsgi, app)):
            started = time.process_time()
            for _ in range(200):
                called(environ, lambda status, headers: None)
            best[number] = min(best[number], time.process_time() - started)
    first, second = (each / 200 * 1e6 for each in best)
    print(f"{name:<34} {first:7.2f} {second:7.2f} {second - first:7.2f}")
    return second - first


async def run(seconds: float) -> list[bool]:
    """Run all rows; return whether each is within its budget."""
    print(f"Python {sys.version.split()[0]}, {CONNECTIONS} connections in turn, microseconds\n")
    print(f"{'':<34} {'alone':>7} {'routed':>7} {'more':>7} {'ratio':>7}")
    deep = asking("/shop/old/cart/1")
    route, mount = table(Route("/shop/old/cart/*", hello)), table(Mount("/shop/old/cart", hello))
    slashes = Router(*route.entries, default=hello)
    added = [
        await difference("Route", hello, route, deep, seconds),
        await difference("  behind a proxy", hello, route, asking("/shop/old/cart/1", _FORWARDED), seconds),
        await difference("  as ASGI", hello_asgi3, table(Route("/shop/old/cart/*", hello_asgi3)), deep, seconds),
        await difference("  in a Router in a Router", hello, Router(Route("/shop/*", route)), deep, seconds),
        await difference("Mount", hello, mount, deep, seconds),
        await difference("default", hello, slashes, asking("/"), seconds),
    ]
    within = [each <= _BUDGET_MICROSECONDS for each in (*added[:3], added[5])]
    counted = [
        await counting("counted for metrics", hello, asking("/"), seconds),
        await counting("  at a Route", route, deep, seconds),
        await counting("  as ASGI", hello_asgi3, asking("/"), seconds),
        await counting("  with status 404", missing, asking("/"), seconds),
    ]
    within += [each <= _COUNTING_BUDGET_MICROSECONDS for each in counted]
    long, short = asking("/" * _SLASHES), asking("/" + "x" * (_SLASHES - 1))
    await difference(f"{_SLASHES:,} slashes, as 1 + characters", slashes, slashes, long, seconds, short)
    print(f"\n{'WSGIAdapter, on the host thread':<34} {'alone':>7} {'routed':>7} {'more':>7}")
    for name, entry in (("  Route", Route("/shop/old/cart/*", wsgi)), ("  Mount", Mount("/shop/old/cart", wsgi))):
        more = of_adapter(name, WSGIAdapter(table(entry)), "/shop/old/cart/1", seconds)
        within.append(more <= _ADAPTER_BUDGET_MICROSECONDS)
    return within


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row (2)")
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
        within = runner.run(run(options.seconds))
    print(
        f"\nRoute and default: budget <= {_BUDGET_MICROSECONDS:.2f} us more; counting: "
        f"<= {_COUNTING_BUDGET_MICROSECONDS:.2f}; WSGIAdapter: "
        f"<= {_ADAPTER_BUDGET_MICROSECONDS:.2f}{'' if all(within) else '  MISSED'}"
    )


if __name__ == "__main__":
    main()
