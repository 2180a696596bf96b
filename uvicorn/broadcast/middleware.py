"""`BroadcastMiddleware`: groups of connections for an application of any interface."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from copy import copy
from functools import partial
from typing import Any, Final

from uvicorn.broadcast.asgi3 import ASGI3Reply
from uvicorn.broadcast.backend import PUBLISH_TIMEOUT, Backend
from uvicorn.broadcast.backend_factory import backend_from_url
from uvicorn.broadcast.default_url import choose_url, url_of_redis
from uvicorn.broadcast.encoding import MAX_MESSAGE_BYTES
from uvicorn.broadcast.groups import GroupsChannel
from uvicorn.broadcast.hub import Hub, HubOptions
from uvicorn.broadcast.members import CLOSE, POLICIES, QUEUE_BYTES, QUEUE_MESSAGES, Gap, Queueing
from uvicorn.broadcast.publisher import Publisher, SendingGroups
from uvicorn.broadcast.signing import Secret, check_secrets
from uvicorn.channel import call_hook
from uvicorn.errors import BroadcastUnavailable, ConfigError, LocalProtocolError
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.broadcast")

# The middleware that has called the running application: a Router's applications have one each.
_CALLER: Final[ContextVar[BroadcastMiddleware | None]] = ContextVar("uvicorn_groups", default=None)


class BroadcastMiddleware:
    """Lets an application of any interface use groups.

    Channels applications have `channels['groups']`, consumers `message['groups']`, ASGI 3 applications
    `scope['groups']`, and WSGI applications `environ['uvicorn.groups']`.

    - Choose the backend by `host` and `port` of Redis, by `url`, or by `backend`. The default `url` is
      UVICORN_BROADCAST_URL, or else a local Redis. If no local Redis is usable, a single process uses `memory://`.
    - `prefix` separates applications that share a Redis.
    - `publish_timeout` is in seconds.
    - `queue_messages` and `queue_bytes` limit the queue of each slow client.
    - When a queue is full, `slow` decides: `'close'` (with 1013), `'drop_oldest'` or `'drop_newest'`.
    - `gaps=False` turns gap events off.
    - When publishing fails, `unavailable='raise'` raises BroadcastUnavailable, and `'drop'` only counts the message.
    - `secret` authenticates requests between processes. A secret has at least 16 bytes. In a list, the first one signs.

    Raises ConfigError for invalid arguments.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        host: str | None = None,
        port: int | None = None,
        *,
        url: str | None = None,
        backend: Backend | None = None,
        prefix: str = "",
        publish_timeout: float = PUBLISH_TIMEOUT,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        queue_messages: int = QUEUE_MESSAGES,
        queue_bytes: int = QUEUE_BYTES,
        slow: str = CLOSE,
        gaps: bool = True,
        unavailable: str = "raise",
        secret: Secret | Sequence[Secret] | None = None,
    ) -> None:
        if sum((host is not None or port is not None, url is not None, backend is not None)) > 1:
            raise ConfigError("BroadcastMiddleware: pass only one of these: host and port; url; backend")
        is_text = host is None or isinstance(host, str)
        if not is_text or (host and (host.count(":") == 1 or not {"/", "@", " "}.isdisjoint(host))):
            # The value is not shown, because it may contain a password.
            raise ConfigError(
                "BroadcastMiddleware: host: expected a name or an address; for a port use port=, for a URL use url="
            )
        counts = {"max_message_bytes": max_message_bytes, "queue_messages": queue_messages, "queue_bytes": queue_bytes}
        timeout_is_valid = isinstance(publish_timeout, (int, float)) and publish_timeout > 0
        for name, value, is_valid, expected in (
            ("prefix", prefix, isinstance(prefix, str), "text"),
            ("publish_timeout", publish_timeout, timeout_is_valid, "seconds above 0"),
            ("slow", slow, slow in POLICIES, f"one of {', '.join(POLICIES)}"),
            ("unavailable", unavailable, unavailable in ("raise", "drop"), "'raise' or 'drop'"),
            *((k, n, isinstance(n, int) and n >= 1, "a number not below 1") for k, n in counts.items()),
        ):
            if not is_valid:
                raise ConfigError(f"BroadcastMiddleware: {name}: expected {expected}, got {value!r}")
        #: Interface detection reads `__wrapped__`.
        self.app = self.__wrapped__ = app
        self._backend = backend
        if host is not None or port is not None:
            url = url_of_redis(host or "localhost", 6379 if port is None else port)
        self.url = url
        self._prefix = prefix
        self._publish_timeout = publish_timeout
        if url is not None:
            # Raises for a malformed URL when the application's module is imported, not at startup.
            self._backend_of(url)
        queueing = Queueing(queue_messages, queue_bytes, slow)
        self._options = HubOptions(queueing, max_message_bytes, unavailable == "raise", check_secrets(secret))
        self._gaps = gaps
        self._is_channels = False
        # A middleware may serve on several event loops, each in a thread of its own.
        self._hubs: dict[asyncio.AbstractEventLoop, Hub] = {}
        self._own_publisher: Publisher | None = None
        # Each application of a Router has a copy of this, with the same hubs. The last one to stop closes the hub.
        self._copies = [self]
        self._started_on: set[asyncio.AbstractEventLoop] = set()
        self._router: Any = None
        if inspect.getattr_static(app, "__uvicorn_no_kind__", None) is not None:
            router: Any = app
            self._router = router.mapped(self._around)

    @property
    def __uvicorn_interface__(self) -> Any:
        return None if self._router is None else self._router.__uvicorn_interface__

    def _around(self, app: Callable[..., Any]) -> BroadcastMiddleware:
        around = copy(self)
        around.app = around.__wrapped__ = app
        around._started_on = set()
        self._copies.append(around)
        return around

    def __call__(self, *arguments: Any) -> Any:
        if len(arguments) == 3:
            return self._serve_asgi(self.app, *arguments)
        if len(arguments) == 2:
            first, second = arguments
            return self._call_wsgi(first, second) if callable(second) else self._call_channels(first, second)
        if len(arguments) == 1:
            first = arguments[0]
            # ASGI 2 calls the application with the scope alone.
            is_scope = isinstance(first, dict) and "type" in first and "reply_channel" not in first
            return self._call_asgi2(first) if is_scope else self._call_consumer(first)
        raise LocalProtocolError(
            "BroadcastMiddleware: expected a call with (message, channels), (message), (scope, receive, send) or "
            f"(environ, start_response), got {len(arguments)} arguments"
        )

    async def startup(self) -> None:
        """Connect, then call the application's `startup` hook (interface rule R15)."""
        await self._start()
        try:
            await call_hook(self.app, "startup")
        except BaseException:
            # Servers do not call `shutdown` after a failed startup.
            await self._stop()
            raise

    async def shutdown(self) -> None:
        """Call the application's `shutdown` hook, then disconnect."""
        try:
            await call_hook(self.app, "shutdown")
        finally:
            await self._stop()

    @property
    def wants_http_disconnect(self) -> bool:
        """Whether the application sets `wants_http_disconnect = True` (interface rule R8)."""
        return getattr(self.app, "wants_http_disconnect", False) is True

    @property
    def metrics(self) -> dict[str, int | bool]:
        """The counters of this middleware in this process. Empty before startup."""
        total: dict[str, int | bool] = {}
        for hub in self._hubs.values():
            for name, value in hub.snapshot().items():
                total[name] = value if isinstance(value, bool) else total.get(name, 0) + value
        return total

    # Calls, by interface.

    async def _call_channels(self, message: Message, channels: dict[str, Any]) -> None:
        self._is_channels = True
        _CALLER.set(self)
        # A copy, because other middleware may use the original.
        await self.app(message, {**channels, "groups": GroupsChannel(self._hub(), channels.get("reply"))})

    def _call_consumer(self, message: Any) -> Any:
        hub = self._find_hub()
        if hub is None:
            raise BroadcastUnavailable("BroadcastMiddleware: not started; the server has to await `startup` first")
        message["groups"] = GroupsChannel(hub, message.get("reply_channel"))
        return self.app(message)

    def _call_wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        hub = self._find_hub()
        _CALLER.set(self)
        environ["uvicorn.groups"] = GroupsChannel(hub) if hub is not None else SendingGroups(self._publisher())
        return self.app(environ, start_response)

    def _call_asgi2(self, scope: dict[str, Any]) -> Any:
        # Some hosts call an ASGI 3 application in this way too, because the middleware is not a coroutine function.
        takes_three = _takes_three(self.app)
        app = self.app if takes_three else lambda scope, receive, send: self.app(scope)(receive, send)
        return partial(self._serve_asgi, app, scope)

    async def _serve_asgi(self, app: Callable[..., Any], scope: dict[str, Any], receive: Any, send: Any) -> None:
        hub = self._hub()
        if scope["type"] == "lifespan":
            await self._serve_lifespan(hub, app, scope, receive, send)
            return
        reply = ASGI3Reply(scope["type"], send)
        try:
            await app({**scope, "groups": GroupsChannel(hub, reply)}, receive, reply.send_as_application)
        finally:
            reply.close()

    async def _serve_lifespan(
        self, hub: Hub, app: Callable[..., Any], scope: dict[str, Any], receive: Any, send: Any
    ) -> None:
        received: set[str] = set()
        sent: set[str] = set()

        async def watched_receive() -> Any:
            event = await receive()
            received.add(event["type"])
            return event

        async def watched_send(event: dict[str, Any]) -> None:
            sent.add(event["type"])
            await send(event)

        await self._start()
        try:
            await app({**scope, "groups": GroupsChannel(hub)}, watched_receive, watched_send)
        except Exception as error:
            if sent:
                await self._stop()
                raise
            if received:
                # Without this middleware the server would log the error.
                logger.warning("lifespan: the application failed; serving it without lifespan", exc_info=error)
        if "lifespan.startup.failed" not in sent:
            for stage in ("startup", "shutdown"):
                if f"lifespan.{stage}" not in received:
                    await receive()
                if stage == "shutdown":
                    await self._stop()
                if f"lifespan.{stage}.complete" not in sent and f"lifespan.{stage}.failed" not in sent:
                    await send({"type": f"lifespan.{stage}.complete"})
        await self._stop()

    # Hubs.

    def _hub(self) -> Hub:
        loop = asyncio.get_running_loop()
        hub = self._hubs.get(loop)
        if hub is None:
            for closed in [other for other in self._hubs if other.is_closed()]:
                del self._hubs[closed]
            hub = self._hubs[loop] = Hub(self._open_backend, self._options, self._on_gap if self._gaps else None)
        return hub

    def _find_hub(self) -> Hub | None:
        try:
            return self._hub()
        except RuntimeError:
            return next((hub for loop, hub in self._hubs.items() if loop.is_running()), None)

    def _publisher(self) -> Publisher:
        if self._backend is not None:
            raise BroadcastUnavailable("BroadcastMiddleware: backend= needs a server with an event loop; pass url=")
        if self._own_publisher is None:
            timeout, limit = self._publish_timeout, self._options.max_message_bytes
            self._own_publisher = Publisher(self.url, prefix=self._prefix, timeout=timeout, max_message_bytes=limit)
        return self._own_publisher

    async def _open_backend(self) -> Backend:
        if self._backend is not None:
            return self._backend
        url = await choose_url() if self.url is None else self.url
        hub = self._hub()
        hub.url, hub.prefix, hub.publish_timeout = url, self._prefix, self._publish_timeout
        return self._backend_of(url)

    def _backend_of(self, url: str) -> Backend:
        return backend_from_url(url, publish_timeout=self._publish_timeout, prefix=self._prefix)

    async def _start(self) -> None:
        await self._hub().start()
        self._started_on.add(asyncio.get_running_loop())

    async def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        self._started_on.discard(loop)
        if any(loop in other._started_on for other in self._copies):
            return
        hub = self._hubs.pop(loop, None)
        if hub is not None:
            await hub.stop()

    async def _on_gap(self, reply: Any, gap: Gap) -> None:
        hub = self._hub()
        groups = sorted(gap.groups)
        event = {"channel": "groups.gap", "groups": groups, "reason": gap.reason, "since": gap.since}
        callback = hub.gap_callbacks.get(reply.name)
        if callback is not None:
            called = callback(event)
            if inspect.isawaitable(called):
                await called
            return
        # This runs with the context variables of the handler that has added the member.
        caller = _CALLER.get()
        if caller is None or caller._hubs is not self._hubs:
            caller = self
        if caller._is_channels:
            await caller.app(event, {"reply": reply, "groups": GroupsChannel(hub, reply)})


def _takes_three(app: Callable[..., Any]) -> bool:
    try:
        inspect.signature(app).bind(None, None, None)
    except TypeError:
        return False
    return True
