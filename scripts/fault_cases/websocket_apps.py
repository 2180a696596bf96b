"""The websockets that are served while things go wrong. Copied into a temporary folder, as `websocket_app.py`."""

from __future__ import annotations

import asyncio
from typing import Any

Message = dict[str, Any]

FLOOD_MESSAGES = 10_000
FLOOD_MESSAGE = b"x" * 10_000

audience: set[Any] = set()


async def echo(message: Message, channels: Message) -> None:
    if message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"], "bytes": message["bytes"]})


async def flood(message: Message, channels: Message) -> None:
    """Sends to its own client, and waits where that does."""
    if message["channel"] == "websocket.connect":
        for _ in range(FLOOD_MESSAGES):
            await channels["reply"].send({"bytes": FLOOD_MESSAGE})


async def listen(message: Message, channels: Message) -> None:
    """Whoever connects is an audience, until gone."""
    if message["channel"] == "websocket.connect":
        await channels["reply"].send({"accept": True})
        audience.add(channels["reply"])
    elif message["channel"] == "websocket.disconnect":
        audience.discard(channels["reply"])


async def speak(message: Message, channels: Message) -> None:
    """Sends to the whole audience, as a chat does: it waits for nobody."""
    if message["channel"] == "websocket.receive":
        for _ in range(FLOOD_MESSAGES):
            for member in list(audience):
                await member.send({"bytes": FLOOD_MESSAGE})
            await asyncio.sleep(0)
        await channels["reply"].send({"text": "done"})


async def stuck(message: Message, channels: Message) -> None:
    """Never gets done with a message."""
    if message["channel"] == "websocket.receive":
        await asyncio.sleep(3600)


async def drop(message: Message, channels: Message) -> None:
    """Is done with each message at once."""


async def ends(message: Message, channels: Message) -> None:
    """Prints when it is told of a connection and of its end; a message tells what to do."""
    reply = channels["reply"]
    if message["channel"] == "websocket.connect":
        print("connect", reply.name, flush=True)
    elif message["channel"] == "websocket.disconnect":
        print("disconnect", reply.name, flush=True)
    elif message["text"] == "close":
        await reply.send({"close": 3000})
    elif message["text"] == "fail":
        raise ValueError("as it was told to")
    elif message["text"] == "wait":
        await asyncio.sleep(3600)


HANDLERS = {
    "/": echo,
    "/flood": flood,
    "/listen": listen,
    "/speak": speak,
    "/stuck": stuck,
    "/drop": drop,
    "/ends": ends,
}


async def serve(message: Message, channels: Message) -> None:
    if message["channel"] == "http.request":
        await channels["reply"].send({"status": 200, "content": b"Hello, world"})
    else:
        await HANDLERS[message["path"]](message, channels)


async def serve_asgi3(scope: Message, receive: Any, send: Any) -> None:
    """The same for ASGI, as far as it is asked for: "/" and "/stuck"."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"12")]})
        await send({"type": "http.response.body", "body": b"Hello, world"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/stuck":
            await asyncio.sleep(3600)
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"], "bytes": message["bytes"]})
