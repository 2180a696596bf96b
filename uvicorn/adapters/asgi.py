"""A WSGI application as a channels application."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Any, final
from urllib.parse import quote

from uvicorn.errors import ClientDisconnected
from uvicorn.exchange import COMPLETE, Endpoint, HTTPExchange, HTTPGateway
from uvicorn.interfaces.wsgi import WSGIInterface
from uvicorn.settings import Settings
from uvicorn.types import Headers, Message

# Content that waits to be taken by the reply channel; above it the application's thread waits.
_HIGH_WATER_BYTES = 65536


class ASGIAdapter:
    """`ASGIAdapter(wsgi_app)` is an application `async def app(message, channels)`.

    The WSGI application runs on a pool of `threads` long-lived threads, off the event loop, or on `executor`, which
    may be any `concurrent.futures.Executor`. A request that finds too many others waiting is answered with 503.
    A websocket is refused.
    """

    def __init__(
        self, app: Callable[..., Any], *, threads: int | None = None, executor: Executor | None = None
    ) -> None:
        self.app = app
        self._threads = threads
        self._executor = executor
        self._interface: WSGIInterface | None = None

    def __uvicorn_interface__(self, settings: Settings) -> WSGIInterface:
        """The interface that a server may use directly, instead of going through messages."""
        if self._interface is None:
            if self._threads is not None:
                settings = replace(settings, threads=self._threads)
            self._interface = WSGIInterface(self.app, settings, self._executor)
        return self._interface

    async def startup(self) -> None:
        """Once per process, before the first request (interface rule R15)."""
        await self.__uvicorn_interface__(Settings()).startup()

    async def shutdown(self) -> None:
        """Once per process, after the last request: ends the threads."""
        if self._interface is not None:
            await self._interface.shutdown(0)

    async def __call__(self, message: Message, channels: dict[str, Any]) -> None:
        """Answer `message` through `channels['reply']`."""
        kind = message.get("channel", "http.request")
        if kind == "websocket.connect":
            await channels["reply"].send({"accept": False})
        elif kind == "http.request":
            gateway = ChannelsGateway(message, channels)
            self.__uvicorn_interface__(Settings()).serve_http(gateway.exchange)
            await gateway.pump()


@final
class ChannelsGateway(HTTPGateway):
    """Carries one request in from a message, and its response out through a reply channel."""

    __slots__ = ("_body", "_changed", "_drainers", "_messages", "_reading", "_reply", "_waiting_bytes", "exchange")

    def __init__(self, message: Message, channels: dict[str, Any]) -> None:
        self._reply = channels["reply"]
        self._body = channels.get("body")
        self._messages: deque[Message] = deque()
        self._waiting_bytes = 0
        self._changed = asyncio.Event()
        self._drainers: tuple[asyncio.Future[None], ...] = ()
        self._reading: asyncio.Task[None] | None = None
        inline = message.get("body", b"")
        self.exchange = exchange_from_message(message, self, bool(inline) or self._body is not None)
        if inline:
            self.exchange.feed_content(inline)
        if self._body is None:
            self.exchange.feed_eof()
        on_close = getattr(self._reply, "on_close", None)
        if on_close is not None:
            on_close(self._closed)

    async def pump(self) -> None:
        """Send what the application says, at the pace of the reply channel, until it has said all."""
        try:
            while True:
                while self._messages:
                    message = self._messages.popleft()
                    await self._reply.send(message)
                    self._waiting_bytes -= len(message["content"])
                    if not self.write_paused:
                        self._wake()
                if self.exchange.state >= COMPLETE:
                    return
                self._changed.clear()
                await self._changed.wait()
        finally:
            self.exchange.disconnect()
            if self._reading is not None:
                self._reading.cancel()

    @property
    def write_paused(self) -> bool:  # type: ignore[override]
        """Whether the reply channel is behind."""
        return self._waiting_bytes > _HIGH_WATER_BYTES

    def send_response(
        self,
        exchange: HTTPExchange,
        status: int,
        headers: Headers,
        content: bytes,
        more_content: bool,
        reason: bytes,
    ) -> None:
        """Queue a response."""
        self._put(
            {
                "status": status,
                "status_text": reason,
                "headers": [[bytes(name), bytes(value)] for name, value in headers],
                "content": content,
                "more_content": more_content,
            }
        )

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        """Queue a chunk."""
        self._put({"content": content, "more_content": more_content})

    def want_content(self, exchange: HTTPExchange) -> None:
        """Receive another piece from the body channel."""
        if self._body is not None and self._reading is None:
            self._reading = asyncio.get_running_loop().create_task(self._read())

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        """Let `pump` find out."""
        self._changed.set()
        self._wake()

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        """Fail like an application that raises in the middle of its response, which is what has happened."""
        self._messages.clear()
        self._reply = _Raising(ResponseAborted(reason))
        self._put({"content": b"", "more_content": False})

    async def drain(self) -> None:
        """Wait until the reply channel has caught up, or the exchange is over."""
        if self.write_paused and self.exchange.state < COMPLETE:
            drainer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drainers = (*self._drainers, drainer)
            await drainer

    async def _read(self) -> None:
        assert self._body is not None
        try:
            chunk = await self._body.receive()
            content = chunk["content"]
        except ClientDisconnected:
            self.exchange.break_content()
            return
        finally:
            self._reading = None
        if content:
            self.exchange.feed_content(content)
        if not chunk.get("more_content", False):
            self.exchange.feed_eof()
        elif not content:
            self.want_content(self.exchange)

    def _put(self, message: Message) -> None:
        self._messages.append(message)
        self._waiting_bytes += len(message["content"])
        self._changed.set()

    def _wake(self) -> None:
        drainers, self._drainers = self._drainers, ()
        for drainer in drainers:
            if not drainer.done():
                drainer.set_result(None)

    def _closed(self) -> None:
        if self.exchange.state < COMPLETE:
            self.exchange.disconnect()


class ResponseAborted(Exception):
    """The application failed in the middle of its response; why has been logged."""


class _Raising:
    def __init__(self, error: Exception) -> None:
        self._error = error

    async def send(self, message: Message) -> None:
        raise self._error


def exchange_from_message(message: Message, gateway: HTTPGateway, has_content: bool) -> HTTPExchange:
    """The exchange that a channels message describes; what is optional in it may be missing."""
    raw_path = message.get("raw_path")
    if raw_path is None:
        raw_path = quote(message["path"], safe="/!$&'()*+,;=:@~").encode()
    query = message.get("query_string", b"")
    server, client = message.get("server"), message.get("client")
    exchange = HTTPExchange(
        gateway,
        Endpoint(
            message.get("scheme") or "http",
            message.get("root_path") or "",
            (server[0], server[1]) if server else None,
            (client[0], client[1]) if client else None,
            asyncio.get_running_loop(),
        ),
        message["method"],
        raw_path + b"?" + query if query else raw_path,
        message.get("http_version", "1.1"),
        [[bytes(name), bytes(value)] for name, value in message.get("headers", ())],
        has_content,
    )
    exchange.host_environ = message.get("environ")
    return exchange
