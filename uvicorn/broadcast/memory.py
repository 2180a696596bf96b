"""`memory://`: broadcast within one event loop."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections import deque
from collections.abc import Collection
from typing import Final

from uvicorn.broadcast.backend import Backend, BackendOptions, OnGap, OnMessage
from uvicorn.broadcast.redis.url import split_url
from uvicorn.errors import BroadcastUnavailable

logger = logging.getLogger("uvicorn.broadcast")

#: Publishers wait for the event loop while 10,000 messages or 16 MiB are queued.
MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 16 << 20


class _Exchange:
    def __init__(self) -> None:
        # Immutable tuples, because a queued message keeps its subscribers.
        self.subscribers: dict[str, tuple[MemoryBackend, ...]] = {}
        self._waiting: deque[tuple[tuple[MemoryBackend, ...], str, bytes]] = deque()
        self._waiting_bytes = 0
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()

    async def put(self, group: str, payload: bytes) -> int:
        while not self._room.is_set():
            await self._room.wait()
        if not self._waiting:
            # Deferred: callbacks are never called inside `publish`.
            asyncio.get_running_loop().call_soon(self._deliver)
        self._waiting.append((self.subscribers.get(group, ()), group, payload))
        self._waiting_bytes += len(payload)
        waiting = len(self._waiting)
        if waiting >= MAX_WAITING or self._waiting_bytes >= MAX_WAITING_BYTES:
            self._room.clear()
        return waiting

    def _deliver(self) -> None:
        while self._waiting:
            subscribers, group, payload = self._waiting.popleft()
            for backend in subscribers:
                backend.deliver(group, payload)
        self._waiting_bytes = 0
        self._room.set()


_exchanges: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], _Exchange]] = (
    weakref.WeakKeyDictionary()
)


class MemoryBackend(Backend):
    """Carries payloads between MemoryBackends that have the same event loop, name and prefix."""

    def __init__(self, url: str, options: BackendOptions) -> None:
        super().__init__()
        parts = split_url(url)
        self._name = parts.netloc + parts.path
        self._prefix = options.prefix
        self._publish_timeout = options.publish_timeout
        self._groups: set[str] = set()
        self._exchange: _Exchange | None = None
        self._on_message: OnMessage = lambda group, payload: None

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        exchanges = _exchanges.setdefault(asyncio.get_running_loop(), {})
        self._exchange = exchanges.setdefault((self._name, self._prefix), _Exchange())
        self._process = os.getpid()
        self._groups = set()
        self._on_message = on_message
        self.metrics.connected = True

    async def subscribe(self, groups: Collection[str]) -> None:
        exchange = self._in_this_process(self._exchange)
        for group in groups:
            if group not in self._groups:
                self._groups.add(group)
                exchange.subscribers[group] = (*exchange.subscribers.get(group, ()), self)

    async def unsubscribe(self, groups: Collection[str]) -> None:
        exchange = self._in_this_process(self._exchange)
        for group in groups:
            if group in self._groups:
                self._groups.remove(group)
                exchange.subscribers[group] = tuple(other for other in exchange.subscribers[group] if other is not self)
                if not exchange.subscribers[group]:
                    del exchange.subscribers[group]

    async def publish(self, group: str, payload: bytes) -> None:
        exchange = self._in_this_process(self._exchange)
        try:
            async with asyncio.timeout(self._publish_timeout):
                waiting = await exchange.put(group, payload)
        except TimeoutError:
            self.metrics.publish_failures += 1
            raise BroadcastUnavailable(
                f"{self!r}: {MAX_WAITING} messages or {MAX_WAITING_BYTES} bytes were queued for"
                f" {self._publish_timeout:g} s; the event loop is overloaded"
            ) from None
        self.metrics.published += 1
        self.metrics.pending_high_water = max(self.metrics.pending_high_water, waiting)

    async def stop(self) -> None:
        if self._exchange is not None and self._process == os.getpid():
            await self.unsubscribe(tuple(self._groups))
        self._exchange = None
        self.metrics.connected = False

    def deliver(self, group: str, payload: bytes) -> None:
        if group not in self._groups:
            return
        self.metrics.delivered += 1
        try:
            self._on_message(group, payload)
        except Exception:
            logger.exception("%r: group %.200r: a message was dropped after an exception", self, group)

    def __repr__(self) -> str:
        return f"memory://{self._name}"


open_backend = MemoryBackend
