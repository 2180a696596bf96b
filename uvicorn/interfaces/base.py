"""Base class of the interfaces; each served application has one interface."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.core.exchange import HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.interfaces.handlers import HandlerTasks
from uvicorn.interfaces.held import call_held
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")


class Interface:
    """Calls an application of one kind. Subclasses set `name` and implement `serve_http`."""

    name = ""
    #: Whether it serves websockets; if not, an offer to upgrade is ignored, as RFC 9110, section 7.8 allows.
    serves_websockets = False
    #: Whether a websocket is taken from pages of its own host only, unless settings say otherwise.
    checks_origin = True
    #: How an application of this kind is written, where it is a coroutine function.
    expected = "async def"

    def __init__(self, app: Callable[..., Any], settings: Settings) -> None:
        self.app = app
        self.settings = settings
        self.tasks = HandlerTasks(self.expected)
        # A plain function may be a thin middleware, which returns a coroutine, or a mistake.
        self.returns_awaitables = _is_coroutine_function(app)

    async def startup(self) -> None:
        """Run the application's own `startup`, if any, once per process before the first exchange (rule R15)."""
        await self._call_hook("startup")

    async def shutdown(self, seconds: float) -> None:
        """Let handlers that still run finish within `seconds`, then cancel them and run the application's `shutdown`.

        Called once per process, after the last exchange.
        """
        await self.finish_handlers(seconds)
        await self._call_hook("shutdown")

    async def finish_handlers(self, seconds: float) -> None:
        """Wait for handlers that still run, `seconds` at most, then cancel them."""
        cancelled = await self.tasks.finish(seconds)
        if cancelled:
            logger.warning(
                "handlers cancelled because they were still running after %g seconds: %d", seconds, cancelled
            )

    def serve_http(self, exchange: HTTPExchange) -> None:
        """Have the application respond to `exchange`. Never raises: a failure ends the exchange."""
        raise NotImplementedError

    def serve_websocket(self, session: WebSocketSession) -> None:
        """Have the application accept or reject `session` and receive its messages. Never raises."""
        raise NotImplementedError

    def call_plain(self, exchange: HTTPExchange, *arguments: Any) -> Any:
        """Call an application that is a plain function and has returned no awaitable yet; see `call_held`."""
        returned = call_held(exchange, self.app, arguments)
        self.returns_awaitables = hasattr(returned, "__await__")
        return returned

    async def _call_hook(self, name: str) -> None:
        hook = getattr(self.app, name, None)
        if inspect.iscoroutinefunction(hook):
            await hook()


def _is_coroutine_function(app: Callable[..., Any]) -> bool:
    is_function = inspect.isroutine(app) or isinstance(app, partial)
    return inspect.iscoroutinefunction(app if is_function else type(app).__call__)
