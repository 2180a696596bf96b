"""The same small asynchronous site in six frameworks, for the servers that they run on.

Paths that every site has: `/json`, `/upload` (how much, and its checksum), `/download` (BIG, in pieces), `/events` (one
event, another after `/go`, which also lets `/background` finish), `/background` (answers, then works until `/go`),
`/wait` (a stream that ends when its client leaves), `/fail`, `/fail-midway`, `/state` (what lifespan has left), and a
websocket `/echo`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

from tests.frameworks import BIG

JSON: Final[dict[str, Any]] = {"hello": "Grüße", "numbers": [1, 2.5, None]}

EVENTS: Final = ("data: first\n\n", "data: second\n\n")

STATE: Final = "left by lifespan"

_gone: Final = asyncio.Event()


def go() -> None:
    """Let what waits go on."""
    _gone.set()


async def until_go() -> None:
    """Wait for `go`."""
    await _gone.wait()


def say(text: str) -> None:
    """To whoever reads the server's stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


async def events() -> AsyncIterator[str]:
    """An event stream."""
    yield EVENTS[0]
    await until_go()
    yield EVENTS[1]


async def pieces() -> AsyncIterator[bytes]:
    """BIG."""
    for start in range(0, len(BIG), 100000):
        yield BIG[start : start + 100000]


async def broken_pieces() -> AsyncIterator[bytes]:
    """A response that cannot be finished."""
    yield b"half" * 1000
    raise ValueError("midway")


async def endless() -> AsyncIterator[bytes]:
    """A stream that is ended when its client leaves; says so."""
    try:
        while True:
            yield b"still here\n" * 100
            await asyncio.sleep(0.01)
    finally:
        say("the endless stream has ended")


async def endless_until(is_disconnected: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
    """A stream that looks whether its client has left, and ends; for frameworks that leave it to the collector."""
    while not await is_disconnected():
        yield b"still here\n" * 100
        await asyncio.sleep(0.01)
    say("the endless stream has ended")


async def work() -> None:
    """What is left to do when the response is out."""
    await until_go()
    say("the work is done")
