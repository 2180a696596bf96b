"""The event streams in Falcon."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import falcon.asgi
from falcon.asgi import SSEvent

from tests.frameworks import asgi_parts as parts


async def encoded(events: AsyncGenerator[str, None]) -> AsyncIterator[bytes]:
    """Yield the same events as bytes, which Falcon requires."""
    async with aclosing(events) as texts:
        async for text in texts:
            yield text.encode()


class Stream:
    """Streamed content."""

    def __init__(self, events: Callable[[], AsyncGenerator[str, None]]) -> None:
        self._events = events

    async def on_get(self, req: Any, resp: Any) -> None:
        resp.content_type = "text/event-stream"
        resp.stream = encoded(self._events())


class Events(Stream):
    """The same events by `resp.sse`."""

    async def on_get(self, req: Any, resp: Any) -> None:
        resp.sse = self._as_events()

    async def _as_events(self) -> AsyncIterator[SSEvent]:
        async with aclosing(self._events()) as texts:
            async for text in texts:
                yield SSEvent(text=text.removeprefix("data: ").strip())


app: Any = falcon.asgi.App()
app.add_route("/idle", Stream(parts.idle))
app.add_route("/busy", Stream(parts.busy))
app.add_route("/sse/idle", Events(parts.idle))
app.add_route("/sse/busy", Events(parts.busy))
