"""The event streams in Sanic, whose handlers send content themselves."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from sanic import Request, Sanic

from tests.frameworks import asgi_parts as parts

app: Any = Sanic("streams", configure_logging=False)


async def send(request: Request, events: AsyncGenerator[str, None]) -> None:
    response: Any = await request.respond(content_type="text/event-stream")
    async with aclosing(events) as texts:
        async for text in texts:
            await response.send(text)


@app.get("/idle")
async def idle(request: Request) -> None:
    await send(request, parts.idle())


@app.get("/busy")
async def busy(request: Request) -> None:
    await send(request, parts.busy())
