"""The WebSocket applications that are served during faults. Copied into a temporary folder, as `websocket_app.py`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

Message = dict[str, Any]

FLOOD_MESSAGES = 10_000
FLOOD_MESSAGE = b"x" * 10_000

MANY_TASKS, MANY_EACH = 400, 5
LARGE_MESSAGE, HEARTBEATS = bytes(24 << 20), 100
MUCH_TASKS = 1000

audience: set[Any] = set()


async def echo(message: Message, channels: Message) -> None:
    if message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"], "bytes": message["bytes"]})


async def flood(message: Message, channels: Message) -> None:
    """Send endlessly to the client, and await each send."""
    if message["channel"] == "websocket.connect":
        for _ in range(FLOOD_MESSAGES):
            await channels["reply"].send({"bytes": FLOOD_MESSAGE})


async def listen(message: Message, channels: Message) -> None:
    """Add the client to the audience until it disconnects."""
    if message["channel"] == "websocket.connect":
        await channels["reply"].send({"accept": True})
        audience.add(channels["reply"])
    elif message["channel"] == "websocket.disconnect":
        audience.discard(channels["reply"])


async def speak(message: Message, channels: Message) -> None:
    """Send to the whole audience without awaiting the sends, as a chat does."""
    if message["channel"] == "websocket.receive":
        for _ in range(FLOOD_MESSAGES):
            for member in list(audience):
                await member.send({"bytes": FLOOD_MESSAGE})
            await asyncio.sleep(0)
        await channels["reply"].send({"text": "done"})


async def talk(path: str, send: Any) -> None:
    """Send from several tasks of one client, each of which awaits its send; `send` takes bytes."""

    async def say(number: int) -> None:
        for part in range(MANY_EACH):
            await send(b"%d %d " % (number, part) + FLOOD_MESSAGE[:8000])
            await asyncio.sleep(0)

    async def beat() -> None:
        for _ in range(HEARTBEATS):
            await send(b"heartbeat")

    if path == "/many":
        await asyncio.gather(*(say(number) for number in range(MANY_TASKS)))
    elif path == "/large":
        await asyncio.gather(send_large(send), beat())
    elif path == "/much":
        await asyncio.gather(*(send_mebibyte(send, number) for number in range(MUCH_TASKS)))


async def send_large(send: Any) -> None:
    await send(LARGE_MESSAGE)


async def send_mebibyte(send: Any, number: int) -> None:
    # Not kept here, nor by the traceback of an error: what is measured is what the server keeps. No two are the same,
    # or it would keep one.
    with suppress(OSError):
        await send(number.to_bytes(2) * (1 << 19))


async def many(message: Message, channels: Message) -> None:
    """Start many sending tasks when a message arrives."""
    if message["channel"] == "websocket.receive":
        await talk(message["path"], lambda data: channels["reply"].send({"bytes": data}))


async def stuck(message: Message, channels: Message) -> None:
    """Handle each message for ever."""
    if message["channel"] == "websocket.receive":
        await asyncio.sleep(3600)


async def drop(message: Message, channels: Message) -> None:
    """Ignore each message."""


async def ends(message: Message, channels: Message) -> None:
    """Print each connect and disconnect; a message selects the behaviour."""
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
    "/many": many,
    "/large": many,
    "/much": many,
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
    """The ASGI versions: "/", "/stuck", and the paths of `many`."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"12")]})
        await send({"type": "http.response.body", "body": b"Hello, world"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/stuck":
            await asyncio.sleep(3600)
        if HANDLERS[scope["path"]] is many:
            await receive()
            await talk(scope["path"], lambda data: send({"type": "websocket.send", "bytes": data}))
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"], "bytes": message["bytes"]})
