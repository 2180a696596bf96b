"""The applications that are served during faults. Copied into a temporary folder, as `app.py`."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

CHUNK = b"x" * 65536
RESPONSE_BYTES = 200 << 20

# Starts its threads when it is first used.
POOL = ThreadPoolExecutor(1)

Message = dict[str, Any]


def _whole(content: bytes) -> Message:
    return {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": content}


async def stream(reply: Any, chunks: int, chunk: bytes, pause: float = 0) -> None:
    await reply.send({"status": 200, "content": b"", "more_content": True})
    while chunks:
        chunks -= 1
        await reply.send({"content": chunk, "more_content": True})
        if pause:
            await asyncio.sleep(pause)
    await reply.send({"content": b"", "more_content": False})


async def hello(message: Message, channels: Message) -> None:
    await channels["reply"].send(_whole(b"Hello, world"))


async def kilobyte(message: Message, channels: Message) -> None:
    await channels["reply"].send(_whole(CHUNK[:1000]))


async def late(message: Message, channels: Message) -> None:
    await asyncio.sleep(0.02)
    await channels["reply"].send(_whole(CHUNK[:1000]))


async def pieces(message: Message, channels: Message) -> None:
    await stream(channels["reply"], 10, CHUNK[:1000], pause=0.002)


async def large(message: Message, channels: Message) -> None:
    await stream(channels["reply"], RESPONSE_BYTES // len(CHUNK), CHUNK)


async def endless(message: Message, channels: Message) -> None:
    reply = channels["reply"]
    try:
        await reply.send({"status": 200, "content": b"", "more_content": True})
        while True:
            await reply.send({"content": CHUNK, "more_content": True})
    finally:
        # The monotonic clock is the machine's, so the client may compare it with its own.
        print("ended", time.monotonic(), flush=True)


async def length(message: Message, channels: Message) -> None:
    received, more = 0, True
    while more:
        chunk = await channels["body"].receive()
        received += len(chunk["content"])
        more = chunk["more_content"]
    await channels["reply"].send(_whole(str(received).encode()))


async def slow_upload(message: Message, channels: Message) -> None:
    more = True
    while more:
        chunk = await channels["body"].receive()
        more = chunk["more_content"]
        await asyncio.sleep(0.05)
    await channels["reply"].send(_whole(b""))


async def tasks(message: Message, channels: Message) -> None:
    await channels["reply"].send(_whole(str(len(asyncio.all_tasks())).encode()))


async def unread(message: Message, channels: Message) -> None:
    await asyncio.sleep(3600)


async def events(message: Message, channels: Message) -> None:
    """Send one event, then nothing for an hour."""
    headers = [[b"content-type", b"text/event-stream"]]
    await channels["reply"].send({"status": 200, "headers": headers, "content": b"data: 1\n\n", "more_content": True})
    await asyncio.sleep(3600)


async def early(message: Message, channels: Message) -> None:
    await channels["reply"].send({"status": 401, "content": b"who are you"})


async def blocked(message: Message, channels: Message) -> None:
    """Block the event loop for an hour."""
    _sleep()


async def paused(message: Message, channels: Message) -> None:
    """Block the event loop for 0.3 seconds."""
    _pause()
    await channels["reply"].send(_whole(b""))


def _pause() -> None:
    time.sleep(0.3)


def _sleep() -> None:
    time.sleep(3600)


async def job(message: Message, channels: Message) -> None:
    """Start a job of an hour in a thread pool."""
    POOL.submit(_sleep)
    await channels["reply"].send(_whole(b"begun"))


HANDLERS = {
    "/blocked": blocked,
    "/paused": paused,
    "/job": job,
    "/events": events,
    "/early": early,
    "/": hello,
    "/kilobyte": kilobyte,
    "/late": late,
    "/pieces": pieces,
    "/large": large,
    "/endless": endless,
    "/length": length,
    "/slow-upload": slow_upload,
    "/tasks": tasks,
    "/unread": unread,
}


async def serve(message: Message, channels: Message) -> None:
    await HANDLERS[message["path"]](message, channels)


class WithContent:
    """An application that holds 200 MB from the start, such as a file in memory."""

    def __init__(self) -> None:
        self.content = b""

    async def startup(self) -> None:
        self.content = b"x" * RESPONSE_BYTES

    async def __call__(self, message: Message, channels: Message) -> None:
        if message["path"] == "/large":
            await channels["reply"].send(_whole(self.content))
        else:
            await serve(message, channels)


serve_whole = WithContent()
