"""The state that all connections of a server share."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from uvicorn.core.counts import Counts, Place
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.server.access_log import AccessLog, ClientWarnings, log_exchange
from uvicorn.server.clock import TICK_SECONDS, Clock
from uvicorn.server.metrics import CONTENT_TYPE, Snapshot, Totals, snapshot_of, text_of
from uvicorn.server.proxy import build_trusted_peers
from uvicorn.server.websocket_threads import WebSocketThreads
from uvicorn.settings import Settings
from uvicorn.wire.http1.default_fields import DefaultFields
from uvicorn.wire.http1.encoder import encode_default_fields
from uvicorn.wire.websocket.frame_cache import FrameCache

if TYPE_CHECKING:
    from uvicorn.server.metrics_listener import MetricsListener

logger = logging.getLogger("uvicorn.error")

# 128 KiB: each doubling up to this size makes uploads faster; a larger buffer exceeds the caches of the CPU.
_RECEIVE_BYTES: Final = 131072

# 8 MiB: the content that many connections allocate in one iteration of the event loop.
_KEPT_BYTES: Final = 8 << 20

# The lag of the event loop is the longest delay of this number of ticks, which are a minute.
_LAGS: Final = 60

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ServedInterface(Protocol):
    """The part of `uvicorn.interfaces.base.Interface` that the server uses."""

    name: str
    serves_websockets: bool
    takes_over: bool
    checks_origin: bool
    has_debugger: bool
    wants_counts: bool

    async def startup(self) -> None: ...

    async def shutdown(self, seconds: float) -> None: ...

    def counted_in(self, counts: Counts, place: Place) -> None: ...

    def at(self, exchange: HTTPExchange) -> ServedInterface: ...

    def serve_http(self, exchange: HTTPExchange) -> None: ...

    def serve_handshake(self, session: WebSocketSession) -> None: ...

    def serve_websocket(self, session: WebSocketSession) -> None: ...


class Connection(Protocol):
    """The methods that the server calls on a connection."""

    def served(self) -> tuple[Endpoint, bool] | None:
        """Return `(endpoint, is_websocket)`. Between requests, return None."""

    def tick(self) -> None:
        """Check the deadlines. Called once a second."""

    def stop(self) -> None:
        """If no HTTP request would be lost, close the connection. Called repeatedly during shutdown."""

    def reset(self, reason: str = "") -> None:
        """Reset the connection now. `reason` is for the access log."""


def keep_freed_memory() -> None:
    """Make glibc keep some MiB of freed memory for later allocations."""
    # Freeing a mapped block raises glibc's threshold to twice the size of the block.
    bytes(_KEPT_BYTES // 2)


class ServerConfig(Protocol):
    """A configuration for a server, such as `uvicorn.Config`."""

    @property
    def settings(self) -> Settings: ...

    def load(self) -> ServedInterface: ...

    def ssl_context(self) -> ssl.SSLContext | None: ...

    def open_sockets(self) -> list[socket.socket]: ...


@final
class ContinuingHandler:
    """Cancels a handler that still runs `seconds` after its response."""

    __slots__ = ("_cancel", "_running", "_timer")

    def __init__(self, running: set[ContinuingHandler], cancel: Callable[[], object], seconds: float) -> None:
        running.add(self)
        self._running = running
        self._cancel: Callable[[], object] | None = cancel
        self._timer = asyncio.get_running_loop().call_later(seconds, self.cancel)

    def cancel(self) -> None:
        """Cancel the handler. Later calls have no effect."""
        self._timer.cancel()
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()

    def ended(self) -> None:
        self._timer.cancel()
        self._cancel = None
        self._running.discard(self)


class ServerContext:
    """The state that the connections of one server share."""

    # Without slots, attributes beyond the 30th make the access to all of them slower.
    __slots__ = (
        "accepted", "access_log", "allowed_origins", "arriving", "begun", "buffer", "clock", "connections",
        "continuing", "counts", "defaults", "ended", "half_buffer", "interface", "lags", "last_frame",
        "limit_concurrency", "loop", "loop_handler", "messages", "publish", "response_clock", "serves_websockets",
        "settings", "stopping", "trusted", "variables", "warnings", "ws_threads", "_exhausted", "_logged_names",
        "_metrics", "__weakref__",
    )  # fmt: skip

    def __init__(
        self, interface: ServedInterface, settings: Settings, clock: Clock, access_log: AccessLog = log_exchange
    ) -> None:
        self.loop = asyncio.get_running_loop()
        #: The context variables at the server's start, which no handler has changed.
        self.variables = contextvars.copy_context()
        self.interface = interface
        self.settings = settings
        #: Called when a response has ended; None if responses are not logged.
        self.access_log = access_log if settings.access_log else None
        #: The counts of requests; None unless a report or metrics are asked for.
        self.counts: Counts | None = None
        if settings.metrics or interface.wants_counts:
            counts = self.counts = Counts()
            interface.counted_in(counts, Place(Endpoint()))
            counts.served = self.served
            counts.metrics = lambda: (CONTENT_TYPE, text_of(self.snapshot()))
        #: Returns the time for the duration of a response; None if responses are neither logged nor counted.
        self.response_clock = clock.monotonic if self.access_log or self.counts else None
        self.limit_concurrency = settings.limit_concurrency
        self.serves_websockets = (interface.serves_websockets or interface.takes_over) and settings.ws
        self.ws_threads = WebSocketThreads(settings)
        if self.counts is not None and interface.takes_over and settings.ws:
            self.counts.ws_threads = self.ws_threads
        self.allowed_origins = frozenset(origin.strip() for origin in settings.ws_allowed_origins.split(",")) - {""}
        #: The proxies whose forwarded fields are trusted; None if forwarded fields are ignored.
        self.trusted = build_trusted_peers(settings.forwarded_allow_ips) if settings.proxy_headers else None
        self.clock = clock
        self.warnings = ClientWarnings()
        self.connections: set[Connection] = set()
        #: Accepted connections that have no transport yet, such as those in a TLS handshake, and their tasks.
        self.arriving: dict[object, asyncio.Task[None]] = {}
        #: The number of exchanges that have begun, and the number of those whose response has ended.
        self.begun = 0
        self.ended = 0
        #: The handlers that continue after their responses.
        self.continuing: set[ContinuingHandler] = set()
        #: The number of WebSocket messages received.
        self.messages = 0
        self.accepted = 0
        #: Called once a second with the numbers of this process, if there are metrics.
        self.publish: Callable[[Snapshot], object] | None = None
        self._metrics: MetricsListener | None = None
        #: The delays of the last ticks, in seconds.
        self.lags: deque[float] = deque((0.0,), maxlen=_LAGS)
        self.stopping = False
        #: The event loop's exception handler before this server started; still called.
        self.loop_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        #: Shared by all connections, because each callback fills and empties it.
        self.buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self.half_buffer = self.buffer[: _RECEIVE_BYTES // 2]
        keep_freed_memory()
        self.last_frame = FrameCache()
        self.defaults = DefaultFields(
            b"uvicorn" if settings.server_header else b"", settings.date_header, encode_default_fields(settings.headers)
        )
        if interface.takes_over and settings.ws and settings.ws_threads != Settings().ws_threads:
            # Otherwise the first WebSocket has the check: most WSGI applications have none.
            self.ws_threads.check_descriptors()
        self._logged_names: set[bytes] = set()
        self._exhausted = False

    def open_metrics(self) -> None:
        """If metrics are configured, serve them. Raises ConfigError for an unusable address."""
        if self.settings.metrics:
            from uvicorn.server.metrics_listener import MetricsListener

            totals = Totals()
            self._metrics = MetricsListener(self.settings.metrics, totals.text)
            self.publish = partial(totals.update, os.getpid())

    def snapshot(self) -> Snapshot:
        """Return the numbers for this process's metrics."""
        assert self.counts is not None
        return snapshot_of(self.counts, len(self.connections), self.accepted, self.messages, max(self.lags))

    def served(self) -> Iterator[tuple[Endpoint, bool]]:
        """Yield `(endpoint, is_websocket)` of each current request and WebSocket."""
        for connection in self.connections:
            if (served := connection.served()) is not None:
                yield served

    @property
    def requests(self) -> int:
        """The number of exchanges whose response has not ended."""
        return self.begun - self.ended

    def tick(self) -> None:
        """Check the deadlines of all connections. Called by the clock."""
        self.defaults.update(self.clock.unix_seconds())
        self.warnings.tick()
        self.last_frame.forget()
        self._exhausted = False
        if self.counts is not None:
            self.counts.fold()
        self.lags.append(self.clock.elapsed - TICK_SECONDS)
        if self.publish is not None:
            self.publish(self.snapshot())
        for connection in tuple(self.connections):
            try:
                connection.tick()
            except Exception:
                # The deadlines of the other connections must still be checked.
                logger.exception("checking the deadlines of a connection failed; resetting the connection")
                connection.reset("exception in the server")

    def stop(self) -> None:
        """Cancel the handlers that still run after their responses."""
        self.stopping = True
        for handler in tuple(self.continuing):
            handler.cancel()

    def close(self) -> None:
        """Stop serving metrics. Reset all connections that are still open."""
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = self.publish = None
        loop = self.loop
        if self.loop_handler is not None and loop.get_exception_handler() == self.loop_exception:
            loop.set_exception_handler(self.loop_handler)
        for task in tuple(self.arriving.values()):
            task.cancel()
        for connection in tuple(self.connections):
            connection.reset("server shutdown")

    def dropped_fields(self, exchange: HTTPExchange, names: tuple[bytes, ...]) -> None:
        """Log a warning about dropped response fields, once for each name."""
        for name in names:
            if name not in self._logged_names:
                self._logged_names.add(name)
                logger.warning(
                    "%s: dropped the application's response field %s; only the server may send this field "
                    "(logged once for each name)",
                    exchange,
                    name.decode(),
                )

    def loop_exception(self, loop: asyncio.AbstractEventLoop, report: dict[str, Any]) -> None:
        """Log an exception that the event loop reports."""
        if isinstance(report.get("exception"), (SystemExit, KeyboardInterrupt)):
            # Logged by `run`.
            return
        if self.loop_handler is not None:
            self.loop_handler(loop, report)
        else:
            loop.default_exception_handler(report)

    def accept_failed(self, error: OSError) -> None:
        """Log that accepting a connection has failed."""
        if error.errno not in _EXHAUSTED:
            logger.error("cannot accept connections: %s", error)
        elif not self._exhausted:
            self._exhausted = True
            remedy = "raise the limit (ulimit -n), or lower --limit-concurrency"
            logger.error("cannot accept connections: %s; %s", error.strerror, remedy)


class ServerState:
    """A read-only view of a server's request count, connections and running handlers."""

    # The class and its attributes have the names of the public release.

    def __init__(self, context: ServerContext | None = None) -> None:
        self.context = context
        #: Encoded header fields that the public release adds to responses; not used here.
        self.default_headers: list[tuple[bytes, bytes]] = []

    @property
    def total_requests(self) -> int:
        return self.context.begun if self.context is not None else 0

    @property
    def connections(self) -> Collection[Any]:
        return self.context.connections if self.context is not None else ()

    @property
    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """The running handlers of asynchronous applications."""
        tasks = getattr(self.context.interface, "tasks", None) if self.context is not None else None
        return tasks.running if tasks is not None else ()
