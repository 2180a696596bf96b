"""The event streams in Connexion, which routes by a specification and leaves responses to Starlette."""

from __future__ import annotations

from typing import Any, Final

from connexion import AsyncApp
from starlette.responses import StreamingResponse

from tests.frameworks import asgi_parts as parts


async def idle() -> StreamingResponse:
    return StreamingResponse(parts.idle(), media_type="text/event-stream")


async def busy() -> StreamingResponse:
    return StreamingResponse(parts.busy(), media_type="text/event-stream")


def _operation(name: str) -> dict[str, Any]:
    responses = {"200": {"description": "events", "content": {"text/event-stream": {}}}}
    return {"get": {"operationId": f"{__name__}.{name}", "responses": responses}}


SPECIFICATION: Final = {
    "openapi": "3.0.0",
    "info": {"title": "streams", "version": "1"},
    "paths": {"/idle": _operation("idle"), "/busy": _operation("busy")},
}

app: Any = AsyncApp(__name__)
app.add_api(SPECIFICATION)
