"""`DjangoThreads`: lets coroutines use Django's ORM on a bounded number of threads, each request on its own.

Django runs the ORM calls of coroutines by asgiref, on the executor that belongs to the `ThreadSensitiveContext` of the
calling task: one for all of them unless there is such a context. `DjangoThreads` gives each request, and each event of
a channels application or WebSocket, a context whose executor is a `Lease` of one of its threads.

The context is set, and not entered: tasks that outlive a context that was left can make no calls. Django's own handler
opens a context as well, which asgiref ignores inside of ours.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.urls import get_script_prefix, set_script_prefix

from uvicorn.broadcast.log_limit import LogLimit
from uvicorn.core.exchange import ERROR_HEADERS
from uvicorn.django.lanes import Lane, Lanes, Lease, RequestRefused, ThreadsBusy
from uvicorn.errors import ConfigError, InterfaceError
from uvicorn.interfaces.detect import detect_interface
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.app")


@final
class DjangoThreads:
    """`DjangoThreads(app)` is `app`, an ASGI or a channels application, whose coroutines may use Django's ORM.

    A request has one of `threads` threads to itself, with the connections on it, from its first ORM call to its end.
    Events of channels handlers, WebSockets, and tasks that outlive their request have one for each call, of as many
    others. So there are at most twice `threads` connections to each database. A request that finds no free thread for
    `wait` seconds is answered with 503; a call of other code raises ThreadsBusy.

    Raises ConfigError for what cannot be used.
    """

    def __init__(self, app: Callable[..., Any], threads: int = 4, *, wait: float = 5.0) -> None:
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            raise ConfigError(f"DjangoThreads: threads: expected a number not below 1, got {threads!r}")
        if not isinstance(wait, (int, float)) or not 0 <= wait < 3600:
            raise ConfigError(f"DjangoThreads: wait: expected seconds, at most an hour, got {wait!r}")
        try:
            interface = detect_interface(app, "DjangoThreads: the application")
        except InterfaceError:
            if not callable(app):
                raise
            # Middleware that passes its arguments on; each call has as many as its interface.
            interface = "asgi3"
        if interface not in ("asgi3", "channels"):
            raise ConfigError(
                f"DjangoThreads: expected an ASGI 3 or a channels application, got a {interface} one; WSGI applications"
                " and plain functions have threads of their own"
            )
        self.app = app
        #: The application inside, for tools that read signatures.
        self.__wrapped__ = app
        self.threads = threads
        self.lanes = Lanes(Lane(threads, wait), Lane(threads, wait))
        self._refusals = LogLimit()

    async def __call__(self, *arguments: Any) -> Any:
        """Call the application, with `(scope, receive, send)` or `(message, channels)`."""
        if len(arguments) == 3:
            scope, _, send = arguments
            kind = scope["type"]
            has_response = kind == "http" or "websocket.http.response" in (scope.get("extensions") or ())
        else:
            message, channels = arguments
            kind = message.get("channel", "http.request")
            send = getattr(channels.get("reply"), "send", None)
            has_response = kind in ("http.request", "websocket.connect")
        lease = Lease(self.lanes, is_request=kind in ("http", "http.request"))
        context = ThreadSensitiveContext()
        SyncToAsync.context_to_thread_executor[context] = lease
        token = SyncToAsync.thread_sensitive_context.set(context)
        script_prefix = get_script_prefix()
        try:
            return await self.app(*arguments)
        except BaseException as error:
            refusal = _refusal_in(error)
            if refusal is None:
                raise
            if not has_response or not await _answer(kind, send):
                raise ThreadsBusy(str(refusal)) from error
            self._log_refusal(refusal)
        finally:
            lease.end()
            # Of tasks that call the application themselves. One that is closed, not ended, is in another context.
            with suppress(ValueError):
                SyncToAsync.thread_sensitive_context.reset(token)
                set_script_prefix(script_prefix)

    async def startup(self) -> None:
        """Start the application, if it has a `startup`."""
        for lane in self.lanes:
            lane.open()
        await self._call_hook("startup")

    async def shutdown(self) -> None:
        """Shut the application down, then end the threads and close their connections."""
        try:
            await self._call_hook("shutdown")
        finally:
            for lane in self.lanes:
                lane.close()

    @property
    def wants_http_disconnect(self) -> bool:
        """Whether the application does (interface rule R8)."""
        return getattr(self.app, "wants_http_disconnect", False) is True

    def _log_refusal(self, refusal: BaseException) -> None:
        if count := self._refusals.admits():
            logger.warning(
                "DjangoThreads: %d answered with 503, the last one because %s; raise threads=, or hold them for less"
                " time: a request keeps its thread from its first ORM call to its end",
                count,
                str(refusal),
            )

    async def _call_hook(self, name: str) -> None:
        hook = getattr(self.app, name, None)
        if hook is not None:
            await hook()


def release_thread() -> None:
    """Give the thread of this request back before its end: to be called before a long wait, or a long stream.

    A transaction that is open is rolled back. Later ORM calls of the request have a thread for each call, on which what
    middleware has left for the request is not to be found, and what others have left may be.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    lease = SyncToAsync.context_to_thread_executor.get(context) if context is not None else None
    if isinstance(lease, Lease):
        lease.end()


async def _answer(kind: str, send: Callable[[Message], Awaitable[None]]) -> bool:
    """Answer with 503; return False if the response has begun."""
    content = b"Service Unavailable\n"
    headers = [*ERROR_HEADERS, (b"retry-after", b"1")]
    start: Message = {"status": 503, "headers": headers}
    try:
        if kind in ("http.request", "websocket.connect"):
            await send({**start, "content": content})
        else:
            prefix = "http" if kind == "http" else "websocket.http"
            await send({"type": f"{prefix}.response.start", **start})
            await send({"type": f"{prefix}.response.body", "body": content})
    except Exception:
        return False
    return True


def _refusal_in(error: BaseException) -> BaseException | None:
    """Return the refusal that `error` is, or that a group of tasks has failed with."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_refusal_in, error.exceptions)), None)
    return error if isinstance(error, (RequestRefused, ThreadsBusy)) else None
