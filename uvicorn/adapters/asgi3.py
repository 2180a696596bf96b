"""Makes an application of any kind usable as an ASGI 3 application."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, final

from uvicorn.adapters.asgi import exchange_from_message
from uvicorn.adapters.asgi3_websocket import ASGI3WebSocketGateway
from uvicorn.adapters.crossing import MessageGateway
from uvicorn.adapters.response_checks import ResponseChecks, encode_fields
from uvicorn.adapters.routed import asgi_call
from uvicorn.adapters.startup_once import StartupOnce
from uvicorn.core.exchange import HTTPExchange
from uvicorn.errors import ConfigError, StartupError
from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.detect import build_interface
from uvicorn.routing.applications import OwningInterface
from uvicorn.routing.interface import RouterInterface
from uvicorn.settings import Settings
from uvicorn.types import Headers, Receive, Send

logger = logging.getLogger("uvicorn.app")

# Time for the application to finish its work after the host has sent lifespan.shutdown.
_SHUTDOWN_SECONDS: Final = 5.0

# The server's default.
_HALF_CLOSED_SECONDS: Final = Settings().half_closed_seconds


class ASGI3Adapter:
    """`ASGI3Adapter(app)` is an ASGI 3 application for HTTP, WebSocket and lifespan.

    `app` is a channels, consumer or WSGI application. `interface` names its kind. By default, its signature decides.
    WSGI applications and plain functions run on `threads` threads, by default 16.

    `allowed_origins` lists the origins whose pages may open a WebSocket. `*` allows all origins.
    By default, channels applications accept only pages of the requested host.
    `timeout_half_closed` is the time in seconds that a response may continue after `http.disconnect`.

    Raises ConfigError for an unknown kind or an invalid keyword.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        *,
        interface: str = "auto",
        allowed_origins: Sequence[str] = (),
        timeout_half_closed: float = _HALF_CLOSED_SECONDS,
        threads: int | None = None,
    ) -> None:
        seconds = timeout_half_closed
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
            raise ConfigError(f"ASGI3Adapter: timeout_half_closed: expected a number not below 0, got {seconds!r}")
        if threads is not None and (not isinstance(threads, int) or threads < 1):
            raise ConfigError(f"ASGI3Adapter: threads: expected a number not below 1, got {threads!r}")
        self.app = app
        self._allowed_origins = frozenset(allowed_origins)
        settings = Settings(interface=interface, access_log=False, half_closed_seconds=seconds)
        self._settings = settings if threads is None else replace(settings, threads=threads)
        # Built now, so that a configuration error is raised when the module is imported.
        self._interface: Interface = build_interface(app, self._settings, keyword="interface=...")
        self._interface.contain_exits()
        self._router = self._interface if isinstance(self._interface, RouterInterface) else None
        self._starting = StartupOnce(self._interface)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request, one WebSocket, or the process's lifespan.

        Raises the application's exception, ResponseAborted or StartupError.
        Exceptions such as OSError and SystemExit are raised as ApplicationError.
        """
        kind = scope["type"]
        if kind == "lifespan":
            await self._live(receive, send)
            return
        await self._starting.ended()
        if self._router is not None and (kind == "http" or (kind == "websocket" and not self._allowed_origins)):
            found = asgi_call(self._router, scope)
            if found is not None:
                app, scope = found
                await app(scope, receive, send)
                return
        if kind == "http":
            await ASGI3Gateway(scope, receive, send, self._settings).serve(self._interface)
        elif kind == "websocket":
            gateway = ASGI3WebSocketGateway(scope, receive, send, self._settings)
            await gateway.serve(self._interface, self._allowed_origins)
        else:
            raise ValueError(f"scope: expected type http, websocket or lifespan, got {kind!r:.60}")

    @property
    def __uvicorn_interface__(self) -> Any:
        """`app.__uvicorn_interface__` if `app` is a Router or a Shift, otherwise None."""
        return (
            getattr(self.app, "__uvicorn_interface__", None) if isinstance(self._interface, OwningInterface) else None
        )

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._starting.ended()
        except StartupError as error:
            logger.error("the application's startup failed", exc_info=error.__cause__)
            await send({"type": "lifespan.startup.failed", "message": f"{error}: {error.__cause__!r:.200}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        # The next call starts the application again.
        self._starting = StartupOnce(self._interface)
        try:
            await self._interface.shutdown(_SHUTDOWN_SECONDS)
        except Exception as error:
            logger.error("the application's shutdown failed", exc_info=error)
            await send(
                {"type": "lifespan.shutdown.failed", "message": f"the application's shutdown failed: {error!r:.200}"}
            )
        else:
            await send({"type": "lifespan.shutdown.complete"})


@final
class ASGI3Gateway(MessageGateway):
    def __init__(self, scope: dict[str, Any], receive: Receive, send: Send, settings: Settings) -> None:
        super().__init__(settings)
        self._receive = receive
        self._send = send
        self._checks = ResponseChecks()
        self.exchange = exchange_from_message(scope, self, _has_content(scope))
        self._content_ended = not self.exchange.has_content

    async def serve(self, interface: Interface) -> None:
        """Call the application, and send its response to the ASGI server."""
        try:
            interface.serve_http(self.exchange)
            await self.deliver(self._send)
        except OSError:
            # Hosts raise OSError when the client has disconnected.
            pass
        finally:
            self.end()

    def all_sent(self) -> None:
        if self._content_ended and not self.exchange.half_closed:
            self._read_on()

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        _, fields, content = self._checks.start(exchange.method, status, reason, headers, content, more_content)
        self._put({"type": "http.response.start", "status": int(status), "headers": encode_fields(fields)}, 0)
        if content or not more_content:
            self._put({"type": "http.response.body", "body": content, "more_body": more_content}, len(content))

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        try:
            content = self._checks.count(content, more_content)
        except Exception as error:
            self._fault = weakref.ref(error)
            self._fail(error)
            raise
        if (content or not more_content) and self._has_room(exchange, len(content)):
            self._put({"type": "http.response.body", "body": content, "more_body": more_content}, len(content))

    def want_content(self, exchange: HTTPExchange) -> None:
        if not self._content_ended:
            self._read_on()

    def _half_close(self) -> None:
        exchange = self.exchange
        exchange.half_close()
        # The client may still read the response.
        timer = asyncio.get_running_loop().call_later(self._settings.half_closed_seconds, exchange.disconnect)
        exchange.on_end(lambda exchange: timer.cancel())

    async def _read(self) -> None:
        exchange = self.exchange
        try:
            while True:
                event = await self._receive()
                if event["type"] == "http.disconnect":
                    self._half_close()
                    return
                if self._content_ended:
                    # The only event of a request without content.
                    continue
                content = event.get("body") or b""
                if content:
                    exchange.content.feed(content)
                if not event.get("more_body", False):
                    self._content_ended = True
                    exchange.content.feed_eof()
                    # `deliver` then waits for http.disconnect.
                    self._wake()
                if content or self._content_ended:
                    return
        except Exception as error:
            logger.error(
                "%s: the ASGI server's receive() failed; treating the client as disconnected", exchange, exc_info=error
            )
            exchange.disconnect()
        finally:
            self._reading = None


def _has_content(scope: dict[str, Any]) -> bool:
    fields = {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}
    length = fields.get(b"content-length")
    if length is not None:
        return length.strip(b"0") != b""
    return b"transfer-encoding" in fields or (
        not scope.get("http_version", "1.1").startswith("1.") and scope["method"] not in ("GET", "HEAD")
    )
