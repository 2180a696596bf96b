"""What all connections of one server share."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from uvicorn.core.exchange import HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.server.access_log import AccessLog, ClientWarnings, log_exchange
from uvicorn.server.clock import Clock
from uvicorn.server.continuing_handlers import ContinuingHandlers
from uvicorn.server.proxy import build_trusted_peers
from uvicorn.settings import Settings
from uvicorn.wire.http1.default_fields import DefaultFields
from uvicorn.wire.http1.encoder import encode_default_fields
from uvicorn.wire.websocket.frame_cache import FrameCache

logger = logging.getLogger("uvicorn.error")

# 128 KiB: an upload costs less with each doubling up to here, and more above it, where pieces fall out of the caches.
_RECEIVE_BYTES: Final = 131072

# 8 MiB: pieces of content that many connections have taken from the heap in one turn of the loop.
_KEPT_BYTES: Final = 8 << 20

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ServedInterface(Protocol):
    """What a server asks of the interface that it is handed, and never imports."""

    name: str
    #: Whether it serves websockets; if not, an offer to upgrade is ignored.
    serves_websockets: bool
    #: Whether a websocket is taken from pages of its own host only, unless settings say otherwise.
    checks_origin: bool

    async def startup(self) -> None: ...

    async def shutdown(self, seconds: float) -> None: ...

    def serve_http(self, exchange: HTTPExchange) -> None: ...

    def serve_websocket(self, session: WebSocketSession) -> None: ...


class Connection(Protocol):
    """What a server asks of its connections, whatever protocol they speak."""

    def tick(self) -> None:
        """A second has passed: see whether something is overdue."""

    def stop(self) -> None:
        """The server is stopping: close as soon as no request is lost by it."""

    def reset(self) -> None:
        """Break the connection off now."""


def keep_freed_memory() -> None:
    """Have glibc keep a few freed MiB instead of giving them back and having them back a moment later, page by page.

    It gives back what is free at the end of the heap above twice the largest block that was ever freed on its own.
    """
    bytes(_KEPT_BYTES // 2)


class ServerContext:
    """One per server. The receive buffer is shared: it is filled and emptied within one callback."""

    def __init__(
        self, interface: ServedInterface, settings: Settings, clock: Clock, access_log: AccessLog = log_exchange
    ) -> None:
        self.loop = asyncio.get_running_loop()
        #: Context variables as the server was started with: what no handler has touched.
        self.variables = contextvars.copy_context()
        self.interface = interface
        self.settings = settings
        # Asked for with each request, so kept at hand.
        self.access_log = access_log if settings.access_log else None
        self.limit_concurrency = settings.limit_concurrency
        self.serves_websockets = interface.serves_websockets and settings.ws
        self.allowed_origins = frozenset(origin.strip() for origin in settings.ws_allowed_origins.split(",")) - {""}
        #: The proxies whose forwarded fields are trusted; None if forwarded fields are ignored.
        self.trusted = build_trusted_peers(settings.forwarded_allow_ips) if settings.proxy_headers else None
        self.clock = clock
        self.warnings = ClientWarnings()
        self.connections: set[Connection] = set()
        #: Connections that were accepted and have no transport yet, and the tasks that make it: they are a turn of the
        #: event loop away, or in their TLS handshake.
        self.arriving: dict[object, asyncio.Task[None]] = {}
        #: Exchanges that have begun, and those of them whose response has ended.
        self.begun = 0
        self.ended = 0
        #: Handlers that go on although their response is complete.
        self.continuing = ContinuingHandlers()
        #: Messages that websockets have brought.
        self.messages = 0
        #: Connections accepted since the start.
        self.accepted = 0
        self.stopping = False
        #: The event loop's exception handler before this server started; still called.
        self.loop_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self.buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self.half_buffer = self.buffer[: _RECEIVE_BYTES // 2]
        keep_freed_memory()
        self.last_frame = FrameCache()
        self.defaults = DefaultFields(
            b"uvicorn" if settings.server_header else b"", settings.date_header, encode_default_fields(settings.headers)
        )
        self._told: set[bytes] = set()
        self._exhausted = False

    @property
    def requests(self) -> int:
        """Exchanges whose response has not ended."""
        return self.begun - self.ended

    def tick(self) -> None:
        """Called by the clock."""
        self.defaults.update(self.clock.unix_seconds())
        self.warnings.tick()
        self.last_frame.forget()
        self._exhausted = False
        for connection in tuple(self.connections):
            try:
                connection.tick()
            except Exception:
                # One connection's trouble must not cost the others their deadlines.
                logger.exception("a connection failed and is reset")
                connection.reset()

    def dropped_fields(self, names: tuple[bytes, ...]) -> None:
        """Log, once for each field, that the application sent a field that only the server may send."""
        for name in names:
            if name not in self._told:
                self._told.add(name)
                logger.warning("the application sends %s, which is the server's to decide; left out", name.decode())

    def loop_exception(self, loop: asyncio.AbstractEventLoop, report: dict[str, Any]) -> None:
        """The event loop's exception handler: log everything except the exit of a task, which the loop raises."""
        if isinstance(report.get("exception"), (SystemExit, KeyboardInterrupt)):
            return
        if self.loop_handler is not None:
            self.loop_handler(loop, report)
        else:
            loop.default_exception_handler(report)

    def accept_failed(self, error: OSError) -> None:
        """Log that no connection could be accepted; one line a second if the system has run out of something."""
        if error.errno not in _EXHAUSTED:
            logger.error("cannot accept connections: %s", error)
        elif not self._exhausted:
            self._exhausted = True
            logger.error(
                "cannot accept connections: %s; raise the limit (ulimit -n), or lower --limit-concurrency",
                error.strerror,
            )
