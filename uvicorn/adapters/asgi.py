"""Makes an application of any kind usable as a channels application."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from typing import Any, final
from urllib.parse import quote, unquote_to_bytes

from uvicorn.adapters.crossing import MessageGateway
from uvicorn.adapters.direct_call import answer_directly
from uvicorn.adapters.startup_once import StartupOnce
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.errors import ClientDisconnected, ConfigError, LocalProtocolError
from uvicorn.fields import split_pairs
from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.detect import build_interface, check_interface
from uvicorn.interfaces.environ import host_environ
from uvicorn.interfaces.http_reply import ReplyChannel
from uvicorn.interfaces.threaded import ThreadedInterface
from uvicorn.interfaces.wsgi import WSGIInterface
from uvicorn.interfaces.wsgi_response import field_octets
from uvicorn.settings import Settings
from uvicorn.types import Headers, Message

logger = logging.getLogger("uvicorn.app")


class ASGIAdapter:
    """`ASGIAdapter(app)` is a channels application that calls `app`.

    `interface` names the kind of `app`. A WSGI application runs on `threads` threads, or on the threads of `executor`.
    If too many requests wait for one of these `threads`, the next gets 503. WebSockets are rejected.

    Servers may await `startup` and `shutdown`. Otherwise, the first request starts `app`.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        threads: int | None = None,
        executor: Executor | None = None,
        interface: str = "wsgi",
    ) -> None:
        check_interface(app, interface, "ASGIAdapter: the application")
        if interface != "wsgi":
            build_interface(app, Settings(interface=interface), "ASGIAdapter: the application")
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise ConfigError(f"ASGIAdapter: threads: expected a number not below 1, got {threads!r}")
        if executor is not None and not hasattr(executor, "submit"):
            raise ConfigError(f"ASGIAdapter: executor: expected a concurrent.futures.Executor, got {executor!r:.100}")
        self.app = app
        self._name = interface
        self._threads = threads
        self._executor = executor
        self._starting: StartupOnce | None = None
        # Event loops of several threads may share the adapter.
        self._lock = threading.Lock()

    def __uvicorn_interface__(self, settings: Settings) -> Interface:
        """Build an interface that serves `app` without this adapter."""
        settings = replace(settings, interface=self._name, threads=self._threads or settings.threads)
        if self._name == "wsgi":
            return WSGIInterface(self.app, settings, self._executor)
        return build_interface(self.app, settings)

    @property
    def __uvicorn_adapted__(self) -> tuple[Any, object]:
        """The application and its pool. A Router compares both."""
        pool = self._threads, self._executor
        return self.app, None if pool == (None, None) else pool

    def mapped(self, wrap: Callable[[Any], Any]) -> ASGIAdapter:
        """Return a copy of this adapter around `wrap(app)`."""
        return ASGIAdapter(wrap(self.app), threads=self._threads, executor=self._executor, interface=self._name)

    async def startup(self) -> None:
        """Start the application, unless it has already started."""
        await self._begun().ended()

    async def shutdown(self) -> None:
        """Shut the application down, and end its threads."""
        starting, self._starting = self._starting, None
        if starting is not None:
            if isinstance(starting.interface, ThreadedInterface):
                atexit.unregister(starting.interface.end_workers)
            await starting.interface.shutdown(0)

    async def __call__(self, message: Message, channels: Mapping[str, Any]) -> None:
        """Answer `message` through `channels['reply']`.

        Raises the application's exception, ResponseAborted or StartupError.
        Exceptions such as OSError and SystemExit are raised as ApplicationError.
        """
        kind = message.get("channel", "http.request")
        if kind == "websocket.connect":
            await channels["reply"].send({"accept": False})
        elif kind == "http.request":
            starting = self._begun()
            if not starting.succeeded:
                await starting.ended()
                # A concurrent shutdown may have replaced it.
                starting = self._begun()
            interface, reply = starting.interface, channels["reply"]
            if type(reply) is ReplyChannel and type(interface) is WSGIInterface and "body" not in channels:
                exchange = reply.exchange_of(message)
                if exchange is not None:
                    await answer_directly(interface, exchange)
                    return
            gateway = ChannelsGateway(message, channels, interface.settings)
            try:
                interface.serve_http(gateway.exchange)
                await gateway.deliver(reply.send)
            finally:
                gateway.end()

    def _begun(self) -> StartupOnce:
        starting = self._starting
        if starting is None:
            with self._lock:
                starting = self._starting
                if starting is None:
                    interface = self.__uvicorn_interface__(Settings())
                    interface.contain_exits()
                    if isinstance(interface, ThreadedInterface):
                        atexit.register(interface.end_workers)
                    starting = self._starting = StartupOnce(interface)
        return starting


@final
class ChannelsGateway(MessageGateway):
    def __init__(self, message: Message, channels: Mapping[str, Any], settings: Settings) -> None:
        super().__init__(settings)
        reply = channels["reply"]
        self._body = channels.get("body")
        inline = message.get("body", b"")
        self.exchange = exchange_from_message(message, self, bool(inline) or self._body is not None)
        if inline:
            self.exchange.content.feed(inline)
        if self._body is None:
            self.exchange.content.feed_eof()
        # Other hosts' reply channels may lack both methods. Ours distinguish half-closed and disconnected clients.
        on_close, on_end = getattr(reply, "on_close", None), getattr(reply, "on_end", None)
        if on_end is not None:
            on_end(self.exchange.disconnect)
        if on_close is not None:
            # The body channel reports missing content.
            half_close = partial(self.exchange.half_close, content_follows=True)
            on_close(half_close if on_end is not None else self.exchange.disconnect)

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        message: Message = {"status": status, "status_text": reason, "headers": copied_fields(headers, "headers")}
        message["content"], message["more_content"] = content, more_content
        self._put(message, len(content))

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        if self._has_room(exchange, len(content)):
            self._put({"content": content, "more_content": more_content}, len(content))

    def want_content(self, exchange: HTTPExchange) -> None:
        if self._body is not None:
            self._read_on()

    async def _read(self) -> None:
        assert self._body is not None
        try:
            chunk = await self._body.receive()
            closed = chunk.get("closed", False)
            content = b"" if closed else chunk["content"]
        except Exception as error:
            if not isinstance(error, ClientDisconnected):
                logger.error(
                    "%s: body.receive() failed; treating the content as incomplete", self.exchange, exc_info=error
                )
            closed = True
        finally:
            self._reading = None
        if closed:
            self.exchange.content.break_off()
            return
        if content:
            self.exchange.content.feed(content)
        if not chunk.get("more_content", False):
            self.exchange.content.feed_eof()
        elif not content:
            self.want_content(self.exchange)


def exchange_from_message(message: Message, gateway: HTTPGateway, has_content: bool) -> HTTPExchange:
    """Build the exchange for an `http.request` message."""
    path: str = message["path"]
    raw_path: bytes | None = message.get("raw_path")
    if raw_path is None or unquote_to_bytes(raw_path).decode("utf-8", "replace") != path:
        # Missing, or outdated because a middleware changed 'path' (interface rule R18).
        raw_path = quote(path, safe="/!$&'()*+,;=:@~").encode()
    query = message.get("query_string", b"")
    scheme, root_path = message.get("scheme") or "http", message.get("root_path") or ""
    server, client = _address(message.get("server")), _address(message.get("client"))
    endpoint = Endpoint(scheme, root_path, server, client, asyncio._get_running_loop())
    fields = copied_fields(message.get("headers", ()), "message['headers']")
    for field in fields:
        field[0] = field[0].lower()
    if message.get("environ"):
        endpoint.environ = host_environ(message["environ"])
    target = raw_path + b"?" + query if query else raw_path
    method, http_version = message["method"], message.get("http_version", "1.1")
    return HTTPExchange(gateway, endpoint, method, target, http_version, split_pairs(fields), has_content)


def copied_fields(headers: Headers, what: str) -> list[list[bytes]]:
    """Copy `headers` into new lists. Raises LocalProtocolError for malformed fields."""
    try:
        return [
            [
                name if type(name) is bytes else field_octets(name),
                value if type(value) is bytes else field_octets(value),
            ]
            for name, value in headers
        ]
    except (TypeError, ValueError):
        raise LocalProtocolError(f"{what}: expected [name, value] pairs of bytes, got {headers!r:.200}") from None


def _address(pair: Sequence[Any] | None) -> tuple[str, int] | None:
    return (pair[0], pair[1]) if pair and pair[1] is not None else None
