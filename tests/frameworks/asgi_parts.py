"""The same small asynchronous site in six frameworks. Three more frameworks have only its event streams.

Paths that every site has: `/idle` and `/busy` (event streams that only their client ends). Paths of the six: `/json`,
`/upload` (how much, and its checksum), `/download` (BIG, in pieces), `/events` (one event, another after `/go`, which
also lets `/background` finish), `/background` (answers, then works until `/go`), `/wait` (a stream that ends when its
client leaves), `/fail`, `/fail-midway`, `/state` (what lifespan has left), and a websocket `/echo`.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

from tests.frameworks import BIG

JSON: Final[dict[str, Any]] = {"hello": "Grüße", "numbers": [1, 2.5, None]}

EVENTS: Final = ("data: first\n\n", "data: second\n\n")

STATE: Final = "left by lifespan"

_gone: Final = asyncio.Event()

_numbers: Final = itertools.count(1)


def go() -> None:
    """Release all `until_go`."""
    _gone.set()


async def until_go() -> None:
    """Wait for `go`."""
    await _gone.wait()


def say(text: str) -> None:
    """Write a line to the server's stderr, which the test reads."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


async def events() -> AsyncGenerator[str, None]:
    """An event stream."""
    yield EVENTS[0]
    await until_go()
    yield EVENTS[1]


async def idle() -> AsyncGenerator[str, None]:
    """An event stream of one event. When the stream is closed, the event's text is printed."""
    end = f"the idle stream {next(_numbers)} has ended"
    try:
        yield f"data: {end}\n\n"
        await asyncio.sleep(3600)
    finally:
        say(end)


async def busy() -> AsyncGenerator[str, None]:
    """An event stream of 50 events a second. When the stream is closed, the event's text is printed."""
    end = f"the busy stream {next(_numbers)} has ended"
    try:
        while True:
            yield f"data: {end}\n\n"
            await asyncio.sleep(0.02)
    finally:
        say(end)


async def pieces() -> AsyncIterator[bytes]:
    """Yield BIG in pieces."""
    for start in range(0, len(BIG), 100000):
        yield BIG[start : start + 100000]


async def broken_pieces() -> AsyncIterator[bytes]:
    """Yield a piece of a response, then raise."""
    yield b"half" * 1000
    raise ValueError("midway")


async def endless() -> AsyncIterator[bytes]:
    """A stream that prints a line when its client leaves."""
    try:
        while True:
            yield b"still here\n" * 100
            await asyncio.sleep(0.01)
    finally:
        say("the endless stream has ended")


async def work() -> None:
    """The work of `/background` after its response."""
    await until_go()
    say("the work is done")
