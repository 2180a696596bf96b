"""Broadcast within one process, with the semantics of the other backends."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections import deque
from collections.abc import Collection
from typing import Final

from uvicorn.broadcast.backend import PUBLISH_TIMEOUT, Backend, OnGap, OnMessage
from uvicorn.errors import BroadcastUnavailable

logger = logging.getLogger("uvicorn.broadcast")

#: 10,000 messages or 16 MiB under way: beyond it publishers wait, since the loop has not come round to delivering.
MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 16 << 20


class _Hub:
    """What the backends of one name share on one event loop: who is subscribed, and the messages under way."""

    def __init__(self) -> None:
        # Tuples, so that a message can keep to those who were there when it was published.
        self.subscribers: dict[str, tuple[MemoryBackend, ...]] = {}
        self._waiting: deque[tuple[tuple[MemoryBackend, ...], str, bytes]] = deque()
        self._waiting_bytes = 0
        self._room: asyncio.Event = asyncio.Event()
        self._room.set()

    async def put(self, group: str, payload: bytes) -> int:
        """Queue a message; returns how many wait now."""
        while not self._room.is_set():
            await self._room.wait()
        if not self._waiting:
            # Later: who publishes must be able to finish what it is doing before its own message comes back to it.
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


_hubs: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Hub]] = weakref.WeakKeyDictionary()


class MemoryBackend(Backend):
    """`memory://` or `memory://name`: heard by the backends of that name on the same event loop, and nobody else."""

    def __init__(self, name: str = "", *, publish_timeout: float = PUBLISH_TIMEOUT) -> None:
        super().__init__()
        self._name = name
        self._publish_timeout = publish_timeout
        self._groups: set[str] = set()
        self._hub: _Hub | None = None
        self._process = 0
        self._on_message: OnMessage = lambda group, payload: None

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        self._hub = _hubs.setdefault(asyncio.get_running_loop(), {}).setdefault(self._name, _Hub())
        self._process = os.getpid()
        self._groups = set()
        self._on_message = on_message
        self.metrics.connected = True

    async def subscribe(self, groups: Collection[str]) -> None:
        hub = self._started()
        for group in groups:
            if group not in self._groups:
                self._groups.add(group)
                hub.subscribers[group] = (*hub.subscribers.get(group, ()), self)

    async def unsubscribe(self, groups: Collection[str]) -> None:
        hub = self._started()
        for group in groups:
            if group in self._groups:
                self._groups.remove(group)
                hub.subscribers[group] = tuple(other for other in hub.subscribers[group] if other is not self)
                if not hub.subscribers[group]:
                    del hub.subscribers[group]

    async def publish(self, group: str, payload: bytes) -> None:
        hub = self._started()
        try:
            async with asyncio.timeout(self._publish_timeout):
                waiting = await hub.put(group, payload)
        except TimeoutError:
            self.metrics.publish_failures += 1
            raise BroadcastUnavailable(
                f"{self!r}: {MAX_WAITING} messages or {MAX_WAITING_BYTES} bytes wait to be delivered,"
                f" and none was within {self._publish_timeout:g} s: the event loop is overloaded"
            ) from None
        self.metrics.published += 1
        self.metrics.pending_high_water = max(self.metrics.pending_high_water, waiting)

    async def stop(self) -> None:
        if self._hub is not None and self._process == os.getpid():
            await self.unsubscribe(tuple(self._groups))
        self._hub = None
        self.metrics.connected = False

    def deliver(self, group: str, payload: bytes) -> None:
        """A message of a group that this backend is subscribed to; called by its hub."""
        if group not in self._groups:
            return
        self.metrics.delivered += 1
        try:
            self._on_message(group, payload)
        except Exception:
            logger.exception("%r: a message of group %.200r could not be taken", self, group)

    def __repr__(self) -> str:
        return f"memory://{self._name}"

    def _started(self) -> _Hub:
        if self._hub is None or self._process != os.getpid():
            raise BroadcastUnavailable(f"{self!r}: not started in this process; await start() first")
        return self._hub
