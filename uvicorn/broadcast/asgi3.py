"""An ASGI3 connection as a reply channel: groups are sent messages of the channels interface, whoever is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

from uvicorn.errors import LocalProtocolError
from uvicorn.sending import channel_names, shape
from uvicorn.types import Message

Send = Callable[[dict[str, Any]], Awaitable[None]]

# What opens a connection: nothing of a group is sent before.
_OPENING: Final = ("websocket.accept", "http.response.start")
_CLOSING: Final = ("websocket.close",)


@final
class ASGI3Reply:
    """What can be sent to the client of one ASGI3 connection, beside what the application itself sends."""

    def __init__(self, kind: str, send: Send) -> None:
        self._kind = kind
        self._send = send
        self._name = ""
        self._opened = asyncio.Event()
        self._over = False
        self._callbacks: list[Callable[[], object]] = []

    @property
    def name(self) -> str:
        """Unique among all channels of all processes."""
        if not self._name:
            self._name = channel_names.new("reply", self)
        return self._name

    def on_close(self, callback: Callable[[], object]) -> None:
        """Have `callback()` called once, when the application has returned; at once if it has."""
        if self._over:
            callback()
        else:
            self._callbacks.append(callback)

    async def send_as_application(self, event: dict[str, Any]) -> None:
        """The `send` that the application is given."""
        await self._send(event)
        kind = event["type"]
        if kind in _OPENING:
            self._opened.set()
        elif kind in _CLOSING or (kind == "http.response.body" and not event.get("more_body", False)):
            self.close()

    async def send(self, message: Message) -> None:
        """Send a message of a group, when the connection has been opened."""
        await self._opened.wait()
        for event in self._events(message):
            if not self._over:
                await self._send(event)

    def close(self) -> None:
        """The connection is over."""
        self._over = True
        # What waits for it to be opened waits in vain, and finds that out.
        self._opened.set()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def _events(self, message: Message) -> list[dict[str, Any]]:
        if self._kind == "http":
            if "content" not in message or "status" in message:
                raise LocalProtocolError(f"expected a chunk with 'content' for a response, got {shape(message)}")
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
            raise LocalProtocolError(f"expected 'text', 'bytes' or 'close' for a websocket, got {shape(message)}")
        return events
