"""The site in Starlette."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.frameworks import asgi_parts as parts


async def json(request: Request) -> Response:
    return JSONResponse(parts.JSON)


async def upload(request: Request) -> Response:
    size, checksum = 0, hashlib.sha256()
    async for piece in request.stream():
        size += len(piece)
        checksum.update(piece)
    return PlainTextResponse(f"{size} {checksum.hexdigest()}")


async def download(request: Request) -> Response:
    return StreamingResponse(parts.pieces(), media_type="application/octet-stream")


async def file(request: Request) -> Response:
    return FileResponse(__file__)


async def events(request: Request) -> Response:
    return StreamingResponse(parts.events(), media_type="text/event-stream")


async def idle(request: Request) -> Response:
    return StreamingResponse(parts.idle(), media_type="text/event-stream")


async def busy(request: Request) -> Response:
    return StreamingResponse(parts.busy(), media_type="text/event-stream")


async def go(request: Request) -> Response:
    parts.go()
    return PlainTextResponse("gone")


async def background(request: Request) -> Response:
    return PlainTextResponse("begun", background=BackgroundTask(parts.work))


async def wait(request: Request) -> Response:
    return StreamingResponse(parts.endless())


async def fail(request: Request) -> Response:
    raise ValueError("a failing view")


async def fail_midway(request: Request) -> Response:
    return StreamingResponse(parts.broken_pieces())


async def state(request: Request) -> Response:
    return PlainTextResponse(request.state.left)


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            message = await websocket.receive()
            websocket._raise_on_disconnect(message)
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect as disconnect:
        parts.say(f"echo ended with {disconnect.code}")


async def mark(request: Request, call_next: RequestResponseEndpoint) -> Response:
    response = await call_next(request)
    response.headers["x-marked"] = "yes"
    return response


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
    yield {"left": parts.STATE}
    parts.say("the site has shut down")


# By itself: BaseHTTPMiddleware ends a response that has failed midway as if it were whole.
behind_middleware = Starlette(
    routes=[Route("/file", file)],
    middleware=[Middleware(GZipMiddleware), Middleware(BaseHTTPMiddleware, dispatch=mark)],
)

app = Starlette(
    routes=[
        Route("/json", json),
        Route("/upload", upload, methods=["POST"]),
        Route("/download", download),
        Mount("/behind", behind_middleware),
        Route("/events", events),
        Route("/idle", idle),
        Route("/busy", busy),
        Route("/go", go),
        Route("/background", background),
        Route("/wait", wait),
        Route("/fail", fail),
        Route("/fail-midway", fail_midway),
        Route("/state", state),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan,
)
