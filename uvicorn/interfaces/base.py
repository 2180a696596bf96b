"""What every interface shares: one is made for each served application."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from uvicorn.errors import BroadcastUnavailable, ClientDisconnected, ResponseAborted
from uvicorn.escape import escaped
from uvicorn.exchange import ERROR_HEADERS, WAITING, HTTPExchange
from uvicorn.interfaces.held import call_held
from uvicorn.interfaces.tasks import HandlerTasks, NoAwaitable
from uvicorn.processes import end_fork
from uvicorn.session import WebSocketSession
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")

# What frameworks raise that have received a disconnect: Starlette (and FastAPI), Litestar, Quart, BlackSheep, Falcon,
# Django and channels. There may be nothing of ours behind it.
_DISCONNECTS: Final = frozenset(
    (
        "ClientDisconnect",
        "ClientDisconnectedError",
        "MessageAborted",
        "RequestAborted",
        "WebSocketDisconnect",
        "WebSocketDisconnectError",
        "WebSocketDisconnected",
    )
)


class Interface:
    """How an application of one kind is called. Subclasses set `name` and say how an exchange is served."""

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
        """Once per process, before the first exchange: the application's own `startup`, if it has one (rule R15)."""
        await self._call_hook("startup")

    async def shutdown(self, seconds: float) -> None:
        """Once per process, after the last exchange.

        Handlers that still run get `seconds` to finish and are cancelled then; the application's `shutdown` follows.
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
        """Have the application answer `exchange`. Never raises: what goes wrong is the exchange's to tell."""
        raise NotImplementedError

    def serve_websocket(self, session: WebSocketSession) -> None:
        """Have the application decide about `session`, and listen to it. Never raises."""
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


def is_disconnect(error: BaseException, seen: frozenset[int] = frozenset()) -> bool:
    """Whether `error` is that a client has gone, or what a framework has made of it.

    What fails while somebody deals with a client that has gone is not that: hence causes, and no contexts. An
    exception that is raised again out of a group may be its own cause: hence `seen`.
    """
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if isinstance(link, ClientDisconnected) or type(link).__name__ in _DISCONNECTS:
            return True
        seen |= {id(link)}
        if isinstance(link, BaseExceptionGroup):
            return all(is_disconnect(member, seen) for member in link.exceptions)
        link = link.__cause__
    return False


def is_reported(error: BaseException) -> bool:
    """Whether the log says already, in one line for all such errors, that messages to groups are not taken."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(is_reported, error.exceptions))
    return isinstance(error, BroadcastUnavailable) and error.reported


def log_failure(where: object, error: BaseException) -> None:
    """Log what the application has raised while it served `where`, unless that has been reported."""
    if not isinstance(error, NoAwaitable):
        level = logging.DEBUG if is_reported(error) else logging.ERROR
        logger.log(level, "%s: exception in the application", where, exc_info=error)
    elif error.is_first:
        logger.error("%s: %s", where, escaped(error, 1000))


def _is_coroutine_function(app: Callable[..., Any]) -> bool:
    is_function = inspect.isroutine(app) or isinstance(app, partial)
    return inspect.iscoroutinefunction(app if is_function else type(app).__call__)


def answer_failure(exchange: HTTPExchange, error: BaseException) -> None:
    """The application has raised `error`: log it and answer the client, or pass it to the caller of an adapter."""
    if exchange.endpoint.is_parents:
        end_fork(error)
    if isinstance(error, NoAwaitable):
        log_failure(exchange, error)
    elif is_disconnect(error):
        logger.info("%s: the client went away before the end", exchange)
        if exchange.state == WAITING:
            # It may have closed only its own side, and still be reading (RFC 9112, section 8).
            exchange.respond(400, ERROR_HEADERS, b"Bad Request\n")
    elif not isinstance(error, ResponseAborted):
        if exchange.gateway.pass_failure(exchange, error):
            exchange.disconnect()
            return
        log_failure(exchange, error)
    exchange.app_failed("exception in the application")
