"""The site in FastAPI."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import BackgroundTasks, FastAPI, Request, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import PlainTextResponse, StreamingResponse

from tests.frameworks import asgi_parts as parts


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    yield {"left": parts.STATE}
    parts.say("the site has shut down")


app = FastAPI(lifespan=lifespan)


@app.get("/json")
def json() -> dict[str, Any]:
    """A plain function, which FastAPI runs on a thread."""
    return parts.JSON


@app.post("/upload", response_class=PlainTextResponse)
async def upload(request: Request) -> str:
    content = await request.body()
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}"


@app.post("/form", response_class=PlainTextResponse)
async def form(file: UploadFile) -> str:
    return f"{file.filename} {len(await file.read())}"


@app.get("/download")
async def download() -> StreamingResponse:
    return StreamingResponse(parts.pieces(), media_type="application/octet-stream")


@app.get("/events")
async def events() -> StreamingResponse:
    return StreamingResponse(parts.events(), media_type="text/event-stream")


@app.get("/idle")
async def idle() -> StreamingResponse:
    return StreamingResponse(parts.idle(), media_type="text/event-stream")


@app.get("/busy")
async def busy() -> StreamingResponse:
    return StreamingResponse(parts.busy(), media_type="text/event-stream")


@app.get("/go", response_class=PlainTextResponse)
async def go() -> str:
    parts.go()
    return "gone"


@app.get("/background", response_class=PlainTextResponse)
async def background(tasks: BackgroundTasks) -> str:
    tasks.add_task(parts.work)
    return "begun"


@app.get("/wait")
async def wait() -> StreamingResponse:
    return StreamingResponse(parts.endless())


@app.get("/fail")
async def fail() -> None:
    raise ValueError("a failing view")


@app.get("/fail-midway")
async def fail_midway() -> StreamingResponse:
    return StreamingResponse(parts.broken_pieces())


@app.get("/state", response_class=PlainTextResponse)
async def state(request: Request) -> str:
    return str(request.state.left)


@app.websocket("/echo")
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
