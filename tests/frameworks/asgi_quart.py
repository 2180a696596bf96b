"""The site in Quart."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, current_app, request, websocket

from tests.frameworks import asgi_parts as parts

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = None


@app.get("/json")
async def json() -> Any:
    return parts.JSON


@app.post("/upload")
async def upload() -> str:
    size, checksum = 0, hashlib.sha256()
    async for piece in request.body:
        size += len(piece)
        checksum.update(piece)
    return f"{size} {checksum.hexdigest()}"


@app.get("/download")
async def download() -> Any:
    return parts.pieces(), {"content-type": "application/octet-stream"}


async def streamed(events: AsyncIterator[str]) -> Any:
    answer: Any = (events, {"content-type": "text/event-stream"})
    response: Any = await app.make_response(answer)
    response.timeout = None
    return response


@app.get("/events")
async def events() -> Any:
    return await streamed(parts.events())


@app.get("/idle")
async def idle() -> Any:
    return await streamed(parts.idle())


@app.get("/busy")
async def busy() -> Any:
    return await streamed(parts.busy())


@app.get("/go")
async def go() -> str:
    parts.go()
    return "gone"


@app.get("/background")
async def background() -> str:
    app.add_background_task(parts.work)
    return "begun"


@app.get("/wait")
async def wait() -> Any:
    return parts.endless()


@app.get("/fail")
async def fail() -> str:
    raise ValueError("a failing view")


@app.get("/fail-midway")
async def fail_midway() -> Any:
    return parts.broken_pieces()


@app.get("/state")
async def state() -> str:
    return str(current_app.config["LEFT"])


@app.websocket("/echo")
async def echo() -> None:
    while True:
        await websocket.send(await websocket.receive())


@app.before_serving
async def begin() -> None:
    app.config["LEFT"] = parts.STATE


@app.after_serving
async def end() -> None:
    parts.say("the site has shut down")
