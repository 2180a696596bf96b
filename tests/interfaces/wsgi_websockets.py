"""WSGI applications that take a WebSocket over, in conversation with a client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.helpers import until
from tests.websocket_client import WebSocketConversation
from uvicorn.interfaces.wsgi_websocket import WSGIWebSocket


class Call:
    """A WSGI application that passes the WebSocket of a handshake to `serve`, and records what `serve` did.

    Its response, which is not for the client after a takeover, is `content`.
    """

    def __init__(self, serve: Callable[[WSGIWebSocket], Any], content: Any = (b"ordinary",)) -> None:
        self._serve = serve
        self._content = content
        self.thread = 0
        self.returned: Any = None
        self.error: BaseException | None = None
        self.has_ended = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        try:
            if "uvicorn.websocket" in environ:
                self.thread = threading.get_ident()
                self.returned = self._serve(environ["uvicorn.websocket"])
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.has_ended.set()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self._content


class Site(WebSocketConversation):
    """A conversation with a WSGI application, whose thread takes its time."""

    async def answer(self) -> int:
        """The status of the response to the handshake."""
        await until(lambda: self.status)
        return self.status

    async def hears(self, count: int = 1) -> list[str | bytes]:
        """The messages, when there are `count`."""
        await until(lambda: len(self.heard) >= count)
        return self.heard

    async def close_frame(self) -> int | None:
        """The code of the server's close frame."""
        await until(lambda: self.close_code is not None)
        return self.close_code

    async def end(self) -> None:
        """The client leaves, the server stops."""
        await self.lose()
        await self.interface.shutdown(30)


async def opened(app: Callable[..., Any], **settings: Any) -> Site:
    """A client that has asked `app` for a WebSocket."""
    site = Site(app, **settings)
    await site.open()
    return site
