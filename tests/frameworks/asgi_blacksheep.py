"""The site in BlackSheep."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from blacksheep import (
    Application,
    Request,
    Response,
    StreamedContent,
    WebSocket,
    WebSocketDisconnectError,
    get,
    json,
    post,
    text,
    ws,
)

from tests.frameworks import asgi_parts as parts

app = Application()

_tasks: set[asyncio.Task[None]] = set()


@get("/json")
async def hello() -> Response:
    return json(parts.JSON)


@post("/upload")
async def upload(request: Request) -> Response:
    size, checksum = 0, hashlib.sha256()
    stream: Any = request.stream()
    async for piece in stream:
        size += len(piece)
        checksum.update(piece)
    return text(f"{size} {checksum.hexdigest()}")


def streamed(content: Callable[[], AsyncIterator[bytes]], kind: bytes) -> Response:
    return Response(200, content=StreamedContent(kind, content))


def encoded(events: Callable[[], AsyncGenerator[str, None]]) -> Callable[[], AsyncIterator[bytes]]:
    """Yield the same events as bytes, which BlackSheep requires."""

    async def encode() -> AsyncIterator[bytes]:
        async with aclosing(events()) as texts:
            async for text in texts:
                yield text.encode()

    return encode


@get("/download")
async def download() -> Response:
    return streamed(parts.pieces, b"application/octet-stream")


@get("/events")
async def events() -> Response:
    return streamed(encoded(parts.events), b"text/event-stream")


@get("/idle")
async def idle() -> Response:
    return streamed(encoded(parts.idle), b"text/event-stream")


@get("/busy")
async def busy() -> Response:
    return streamed(encoded(parts.busy), b"text/event-stream")


@get("/go")
async def go() -> Response:
    parts.go()
    return text("gone")


@get("/background")
async def background() -> Response:
    """Start a task, because BlackSheep has no background tasks of its own."""
    task = asyncio.create_task(parts.work())
    _tasks.add(task)
    task.add_done_callback(_tasks.discard)
    return text("begun")


@get("/wait")
async def wait() -> Response:
    return streamed(parts.endless, b"text/plain")


@get("/fail")
async def fail() -> Response:
    raise ValueError("a failing view")


@get("/fail-midway")
async def fail_midway() -> Response:
    return streamed(parts.broken_pieces, b"text/plain")


@ws("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            message: Any = await websocket.receive()
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnectError as disconnect:
        parts.say(f"echo ended with {disconnect.code}")


@app.lifespan  # type: ignore[untyped-decorator]
async def lifespan() -> AsyncIterator[None]:
    yield
    parts.say("the site has shut down")
