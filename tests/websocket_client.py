"""A WebSocket client for tests: another implementation's, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.typing import Origin, Subprotocol
from websockets.uri import parse_uri

from tests.helpers import Conversation, settle


class WebSocketConversation(Conversation):
    """A websocket to `app`: `open` it, `say` things, `settle`, and look at what was `heard`.

    Keywords are settings. Needs a running event loop.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        path: str = "/chat",
        origin: str | None = None,
        subprotocols: Sequence[str] = (),
        compression: bool = False,
        **settings: Any,
    ) -> None:
        super().__init__(app, **settings)
        self.client = ClientProtocol(
            parse_uri("ws://example.org" + path),
            origin=None if origin is None else Origin(origin),
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            extensions=[ClientPerMessageDeflateFactory()] if compression else None,
            max_size=None,
        )
        self.frames: list[Frame] = []
        self.response: Response | None = None
        self._seen = 0

    async def open(self) -> None:
        """The client asks for a websocket."""
        self.client.send_request(self.client.connect())
        await self.flush()
        self.look()

    async def say(self, *messages: str | bytes) -> None:
        """The client sends messages, all in one piece."""
        for message in messages:
            if isinstance(message, str):
                self.client.send_text(message.encode())
            else:
                self.client.send_binary(message)
        await self.flush()

    async def flush(self) -> None:
        """What the client has to send is sent; then everything happens that can."""
        self.send(b"".join(self.client.data_to_send()))
        await settle()

    def look(self) -> None:
        """The client reads what it was sent."""
        data = self.received
        self.client.receive_data(data[self._seen :])
        self._seen = len(data)
        for event in self.client.events_received():
            if isinstance(event, Response):
                self.response = event
            elif isinstance(event, Frame):
                self.frames.append(event)

    @property
    def status(self) -> int:
        """Status of the answer to the handshake; 0 before it arrives."""
        self.look()
        error = self.client.handshake_exc
        if self.response is None and error is not None:
            self.response = getattr(error, "response", None)
        return self.response.status_code if self.response is not None else 0

    @property
    def heard(self) -> list[str | bytes]:
        """The messages so far."""
        self.look()
        return [
            bytes(frame.data).decode() if frame.opcode is Opcode.TEXT else bytes(frame.data)
            for frame in self.frames
            if frame.opcode in (Opcode.TEXT, Opcode.BINARY)
        ]

    @property
    def close_code(self) -> int | None:
        """Of the server's close frame; 1005 if it has none, None if there was no frame."""
        self.look()
        received = self.client.close_rcvd
        return None if received is None else int(received.code)


class Held:
    """An application whose handlers of `channel` do not end before they are told to."""

    def __init__(self, channel: str) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self._channel = channel

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == self._channel:
            self.waiting.append(asyncio.get_running_loop().create_future())
            await self.waiting[-1]
