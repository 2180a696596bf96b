"""An ASGI3 connection as a reply channel: groups are sent messages of the channels interface, whoever is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, final

from uvicorn.channel import channel_names, shape
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.types import BREAK_OFF, Message

Send = Callable[[dict[str, Any]], Awaitable[None]]

# What opens a connection: nothing of a group is sent before.
_OPENING: Final = ("websocket.accept", "http.response.start")
_CLOSING: Final = ("websocket.close",)


@final
class ASGI3Reply:
    """What can be sent to the client of one ASGI3 connection, beside what the application itself sends.

    To be made in the task of the application.
    """

    def __init__(self, kind: str, send: Send) -> None:
        self._kind = kind
        self._send = send
        self._task = asyncio.current_task()
        self._name = ""
        self._opened = asyncio.Event()
        self._over = False
        self._is_broken_off = False
        self._breaking_off: asyncio.Task[None] | None = None
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
        if self._is_broken_off:
            raise ClientDisconnected("the client did not read what its groups were sent")
        await self._send(event)
        kind = event["type"]
        if kind in _OPENING:
            self._opened.set()
        elif kind in _CLOSING or (kind == "http.response.body" and not event.get("more_body", False)):
            self.close()

    @property
    def is_ready(self) -> bool:
        """ASGI has no such question: every message is awaited."""
        return False

    def offer_text(self, text: str) -> bool:
        """False, for the same reason."""
        return False

    async def wait_ready(self) -> None:
        """Wait until the connection has been opened, or is over."""
        await self._opened.wait()

    def break_off(self, reason: str) -> None:
        """Close a websocket with 1013, or refuse it; have the host reset a response, or end the application's task."""
        if not self._over and not self._is_broken_off:
            self._is_broken_off = True
            self._breaking_off = asyncio.get_running_loop().create_task(self._break_off(reason))

    async def _break_off(self, reason: str) -> None:
        task = self._task
        if self._kind == "websocket":
            event = {"type": "websocket.close", "code": 1013, "reason": reason}
        else:
            event = {"type": BREAK_OFF, "reason": reason}
        # Hosts raise for what they do not know; of a websocket, when its client has gone.
        with suppress(Exception):
            await self._send(event)
        if self._kind == "http" and "taken" not in event and task is not None and not self._over:
            # ASGI has no event for this, and hosts close a connection whose response is not complete in the end.
            task.cancel()

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
