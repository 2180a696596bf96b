"""`DjangoThreads` runs the ORM calls of coroutines on a bounded number of threads."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, final

from asgiref.sync import SyncToAsync, ThreadSensitiveContext
from django.conf import settings
from django.urls import get_script_prefix, set_script_prefix
from django.views.debug import technical_500_response

from uvicorn.channel import call_hook
from uvicorn.core.exchange import OVERLOADED
from uvicorn.django.lanes import Lane, Lanes, Lease, RequestRefused, ThreadsBusy
from uvicorn.django.requests import request_of, send_response
from uvicorn.errors import ConfigError, InterfaceError
from uvicorn.interfaces.detect import detect_interface
from uvicorn.log_limit import LogLimit
from uvicorn.types import Headers, Message

logger = logging.getLogger("uvicorn.app")


@final
class DjangoThreads:
    """Middleware for ASGI and channels applications that use Django's ORM in coroutines.

    A request keeps one thread from the first ORM call until the request ends. All other ORM calls borrow a thread from
    a second pool. Each pool has `threads` threads. If no thread is free within `wait` seconds, a request gets a 503
    response. Any other call raises ThreadsBusy. With DEBUG, exceptions are shown on Django's debug page.

    Raises ConfigError for an invalid argument.
    """

    def __init__(self, app: Callable[..., Any], threads: int = 4, *, wait: float = 5.0) -> None:
        if not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
            raise ConfigError(f"DjangoThreads: threads: expected a number not below 1, got {threads!r}")
        if not isinstance(wait, (int, float)) or not 0 <= wait < 3600:
            raise ConfigError(f"DjangoThreads: wait: expected seconds, at least 0 and less than 3600, got {wait!r}")
        try:
            interface = detect_interface(app, "DjangoThreads: the application")
        except InterfaceError:
            if not callable(app):
                raise
            # Middleware that takes *arguments: the number of arguments of each call shows the interface.
            interface = "asgi3"
        if interface not in ("asgi3", "channels"):
            raise ConfigError(
                f"DjangoThreads: expected an ASGI 3 or a channels application, got the interface {interface}; WSGI"
                " applications and plain functions need no DjangoThreads"
            )
        #: Interface detection reads `__wrapped__`.
        self.app = self.__wrapped__ = app
        self.threads = threads
        self.lanes = Lanes(Lane(threads, wait), Lane(threads, wait))
        self._refusals = LogLimit()

    async def __call__(self, *arguments: Any) -> Any:
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
        # asgiref runs the ORM calls of a task on the executor of the task's context.
        SyncToAsync.context_to_thread_executor[context] = lease
        # Set, but not entered: a task that outlives its request could make no calls after the exit.
        token = SyncToAsync.thread_sensitive_context.set(context)
        script_prefix = get_script_prefix()
        try:
            return await self.app(*arguments)
        except BaseException as error:
            refusal = _refusal_in(error)
            if refusal is None:
                if settings.DEBUG and has_response and isinstance(error, Exception):
                    page = technical_500_response(request_of(arguments[0]), type(error), error, error.__traceback__)
                    headers = [(name.encode(), value.encode()) for name, value in page.items()]
                    await _answer(kind, send, 500, headers, page.content)
                raise
            if not has_response or not await _answer(kind, send, *OVERLOADED):
                raise ThreadsBusy(str(refusal)) from error
            if count := self._refusals.admits():
                logger.warning("DjangoThreads: %d requests answered with 503: %s; increase threads=", count, refusal)
        finally:
            lease.end()
            # ValueError: the coroutine is closed from another context than it ran in.
            with suppress(ValueError):
                SyncToAsync.thread_sensitive_context.reset(token)
                set_script_prefix(script_prefix)

    @property
    def __uvicorn_lane__(self) -> Lane:
        """The pool of request threads, for metrics."""
        return self.lanes[0]

    async def startup(self) -> None:
        for lane in self.lanes:
            lane.open()
        await call_hook(self.app, "startup")

    async def shutdown(self) -> None:
        """Run the application's `shutdown`, then end the threads."""
        try:
            await call_hook(self.app, "shutdown")
        finally:
            for lane in self.lanes:
                lane.close()

    @property
    def wants_http_disconnect(self) -> bool:
        """Whether the application sets `wants_http_disconnect = True` (interface rule R8)."""
        return getattr(self.app, "wants_http_disconnect", False) is True


def release_thread() -> None:
    """Release the current request's thread before a long wait or stream.

    Later ORM calls run on any thread, without the thread-local state of middleware. If a transaction is open, it is
    rolled back, and later ORM calls raise TransactionManagementError.
    """
    context = SyncToAsync.thread_sensitive_context.get(None)
    lease = SyncToAsync.context_to_thread_executor.get(context) if context is not None else None
    if isinstance(lease, Lease):
        lease.end()


async def _answer(
    kind: str, send: Callable[[Message], Awaitable[None]], status: int, headers: Headers, content: bytes
) -> bool:
    try:
        await send_response(kind, send, status, headers, content)
    except Exception:
        return False
    return True


def _refusal_in(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_refusal_in, error.exceptions)), None)
    return error if isinstance(error, (RequestRefused, ThreadsBusy)) else None
