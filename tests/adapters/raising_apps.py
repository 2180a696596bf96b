"""Applications behind adapters that raise the exception named by their path, before or during the response."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Iterator
from typing import Any

from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter
from uvicorn.types import Message


def error_of(path: str) -> BaseException | None:
    """Return ValueError('raised-ValueError') for `/ValueError` and `/ValueError-midway`, None for `/`."""
    name = path.strip("/").partition("-")[0]
    return getattr(builtins, name)(f"raised-{name}") if name else None


async def channels_app(message: Message, channels: dict[str, Any]) -> None:
    await asyncio.sleep(0)
    error = error_of(message["path"])
    if error is not None and not message["path"].endswith("-midway"):
        raise error
    await channels["reply"].send({"status": 200, "content": b"half", "more_content": True})
    if error is not None:
        raise error
    await channels["reply"].send({"content": b""})


def wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    error = error_of(environ["PATH_INFO"])
    if error is not None and not environ["PATH_INFO"].endswith("-midway"):
        raise error
    start_response("200 OK", [("content-type", "text/plain")])
    yield b"half"
    if error is not None:
        raise error


_asgi_of_wsgi = ASGIAdapter(wsgi_app)


async def middleware(message: Message, channels: dict[str, Any]) -> None:
    """Call the adapter with messages, as a middleware does."""
    await _asgi_of_wsgi(message, channels)


as_wsgi = WSGIAdapter(channels_app)
wsgi_as_wsgi = WSGIAdapter(_asgi_of_wsgi)
wsgi_by_messages_as_wsgi = WSGIAdapter(middleware)
as_asgi3 = ASGI3Adapter(channels_app)
wsgi_as_asgi3 = ASGI3Adapter(_asgi_of_wsgi)
wsgi_by_messages_as_asgi3 = ASGI3Adapter(middleware)
