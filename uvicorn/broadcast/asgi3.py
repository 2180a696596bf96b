"""The reply channel of an ASGI 3 connection, for group messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import cached_property
from threading import get_ident
from typing import Any, Final, final

from uvicorn.broadcast.members import AwaitedMember
from uvicorn.channel import channel_names, shape
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.types import BREAK_OFF, Message

Send = Callable[[dict[str, Any]], Awaitable[None]]

# Events that open a connection. Messages of groups wait for them.
_OPENING: Final = ("websocket.accept", "http.response.start")


@final
class ASGI3Reply(AwaitedMember):
    """Sends group messages to the client of an ASGI 3 connection."""

    def __init__(self, kind: str, send: Send) -> None:
        self._kind = kind
        self._send = send
        #: The thread of the channel's event loop.
        self.loop_thread = get_ident()
        # The application's task, which creates this object.
        self._task = asyncio.current_task()
        self._opened = asyncio.Event()
        self._over = False
        self._breaking_off: asyncio.Task[None] | None = None
        self._callbacks: list[Callable[[], object]] = []

    @cached_property
    def name(self) -> str:
        return channel_names.new("reply", self)

    def on_close(self, callback: Callable[[], object]) -> None:
        if self._over:
            callback()
        else:
            self._callbacks.append(callback)

    async def send_as_application(self, event: dict[str, Any]) -> None:
        if self._breaking_off is not None:
            raise ClientDisconnected("the client did not read the messages of its groups")
        await self._send(event)
        kind = event["type"]
        if kind in _OPENING:
            self._opened.set()
        elif kind == "websocket.close" or (kind == "http.response.body" and not event.get("more_body", False)):
            self.close()

    async def wait_ready(self) -> None:
        await self._opened.wait()

    def break_off(self, reason: str) -> None:
        if not self._over and self._breaking_off is None:
            self._breaking_off = asyncio.get_running_loop().create_task(self._break_off(reason))

    async def _break_off(self, reason: str) -> None:
        task = self._task
        if self._kind == "websocket":
            event = {"type": "websocket.close", "code": 1013, "reason": reason}
        else:
            event = {"type": BREAK_OFF, "reason": reason}
        # A host may raise for an unknown event, or because the client has disconnected.
        with suppress(Exception):
            await self._send(event)
        if self._kind == "http" and "taken" not in event and task is not None and not self._over:
            # The host does not know BREAK_OFF. It closes the connection when the application ends before its response.
            task.cancel()

    async def send(self, message: Message) -> None:
        await self._opened.wait()
        for event in self._events(message):
            if not self._over:
                await self._send(event)

    def close(self) -> None:
        self._over = True
        self._opened.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _events(self, message: Message) -> list[dict[str, Any]]:
        if self._kind == "http":
            if "content" not in message or "status" in message:
                raise LocalProtocolError(f"HTTP response: expected a chunk with 'content', got {shape(message)}")
            more = message.get("more_content", False)
            return [{"type": "http.response.body", "body": message["content"], "more_body": more}]
        events: list[dict[str, Any]] = []
        text, data, close = message.get("text"), message.get("bytes"), message.get("close")
        if text is not None:
            events.append({"type": "websocket.send", "text": text})
        elif data is not None:
            events.append({"type": "websocket.send", "bytes": data})
        if close:
            code = 1000 if close is True else close
            events.append({"type": "websocket.close", "code": code, "reason": message.get("reason") or ""})
        if not events:
            raise LocalProtocolError(f"WebSocket: expected 'text', 'bytes' or 'close', got {shape(message)}")
        return events
