"""Makes an asynchronous application usable as a WSGI callable (PEP 3333)."""

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

from uvicorn.adapters.crossing import AdapterGateway, crossing, log_uncaught
from uvicorn.adapters.response_checks import ResponseChecks
from uvicorn.adapters.routed import wsgi_call
from uvicorn.concurrency.loop_thread import LoopThread, loop_thread
from uvicorn.core.exchange import COMPLETE, HTTPExchange
from uvicorn.errors import LocalProtocolError, ResponseAborted, StartupError
from uvicorn.escape import escaped
from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.detect import build_interface
from uvicorn.interfaces.environ import UNREADABLE, UNTIL_END, content_length, exchange_from_environ
from uvicorn.routing.applications import OwningInterface
from uvicorn.routing.interface import RouterInterface
from uvicorn.settings import Settings
from uvicorn.types import Headers

logger = logging.getLogger("uvicorn.app")

_PIECE_BYTES: Final = 65536

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}


class WSGIAdapter:
    """`WSGIAdapter(app)` is a WSGI application that calls an asynchronous `app`.

    `interface` names the kind of `app`. By default, its signature decides.
    `startup` of `app` runs before the first request. `shutdown` of `app` runs when the process ends.
    An adapter may be created before a fork.
    """

    def __init__(self, app: Callable[..., Any], *, interface: str = "auto") -> None:
        self.app = app
        self._settings = Settings(interface=interface, access_log=False)
        # Built now, so that a configuration error is raised when the module is imported.
        self._has_router = isinstance(build_interface(app, self._settings, keyword="interface=..."), OwningInterface)
        self._interface: Interface | None = None
        self._thread: LoopThread | None = None
        self._has_warned = False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Serve one request of a WSGI server.

        Raises StartupError or the application's exception.
        Once the response has begun, the returned iterable raises the application's exception.
        Exceptions such as OSError and SystemExit are raised as ApplicationError.
        """
        interface, thread = self._started()
        if isinstance(interface, RouterInterface) and (found := wsgi_call(interface, environ)) is not None:
            app, environ = found
            content: Iterable[bytes] = app(environ, start_response)
            return content
        if "HTTP_TRANSFER_ENCODING" in environ and not self._has_warned and content_length(environ) == UNREADABLE:
            self._has_warned = True
            logger.warning(
                "a request with chunked content was rejected: the WSGI server does not set wsgi.input_terminated; "
                "use a server or a proxy that decodes chunked content, for example gunicorn"
            )
        return WSGIGateway(interface, environ, thread).respond(start_response)

    @property
    def __uvicorn_interface__(self) -> Any:
        """`app.__uvicorn_interface__` if `app` is a Router or a Shift, otherwise None."""
        return getattr(self.app, "__uvicorn_interface__", None) if self._has_router else None

    def _started(self) -> tuple[Interface, LoopThread]:
        thread = loop_thread()
        if thread.is_current:
            raise RuntimeError(
                "WSGIAdapter: a call on the thread of the adapter's event loop would deadlock; "
                "call the adapter on another thread, for example by await asyncio.to_thread(...)"
            )
        if self._thread is not thread or self._interface is None:
            with thread.lock_of(self):
                if self._thread is not thread or self._interface is None:
                    interface = build_interface(self.app, self._settings)
                    interface.contain_exits()
                    starting = thread.calls.start(interface.startup)
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
class WSGIGateway(AdapterGateway):
    """The gateway of one WSGI request."""

    server = "the WSGI server"
    _checks: ResponseChecks
    # Unread bytes of request content.
    _content_left: int
    _reads_some = True

    def __init__(self, interface: Interface, environ: dict[str, Any], thread: LoopThread) -> None:
        # Not `super()`, which takes 0.1 us longer on Python 3.11.
        AdapterGateway.__init__(self, interface.settings)
        self.exchange = None
        self._interface = interface
        self._environ = environ
        self._thread = thread
        # From the loop to the host, in order: a kind ('response', 'content', 'want' or 'failure') and its value.
        self._queue: deque[tuple[str, Any]] = deque()
        self._waker = thread.wakers.take()
        self._input: Any = environ.get("wsgi.input")
        self._wake_due = self._wanting = False

    # On the host's thread

    def respond(self, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Call the application, then `start_response`. Return the content."""
        try:
            # The application sees context variables of the host's middleware, such as a trace id.
            self._post(partial(copy_context().run, self.begin))
            status, headers, content, more_content = self._next()
            start_response(status, headers)
        except BaseException:
            # The host will not iterate. The exception may be its own, such as gunicorn's SystemExit after a timeout.
            self.client_gone()
            raise
        if not more_content:
            self._thread.wakers.give_back(self._waker)
            return [content]
        return ResponseContent(self, content)

    def contents(self, first: bytes) -> Iterator[bytes]:
        """Yield b"", then `first`, then later content. Raises the application's exception."""
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
            # A middleware dropped the iterable, maybe without calling close().
            self.client_gone()
            raise

    def client_gone(self) -> None:
        """End the exchange, because the server has stopped iterating."""
        self._post(self._on_loop_gone)

    def _next(self) -> Any:
        while True:
            while not self._queue:
                self._waker.wait()
            kind, value = self._queue.popleft()
            if kind == "failure":
                self._failure = None
                try:
                    raise value
                finally:
                    # Break the reference cycle through the traceback.
                    del value
            if kind != "want":
                return value
            self._read_piece()

    def _read_piece(self) -> None:
        left = self._content_left
        content, complete = b"", False
        if self._input is not None and (left > 0 or left == UNTIL_END):
            try:
                content = self._read_some(min(left, _PIECE_BYTES) if left > 0 else _PIECE_BYTES)
            except Exception as error:
                logger.info(
                    "reading wsgi.input raised %s: %s; treating the client as disconnected",
                    type(error).__name__,
                    escaped(error),
                )
            else:
                if left > 0:
                    self._content_left = left - len(content)
                    complete = left == len(content)
                else:
                    complete = not content
        self._post(partial(self._on_loop_content, content, complete))

    def _read_some(self, count: int) -> bytes:
        if self._reads_some and hasattr(self._input, "read1"):
            try:
                # Does not wait for all `count` bytes.
                return self._input.read1(count)  # type: ignore[no-any-return]
            except UnsupportedOperation:
                # Raised by `io.BufferedIOBase` for subclasses that only define `read`.
                self._reads_some = False
        return self._input.read(count)  # type: ignore[no-any-return]

    def _post(self, callback: Callable[[], object]) -> None:
        try:
            self._thread.post(callback)
        except RuntimeError:
            # The process is ending.
            self._put("failure", ResponseAborted("the event loop has stopped"))

    # On the event loop's thread

    def begin(self) -> None:
        try:
            self._content_left = length = content_length(self._environ)
            exchange = self.exchange = exchange_from_environ(self._environ, self, self._thread.loop, length)
            self._interface.serve_http(exchange)
            if exchange.state >= COMPLETE:
                # The context refers to the endpoint: break the reference cycle, no handler will start in it.
                exchange.endpoint.release()
        except BaseException as error:
            self._put("failure", crossing(error))

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        self._checks = checks = ResponseChecks()
        phrase = _PHRASES.get(status, "Unknown")
        line, fields, content = checks.start(exchange.method, status, reason, headers, content, more_content, phrase)
        # The host takes a whole response at once.
        if more_content:
            self._backlog.add(len(content))
        self._put("response", (line, fields, content, more_content), more_content)

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        try:
            content = self._checks.count(content, more_content)
        except LocalProtocolError as error:
            self._fault = weakref.ref(error)
            self._put("failure", error)
            raise
        if self._has_room(exchange, len(content)):
            self._backlog.add(len(content))
            self._put("content", (content, more_content), more_content)

    def want_content(self, exchange: HTTPExchange) -> None:
        if not self._wanting:
            self._wanting = True
            # Most content has arrived, so the host's thread posts it while this thread wakes it.
            self._thread.calls.run_soon()
            self._put("want", None)

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        # Break the reference cycle between gateway and exchange.
        self.exchange = None
        self._backlog.wake()
        if exchange.state is not COMPLETE:
            # Another thread of the host may be waiting for content.
            self._put("failure", ResponseAborted("the response was aborted"))

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        self._put("failure", ResponseAborted(reason))

    def _fail(self, failure: Exception) -> None:
        self._failure = failure
        self._put("failure", failure)

    def _put(self, kind: str, value: Any, more_follows: bool = False) -> None:
        self._queue.append((kind, value))
        if not more_follows:
            self._waker.wake()
        elif not self._wake_due:
            # Wake once at the end of this iteration of the loop, for all content sent by then.
            self._wake_due = True
            self._thread.loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._wake_due = False
        self._waker.wake()

    def _on_loop_content(self, content: bytes, complete: bool) -> None:
        self._wanting = False
        exchange = self.exchange
        if exchange is not None:
            if content:
                exchange.content.feed(content)
            if complete:
                exchange.content.feed_eof()
            elif not content:
                exchange.content.break_off()

    def _on_loop_gone(self) -> None:
        if self.exchange is not None:
            self.exchange.disconnect()
        # Read once, because a thread of the host may receive the exception at the same time.
        failure, self._failure = self._failure, None
        if failure is not None:
            # The host abandoned the response before the exception was raised.
            method, path = self._environ.get("REQUEST_METHOD"), self._environ.get("PATH_INFO")
            log_uncaught(f"{escaped(method)} {escaped(path)}", failure)


class ResponseContent:
    """The iterable of a streamed response. WSGI servers always call `close` (PEP 3333)."""

    def __init__(self, gateway: WSGIGateway, first: bytes) -> None:
        self._gateway = gateway
        self._contents = gateway.contents(first)
        # Start the generator: one that has not started gets no GeneratorExit.
        next(self._contents)

    def __iter__(self) -> Iterator[bytes]:
        return self._contents

    def close(self) -> None:
        """End the exchange, even if the response is incomplete."""
        self._gateway.client_gone()
