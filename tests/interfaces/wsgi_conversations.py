"""WSGI applications in conversation, whichever way they are served."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from tests import wsgi_apps
from tests.corpus import request
from tests.helpers import Conversation, Response, until
from uvicorn.adapters import ASGIAdapter


def asking(path: str, *fields: bytes, method: bytes = b"GET", content: bytes = b"") -> bytes:
    return request(method + b" /" + path.encode() + b" HTTP/1.1", *fields, content=content)


def over(app: Any, way: str) -> Any:
    """`app` served directly, as an adapter whose interface the server takes, or through messages."""
    if way == "direct":
        return app
    adapter = ASGIAdapter(app, threads=4)
    if way == "adapter":
        return adapter

    async def through_messages(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    through_messages.shutdown = adapter.shutdown  # type: ignore[attr-defined]
    return through_messages


WAYS = ["direct", "adapter", "messages"]


async def response_of(stream: bytes, way: str = "direct", app: Any = wsgi_apps.app, **settings: Any) -> Response:
    conversation = Conversation(over(app, way), **settings)
    conversation.send(stream, piece=1 << 30)
    method = stream.split(b" ", 1)[0].decode()
    await until(lambda: conversation.context.requests == 0)
    response = conversation.responses(method)[-1] if conversation.received else Response(0, [])
    await conversation.lose()
    await conversation.interface.shutdown(1)
    return response


class Kept:
    """An iterable that records the threads on which it was iterated and closed."""

    def __init__(self, chunks: Iterator[bytes] | list[bytes], fails: bool = False) -> None:
        self._chunks = iter(chunks)
        self._fails = fails
        self.iterated = 0
        self.closed: list[int] = []

    def __iter__(self) -> Iterator[bytes]:
        self.iterated = threading.get_ident()
        return self._chunks

    def close(self) -> None:
        self.closed.append(threading.get_ident())
        if self._fails:
            raise ValueError("close failed")


def app_of(kept: Any, headers: list[tuple[str, str]] | None = None) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", headers or [])
        return kept

    return app
