"""Records what a backend delivers to a test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

from uvicorn.broadcast.backend import Backend
from uvicorn.broadcast.backend_factory import backend_from_url

#: Far more than anything takes, and still an end.
PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Message:
    """A received payload."""

    group: str
    payload: bytes


@dataclass(frozen=True)
class Gap:
    """A gap of one group."""

    group: str
    reason: str
    since: float


class Recorder:
    """Records messages and gaps in order."""

    def __init__(self) -> None:
        self.events: list[Message | Gap] = []
        self.gap_calls = 0
        self._more = asyncio.Event()

    def on_message(self, group: str, payload: bytes) -> None:
        self.events.append(Message(group, payload))
        self._more.set()

    def on_gap(self, groups: Collection[str], reason: str, since: float) -> None:
        assert 0 < since <= time.time()
        self.gap_calls += 1
        self.events += [Gap(group, reason, since) for group in groups]
        self._more.set()

    @property
    def payloads(self) -> list[bytes]:
        return [event.payload for event in self.events if isinstance(event, Message)]

    @property
    def gaps(self) -> list[Gap]:
        return [event for event in self.events if isinstance(event, Gap)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not condition():
                    self._more.clear()
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"not received; received were {self.events[-10:]!r:.1000}") from None

    async def receive(self, count: int) -> list[bytes]:
        """Wait for `count` messages, and return their payloads."""
        await self.until(lambda: len(self.payloads) >= count)
        return self.payloads


@asynccontextmanager
async def listening(url: str, *groups: str, **options: float | str) -> AsyncIterator[tuple[Backend, Recorder]]:
    """Start a backend that subscribes to `groups`. Yield the backend and its recorder."""
    recorder = Recorder()
    # More than the default: a machine that has much else to do may take a second for a TLS handshake.
    options.setdefault("connect_timeout", 5.0)
    backend = backend_from_url(url, **options)  # type: ignore[arg-type]
    await backend.start(recorder.on_message, recorder.on_gap)
    try:
        await backend.subscribe(groups)
        yield backend, recorder
    finally:
        await backend.stop()
