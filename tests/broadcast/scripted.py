"""A backend whose messages are sent by the test, and reply channels that record messages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextvars import Context
from threading import get_ident
from typing import Any

from tests.helpers import settle
from uvicorn.broadcast.backend import Backend, OnGap, OnMessage
from uvicorn.broadcast.encoding import encode
from uvicorn.broadcast.hub import Hub, HubOptions
from uvicorn.broadcast.members import Gap, OnClientGap
from uvicorn.channel import channel_names

OPTIONS = HubOptions()


class ScriptedBackend(Backend):
    """Records calls. Tests call `receive` and `lose` in place of a server."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, frozenset[str]]] = []
        self.published: list[tuple[str, bytes]] = []
        self.failure: Exception | None = None
        self.stopped = False
        #: Cleared, calls wait until it is set.
        self.answers = asyncio.Event()
        self.answers.set()
        self._on_message: OnMessage = lambda group, payload: None
        self._on_gap: OnGap = lambda groups, reason, since: None

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        self._on_message, self._on_gap = on_message, on_gap

    async def subscribe(self, groups: Collection[str]) -> None:
        self.calls.append(("subscribe", frozenset(groups)))
        await self.answers.wait()

    async def unsubscribe(self, groups: Collection[str]) -> None:
        self.calls.append(("unsubscribe", frozenset(groups)))
        await self.answers.wait()

    async def publish(self, group: str, payload: bytes) -> None:
        if self.failure is not None:
            raise self.failure
        self.published.append((group, payload))
        await self.answers.wait()

    async def stop(self) -> None:
        self.stopped = True

    def receive(self, group: str, message: dict[str, Any], sender: str = "sender", number: int = 1) -> None:
        """Receive a message of another process."""
        self.receive_payload(group, encode(message).numbered(sender, number))

    def receive_payload(self, group: str, payload: bytes) -> None:
        """Receive any payload."""
        self._on_message(group, payload)

    def lose(self, *groups: str, reason: str = "reconnect", since: float = 1000.0) -> None:
        """Report a gap in `groups`."""
        self._on_gap(groups, reason, since)


class Reply:
    """A client that accepts messages while `is_ready` is true."""

    def __init__(self) -> None:
        self.name = channel_names.new("reply", self)
        self.loop_thread = get_ident()
        self.sent: list[Any] = []
        self.failure: BaseException | None = None
        self.broken_off = ""
        self._ready = asyncio.Event()
        self._ready.set()
        self._callbacks: list[Callable[[], object]] = []

    @property
    def is_ready(self) -> bool:
        return self._ready.is_set()

    @is_ready.setter
    def is_ready(self, value: bool) -> None:
        if value:
            self._ready.set()
        else:
            self._ready.clear()

    async def wait_ready(self) -> None:
        await self._ready.wait()

    def offer_text(self, text: str) -> bool:
        if self.is_ready:
            self.send({"text": text})
        return self.is_ready

    def send(self, message: dict[str, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        self.sent.append(message.get("text", message))

    def break_off(self, reason: str) -> None:
        self.broken_off = reason

    def on_close(self, callback: Callable[[], object]) -> None:
        self._callbacks.append(callback)

    def close(self) -> None:
        """Disconnect the client."""
        for callback in self._callbacks:
            callback()


async def started_hub(backend: Backend, options: HubOptions = OPTIONS, on_gap: OnClientGap | None = None) -> Hub:
    """Start a hub with `backend`. The test has to stop the hub."""

    async def open_backend() -> Backend:
        return backend

    hub = Hub(open_backend, options, on_gap)
    await hub.start()
    return hub


class GapRecorder:
    """An application that records gaps."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []

    async def __call__(self, reply: Any, gap: Gap) -> None:
        self.gaps.append(gap)


async def with_member(*groups: str) -> tuple[ScriptedBackend, Hub, Reply, GapRecorder]:
    backend, recorder, reply = ScriptedBackend(), GapRecorder(), Reply()
    hub = await started_hub(backend, on_gap=recorder)
    for group in groups:
        hub.add(group, reply.name, reply, Context())
    await settle()
    return backend, hub, reply, recorder
