"""Base class of the interfaces. Each served application has one interface."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from uvicorn.channel import call_hook
from uvicorn.core.counts import Counts, Place
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.interfaces.handlers import HandlerTasks
from uvicorn.interfaces.held import HeldResponse
from uvicorn.settings import Settings
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.app")


class Interface:
    """Calls an application of one kind. Subclasses set `name` and implement `serve_http`."""

    name = ""
    #: Whether WebSocket handshakes are served; if not, their `Upgrade` field is ignored (RFC 9110, section 7.8).
    serves_websockets = False
    #: Whether `serve_handshake` may take the connection over, although `serves_websockets` is false.
    takes_over = False
    #: Whether only pages of the server's own host may open a WebSocket, unless the settings list other origins.
    checks_origin = True
    #: Whether clients can run code in a debugger, which the server then serves on loopback addresses only.
    has_debugger = False
    #: The signature of an application of this kind, for errors.
    expected = "async def"
    #: What else to write for a plain function, for errors.
    alternative = "return what another application has returned"
    #: Whether it runs the application's startup and shutdown. Of several interfaces of one application, only one does.
    runs_hooks = True
    #: Whether it shows counts of the requests, so that the server has to count them.
    wants_counts = False

    def __init__(self, app: Callable[..., Any], settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.tasks = HandlerTasks(self.expected, self.alternative)
        is_function = inspect.isroutine(app) or isinstance(app, partial)
        # For a plain function, which may be middleware around a coroutine function, `call_plain` finds out.
        self.returns_awaitables = inspect.iscoroutinefunction(app if is_function else type(app).__call__)

    async def startup(self) -> None:
        """Await the application's optional `startup` method (rule R15)."""
        if self.runs_hooks:
            await call_hook(self.app, "startup")

    async def shutdown(self, seconds: float) -> None:
        """Cancel handlers that still run after `seconds`. Then await the application's optional `shutdown` method."""
        await self.finish_handlers(seconds)
        if self.runs_hooks:
            await call_hook(self.app, "shutdown")

    async def finish_handlers(self, seconds: float) -> None:
        cancelled = await self.tasks.finish(seconds)
        if cancelled:
            noun = "handler" if cancelled == 1 else "handlers"
            logger.warning("shutdown: cancelled %d %s after %g seconds", cancelled, noun, seconds)

    @property
    def parts(self) -> Sequence[Interface]:
        """The interface itself. For a Router, the interfaces of the Router's applications."""
        return (self,)

    def counted_in(self, counts: Counts, place: Place) -> None:
        """Add the application to `counts`. Call this before `startup`."""
        counts.add(place, self.name, getattr(self.app, "__uvicorn_lane__", None))

    def at(self, exchange: HTTPExchange) -> Interface:
        """Return the interface that serves a WebSocket handshake."""
        return self

    def contain_exits(self) -> None:
        """Limit the effect of SystemExit and KeyboardInterrupt to the handler's request."""
        self.tasks.contains_exits = True

    def serve_http(self, exchange: HTTPExchange) -> None:
        """Call the application, which responds to `exchange`. Never raises."""
        raise NotImplementedError

    def serve_websocket(self, session: WebSocketSession) -> None:
        """Call the application, which accepts or rejects `session`. Never raises."""
        raise NotImplementedError

    def serve_handshake(self, session: WebSocketSession) -> None:
        """Serve a WebSocket handshake as an ordinary HTTP request. Never raises."""
        self.serve_http(session.request)

    def call_plain(self, exchange: HTTPExchange, *arguments: Any) -> Any:
        """Call the application. Drop the response if the result is not awaitable."""
        held = HeldResponse(exchange)
        try:
            returned = self.app(*arguments)
        except BaseException:
            held.release()
            raise
        self.returns_awaitables = hasattr(returned, "__await__")
        if self.returns_awaitables:
            held.release()
        else:
            # The application is invalid.
            held.drop()
        return returned


def request_template(key: str, kind: str, endpoint: Endpoint) -> Message:
    """Return a connection's template for channels messages and ASGI scopes."""
    # In one step: adapters need a template for each request, because each request has an endpoint of its own.
    return {
        key: kind,
        "http_version": "",
        "method": "",
        "scheme": endpoint.scheme,
        "path": "",
        "raw_path": b"",
        "query_string": b"",
        "root_path": endpoint.root_path,
        "headers": None,
        "server": endpoint.server,
        "client": endpoint.client,
    }


def fill_template(message: Message, exchange: HTTPExchange) -> None:
    """Copy the request's values from `exchange` to `message`, except `headers`."""
    message["http_version"] = exchange.http_version
    message["method"] = exchange.method
    message["path"] = exchange.path
    message["raw_path"] = exchange.raw_path
    message["query_string"] = exchange.query_string
    if exchange.endpoint.root_path:
        message["root_path"] = exchange.root_path
    if exchange.forwarded is not None:
        message["client"], message["scheme"] = exchange.forwarded


def handshake_keys(session: WebSocketSession) -> Message:
    """Return the keys that `websocket.connect` messages and ASGI scopes share, except `headers`."""
    request = session.request
    return {
        "scheme": "wss" if request.scheme == "https" else "ws",
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query_string,
        "root_path": request.root_path,
        "subprotocols": list(session.subprotocols),
        "server": request.endpoint.server,
        "client": request.client,
    }
