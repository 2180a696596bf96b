"""An asynchronous application as a WSGI callable (PEP 3333): a blocking queue between two worlds.

The host's thread calls, waits on the queue, reads `wsgi.input` when the application asks for content, and yields what
the application sends. That runs on the event loop of `loop_thread`, which all requests of the process share.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextvars import copy_context
from functools import partial
from http import HTTPStatus
from io import UnsupportedOperation
from typing import Any, Final, final

from uvicorn.adapters.crossing import crossing, log_uncaught
from uvicorn.concurrency.flow_control import FlowControl
from uvicorn.concurrency.loop_thread import LoopThread, loop_thread
from uvicorn.core.exchange import COMPLETE, HTTPExchange, HTTPGateway
from uvicorn.errors import LocalProtocolError, ResponseAborted, StartupError
from uvicorn.escape import escaped
from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.detect import build_interface
from uvicorn.interfaces.environ import (
    UNREADABLE,
    UNTIL_END,
    content_length,
    decode_response,
    exchange_from_environ,
    parse_length,
)
from uvicorn.settings import Settings
from uvicorn.types import Headers

logger = logging.getLogger("uvicorn.app")

_PIECE_BYTES: Final = 65536

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

# A WSGI application must not send these; the connection is the host's (PEP 3333, "Other HTTP Features").
_HOP_BY_HOP: Final = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)


class WSGIAdapter:
    """`WSGIAdapter(async_app)` is a WSGI callable, for any host: `app(environ, start_response)`.

    `interface` says how the application is called; by default its signature does. Its `startup` is awaited before the
    first request, its `shutdown` when the process ends. Safe to make before a fork.
    """

    def __init__(self, app: Callable[..., Any], *, interface: str = "auto") -> None:
        self.app = app
        self._settings = Settings(interface=interface, access_log=False)
        # Tried now, so that a mistake shows when the module is imported.
        build_interface(app, self._settings)
        self._interface: Interface | None = None
        self._thread: LoopThread | None = None
        self._has_warned = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request on the host's thread.

        Raises what the application raises before its response has begun: unchanged, but for an ApplicationError around
        what a host would misread. What it raises later is raised by the iterable. Raises StartupError if the
        application's startup fails, which is tried again with the next request.
        """
        interface, thread = self._started()
        if "HTTP_TRANSFER_ENCODING" in environ and not self._has_warned and content_length(environ) == UNREADABLE:
            self._has_warned = True
            logger.warning(
                "a request has chunked content, which this host leaves to the application to decode (environ has no "
                "wsgi.input_terminated): it cannot be read, and is refused; expected a host that decodes it, such as "
                "gunicorn, or a proxy that does"
            )
        return WSGIGateway(interface, environ, thread).respond(start_response)

    def _started(self) -> tuple[Interface, LoopThread]:
        """The interface on this process's loop, started there."""
        thread = loop_thread()
        if thread.is_current:
            raise RuntimeError(
                "WSGIAdapter was called on the thread of its own event loop, which would wait for itself: "
                "expected a call from another thread, such as await asyncio.to_thread(...)"
            )
        if self._thread is not thread or self._interface is None:
            with thread.lock_of(self):
                if self._thread is not thread or self._interface is None:
                    interface = build_interface(self.app, self._settings)
                    interface.tasks.contains_exits = True
                    starting = thread.submit(interface.startup())
                    try:
                        error = starting.exception()
                    except CancelledError as cancelled:
                        error = cancelled
                    if error is not None:
                        raise StartupError("the application's startup failed") from error
                    thread.at_stop(lambda: interface.shutdown(1))
                    self._interface, self._thread = interface, thread
        return self._interface, thread


@final
class WSGIGateway(HTTPGateway):
    """One request of a WSGI host. Methods say which thread they are for."""

    def __init__(self, interface: Interface, environ: dict[str, Any], thread: LoopThread) -> None:
        self._interface = interface
        self._environ = environ
        self._thread = thread
        self._exchange: HTTPExchange | None = None
        # From the loop to the host, in order: what it is ('response', 'content', 'want' or 'failure'), and its value.
        self._queue: deque[tuple[str, Any]] = deque()
        self._waker = thread.wakers.take()
        self._ring_due = False
        # Bytes of content, once some are wanted.
        self._content_left: int | None = None
        self._input: Any = environ.get("wsgi.input")
        self._read1 = getattr(self._input, "read1", None)
        self._backlog = FlowControl()
        self._wanting = False
        self._declared: int | None = None
        # What the application has raised, until it is raised on the host's thread.
        self._failure: Exception | None = None
        # The loop's: an error that is raised both to the host and to the application.
        self._fault: weakref.ref[LocalProtocolError] | None = None

    # On the host's thread

    def respond(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Have the application called, wait for the response's head, and start it."""
        try:
            # What a middleware of the host has set for this request, such as a trace, is the application's to see.
            self._post(partial(copy_context().run, self.begin))
            status, headers, content, more_content = self._next()
            start_response(status, headers)
        except BaseException:
            # The host will not iterate, so nobody else would tell the application. It may be the host's own exception,
            # such as the SystemExit that gunicorn raises out of a wait that has become too long.
            self.client_gone()
            raise
        if not more_content:
            self._thread.wakers.give_back(self._waker)
            return [content]
        return ResponseContent(self, content)

    def contents(self, first: bytes) -> Iterator[bytes]:
        """Nothing at first, then the pieces of the response, as they come; raises what the application raises."""
        content, more_content = first, True
        try:
            yield b""
            while True:
                if content:
                    yield content
                    if self._backlog.consumed(len(content)):
                        self._post(self._backlog.wake)
                if not more_content:
                    return
                content, more_content = self._next()
        except GeneratorExit:
            # A middleware has let go of it, and may have forgotten to close the iterable.
            self.client_gone()
            raise

    def client_gone(self) -> None:
        """The host has stopped iterating: the client has left, or the response is over."""
        self._post(self._on_loop_gone)

    def _next(self) -> Any:
        """The value that comes next from the loop, having read the content that it asked for; raises a failure."""
        while True:
            while not self._queue:
                self._waker.wait()
            kind, value = self._queue.popleft()
            if kind == "failure":
                self._failure = None
                try:
                    raise value
                finally:
                    # Its traceback leads here, which a garbage collector would have to find out.
                    del value
            if kind != "want":
                return value
            self._read_piece()

    def _read_piece(self) -> None:
        """Read as much as the host has at hand, a piece at most; whatever it raises means that the client has gone."""
        left = self._content_left
        if left is None:
            left = self._content_left = content_length(self._environ)
        content, complete = b"", False
        if self._input is not None and (left > 0 or left == UNTIL_END):
            try:
                content = self._read_some(min(left, _PIECE_BYTES) if left > 0 else _PIECE_BYTES)
            except Exception as error:
                logger.info("wsgi.input: %s: %s", type(error).__name__, escaped(error))
            else:
                if left > 0:
                    self._content_left = left - len(content)
                    complete = left == len(content)
                else:
                    complete = not content
        if content or complete:
            self._post(lambda: self._on_loop_content(content, complete))
        else:
            self._post(self._on_loop_broken)

    def _read_some(self, count: int) -> bytes:
        """Read what has arrived: `read` waits for `count` bytes, which a client in conversation may never send."""
        if self._read1 is not None:
            try:
                return self._read1(count)  # type: ignore[no-any-return]
            except UnsupportedOperation:
                # What `io.BufferedIOBase` has for subclasses that define `read` only.
                self._read1 = None
        return self._input.read(count)  # type: ignore[no-any-return]

    def _post(self, callback: Callable[[], object]) -> None:
        try:
            self._thread.post(callback)
        except RuntimeError:
            # The process is ending.
            self._put("failure", ResponseAborted("the event loop has stopped"))

    # On the event loop's thread

    def begin(self) -> None:
        """Make the exchange, and have the application answer it."""
        try:
            exchange = self._exchange = exchange_from_environ(self._environ, self, self._thread.loop)
            self._interface.serve_http(exchange)
            if exchange.state >= COMPLETE:
                # It refers back to the endpoint, as long as a handler may have to be started in it.
                exchange.endpoint.context = None
        except BaseException as error:
            self._put("failure", crossing(error))

    @property
    def write_paused(self) -> bool:  # type: ignore[override]
        """Whether the host has yet to take more than it should be owed."""
        return self._backlog.above_high_water

    def send_response(
        self,
        exchange: HTTPExchange,
        status: int,
        headers: Headers,
        content: bytes,
        more_content: bool,
        reason: bytes,
    ) -> None:
        """Put the head, and the content at hand, on the queue."""
        line, fields = decode_response(status, reason, headers, _PHRASES.get(status, "Unknown"))
        kept = [field for field in fields if field[0] not in _HOP_BY_HOP]
        empty = exchange.method == "HEAD" or status in (204, 304)
        lengths = [value for name, value in kept if name == "content-length"]
        self._declared = None
        if lengths:
            declared = parse_length(lengths[0])
            if declared is None or len(lengths) > 1:
                raise LocalProtocolError(f"content-length: expected digits, once, got {lengths!r:.80}")
            if not empty:
                self._declared = declared
            elif status == 204:
                kept = [field for field in kept if field[0] != "content-length"]
        elif not more_content and (content or not empty) and status not in (204, 304):
            kept.append(("content-length", str(len(content))))
        if empty:
            content = b""
        self._check_length(len(content), more_content)
        self._backlog.add(len(content))
        self._put("response", (line, kept, content, more_content), more_content)

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        """Put a piece of content on the queue."""
        try:
            self._check_length(len(content), more_content)
        except LocalProtocolError as error:
            self._fault = weakref.ref(error)
            self._put("failure", error)
            raise
        shortage = self._backlog.shortage(len(content), self._interface.settings)
        if shortage:
            logger.warning("%s: broken off, the host has %s", exchange, shortage)
            exchange.abort("too much unsent")
            return
        self._backlog.add(len(content))
        self._put("content", (content, more_content), more_content)

    def want_content(self, exchange: HTTPExchange) -> None:
        """Have the host's thread read another piece."""
        if not self._wanting:
            self._wanting = True
            self._put("want", None)

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        """Whoever waits for the other side waits in vain."""
        # They refer to each other, which a garbage collector would have to find out for each request.
        self._exchange = None
        self._backlog.wake()
        if exchange.state is not COMPLETE:
            # The host may close what another of its threads is waiting for.
            self._put("failure", ResponseAborted("the response was broken off"))

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        """Have the host's thread raise, so that the host breaks the connection off."""
        self._put("failure", ResponseAborted(reason))

    def pass_failure(self, exchange: HTTPExchange, error: BaseException) -> bool:
        """Have the host's thread raise it, unless the response is over."""
        if exchange.state >= COMPLETE:
            return self._fault is not None and self._fault() is error
        self._failure = crossing(error)
        self._put("failure", self._failure)
        return True

    async def drain(self) -> None:
        """Wait until the host has taken enough, or the exchange is over."""
        exchange = self._exchange
        if exchange is not None:
            await self._backlog.wait(lambda: exchange.state >= COMPLETE)

    def last_send(self) -> Callable[[], object] | None:
        """What is to be called when something awaits the last send."""
        return self._backlog.last_send()

    def _put(self, kind: str, value: Any, more_follows: bool = False) -> None:
        self._queue.append((kind, value))
        if not more_follows:
            self._waker.wake()
        elif not self._ring_due:
            # When this turn of the loop is over: the host takes at once what the application has sent by then.
            self._ring_due = True
            self._thread.loop.call_soon(self._ring)

    def _ring(self) -> None:
        self._ring_due = False
        self._waker.wake()

    def _check_length(self, count: int, more_content: bool) -> None:
        declared = self._declared
        if declared is not None:
            sent = self._backlog.put + count
            if sent > declared or (sent < declared and not more_content):
                raise LocalProtocolError(f"content-length is {declared} but the app sent {sent} bytes")

    def _on_loop_content(self, content: bytes, complete: bool) -> None:
        self._wanting = False
        exchange = self._exchange
        if exchange is not None:
            if content:
                exchange.feed_content(content)
            if complete:
                exchange.feed_eof()

    def _on_loop_broken(self) -> None:
        if self._exchange is not None:
            self._exchange.break_content()

    def _on_loop_gone(self) -> None:
        if self._exchange is not None:
            self._exchange.disconnect()
        failure, self._failure = self._failure, None
        if failure is not None:
            # The host has given the response up before it came to that.
            environ = self._environ
            log_uncaught(f"{escaped(environ.get('REQUEST_METHOD'))} {escaped(environ.get('PATH_INFO'))}", failure)


class ResponseContent:
    """The iterable that a streamed response is. The host calls `close` in every outcome (PEP 3333)."""

    def __init__(self, gateway: WSGIGateway, first: bytes) -> None:
        self._gateway = gateway
        self._contents = gateway.contents(first)
        # One that was never begun would not be told when it is let go of.
        next(self._contents)

    def __iter__(self) -> Iterator[bytes]:
        return self._contents

    def close(self) -> None:
        """The host is done, whether or not the client has had everything."""
        self._gateway.client_gone()
