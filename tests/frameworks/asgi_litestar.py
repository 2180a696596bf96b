"""The site in Litestar."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import State
from litestar.exceptions import WebSocketDisconnect
from litestar.response import Response, Stream

from tests.frameworks import asgi_parts as parts


@get("/json")
async def json() -> dict[str, Any]:
    return parts.JSON


@post("/upload", media_type="text/plain", status_code=200, request_max_body_size=None)
async def upload(request: Request[Any, Any, Any]) -> str:
    size, checksum = 0, hashlib.sha256()
    async for piece in request.stream():
        size += len(piece)
        checksum.update(piece)
    return f"{size} {checksum.hexdigest()}"


@get("/download")
async def download() -> Stream:
    return Stream(parts.pieces(), media_type="application/octet-stream")


@get("/events")
async def events() -> Stream:
    return Stream(parts.events(), media_type="text/event-stream")


@get("/idle")
async def idle() -> Stream:
    return Stream(parts.idle(), media_type="text/event-stream")


@get("/busy")
async def busy() -> Stream:
    return Stream(parts.busy(), media_type="text/event-stream")


@get("/go", media_type="text/plain")
async def go() -> str:
    parts.go()
    return "gone"


@get("/background")
async def background() -> Response[str]:
    return Response("begun", media_type="text/plain", background=BackgroundTask(parts.work))


@get("/wait")
async def wait() -> Stream:
    return Stream(parts.endless())


@get("/fail")
async def fail() -> None:
    raise ValueError("a failing view")


@get("/fail-midway")
async def fail_midway() -> Stream:
    return Stream(parts.broken_pieces())


@get("/state", media_type="text/plain")
async def state(state: State) -> str:
    return str(state.left)


@websocket("/echo")
async def echo(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    try:
        while True:
            message: Any = await socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(detail="the client has gone", code=message["code"])
            if message.get("text") is not None:
                await socket.send_text(message["text"])
            else:
                await socket.send_bytes(message["bytes"])
    except WebSocketDisconnect as disconnect:
        parts.say(f"echo ended with {disconnect.code}")


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    app.state.left = parts.STATE
    yield
    parts.say("the site has shut down")


app = Litestar(
    [json, upload, download, events, idle, busy, go, background, wait, fail, fail_midway, state, echo],
    lifespan=[lifespan],
    openapi_config=None,
)
