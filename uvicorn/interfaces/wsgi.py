"""Calls WSGI applications (PEP 3333) on worker threads."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from types import TracebackType
from typing import Any, Never, final

from uvicorn.concurrency.worker_pool import WorkerPool
from uvicorn.core.content import not_bytes
from uvicorn.core.exchange import HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.interfaces.environ import build_environ
from uvicorn.interfaces.file_wrapper import FilePart, FileWrapper, part_to_send
from uvicorn.interfaces.handlers import is_disconnect
from uvicorn.interfaces.takeover import HandedSocket, Takeover
from uvicorn.interfaces.threaded import Head, ThreadCall, ThreadedInterface
from uvicorn.interfaces.wsgi_input import ContentReader
from uvicorn.interfaces.wsgi_response import CONTENT_LENGTH, encode_response
from uvicorn.loop_calls import LoopCalls
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class _OfThread(threading.local):
    rest = ""
    is_logging = False


class ErrorLog(io.TextIOBase):
    """`wsgi.errors`. Logs complete lines at the level ERROR."""

    def __init__(self) -> None:
        self._of_thread = _OfThread()
        #: Whether a thread has ever written an incomplete line. Most applications write none, so `flush` is not called.
        self.has_rests = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        mine = self._of_thread
        if logger.disabled or mine.is_logging:
            # The application has disabled all loggers, or its own log handler writes to `wsgi.errors`.
            if sys.stderr is not None:
                sys.stderr.write(text)
            return len(text)
        lines, newline, rest = text.rpartition("\n")
        if rest:
            self.has_rests = True
        if not newline:
            mine.rest += text
            return len(text)
        lines, mine.rest = mine.rest + lines, rest
        if lines.strip():
            mine.is_logging = True
            try:
                # One record: a formatted traceback is one event.
                logger.error("wsgi.errors: %s", lines.rstrip())
            finally:
                mine.is_logging = False
        return len(text)

    def flush(self) -> None:
        """Log the incomplete line of this thread."""
        if self._of_thread.rest:
            self.write("\n")


class WSGICall(ThreadCall):
    __slots__ = ("_ended", "_environ", "_head", "_head_sent", "_interface", "_left")

    # 256 KiB: with 64 KiB a worker thread waited at every other piece. Each thread buffers one response at a time.
    high_water_bytes = 262144
    #: Whether the application's response is dropped, because the application has taken the connection over.
    drops_response = False

    def __init__(
        self, interface: WSGIInterface, exchange: HTTPExchange, environ: dict[str, Any], loop_calls: LoopCalls
    ) -> None:
        super().__init__(exchange, loop_calls, interface.settings.disconnect_seconds)
        self._interface = interface
        self._environ = environ
        self._head: Head | None = None
        self._head_sent = False
        # Bytes of content that content-length still allows; -1 without a content-length.
        self._left = -1
        # Whether the end of the response has been posted.
        self._ended = False

    # On a worker thread

    def _call_application(self) -> None:
        interface = self._interface
        try:
            iterable = interface.app(self._environ, self._start_response)
            if type(iterable) is list or type(iterable) is tuple:
                try:
                    content = b"".join(iterable)
                except TypeError:
                    if not self.drops_response:
                        wrong = (piece for piece in iterable if not isinstance(piece, (bytes, bytearray, memoryview)))
                        raise not_bytes(next(wrong)) from None
                else:
                    self._send_last(content)
            else:
                self._send_iterable(iterable)
        finally:
            if interface.errors.has_rests:
                interface.errors.flush()

    def _send_iterable(self, iterable: Any) -> None:
        try:
            if self.drops_response:
                return
            if _is_iterable(iterable):
                self._send_all(iterable)
            else:
                raise LocalProtocolError(
                    f"the application returned {type(iterable).__name__} {iterable!r:.100}, "
                    "expected an iterable of bytes (PEP 3333), such as [b'...']"
                )
        finally:
            close = getattr(iterable, "close", None)
            if close is not None:
                close()

    def _send_all(self, iterable: Iterable[bytes]) -> None:
        is_head = self.exchange.method == "HEAD"
        is_file = type(iterable) is FileWrapper
        if type(iterable) is FileWrapper and not is_head and self._send_file(iterable):
            return
        for content in iterable:
            if self._over or self._answered or self._ended:
                return
            # At content-length, stop reading a file, but exhaust a generator: it may commit after its last piece.
            if content and self._hand_over(content):
                self._interface.warn_of_excess(self.exchange)
                return
            if is_head and self._head_sent:
                return
            if is_file and self._left == 0:
                break
        self._send_last(b"")

    def _send_file(self, wrapper: FileWrapper) -> bool:
        part = part_to_send(wrapper.filelike) if self.exchange.gateway.sends_files else None
        if part is None or self._ended or self._head is None:
            return False
        head = self._take_head()
        if 0 <= self._left < part.length:
            part = part._replace(length=self._left)
            self._interface.warn_of_excess(self.exchange)
        self._ended = True
        if not self._loop_calls.wait(lambda: self._send_part(head, part)):
            self._stopped()
        return True

    def _start_response(
        self, status: str, headers: Iterable[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if exc_info is not None:
            try:
                if self._head_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._head is not None:
            raise LocalProtocolError("start_response was called twice without exc_info (PEP 3333)")
        self._head = encode_response(status, headers)
        return self._write

    def _write(self, content: bytes) -> None:
        if self._over and not self._ended:
            raise ClientDisconnected("write: the response has ended, or the client has disconnected")
        # Empty content does not send the head, which the application may still replace (PEP 3333).
        if content != b"" and self._hand_over(content):
            raise LocalProtocolError("write: content exceeds content-length; the rest is dropped")

    def _hand_over(self, content: bytes) -> bool:
        # Returns whether `content` exceeds content-length.
        if not isinstance(content, bytes):
            raise not_bytes(content)
        if self._ended:
            return True
        if self._answered:
            return False
        head = self._take_head()
        left = self._left
        if left >= 0:
            if len(content) > left:
                self._ended = True
                self._post(lambda: self._on_loop_send(head, content[:left], False))
                return True
            self._left = left - len(content)
        self._sent += len(content)
        self._post(lambda: self._on_loop_send(head, content, True))
        if self._sent - self._taken > self.high_water_bytes:
            self._wait_for_room()
            if self._over:
                raise ClientDisconnected("the client has disconnected")
        return False

    def _send_last(self, content: bytes) -> None:
        if not self._over and not self._ended:
            head = self._take_head()
            if 0 <= self._left < len(content):
                content = content[: self._left]
                self._interface.warn_of_excess(self.exchange)
            # Not a lambda: its cells and its frame take 0.2 us.
            self._loop_calls.post(partial(self._on_loop_send, head, content, False))

    def _take_head(self) -> Head | None:
        if self._head_sent:
            return None
        if self._head is None:
            raise LocalProtocolError("the application has sent content without calling start_response (PEP 3333)")
        self._head_sent = True
        status, _, headers = self._head
        if self.exchange.method != "HEAD" and status != 204 and status != 304:
            for name, value in headers:
                # The gateway rejects duplicate and malformed lengths.
                if name is CONTENT_LENGTH and value.isdigit() and len(value) < 19:
                    self._left = int(value)
        return self._head

    def _post(self, call: Callable[[], None]) -> None:
        if not self._loop_calls.post(call):
            self._stopped()

    def _stopped(self) -> Never:
        self._over = True
        raise ClientDisconnected("the event loop has stopped")

    # On the event loop's thread

    async def _send_part(self, head: Head | None, part: FilePart) -> None:
        exchange = self.exchange
        try:
            if head is not None:
                status, reason, headers = head
                exchange.respond(status, headers, b"", True, reason)
            await exchange.write_file(part.file, part.length, part.start)
        except Exception as error:
            self._on_loop_failed(error)


@final
class HandshakeCall(WSGICall):
    """A call for a WebSocket handshake. The application may take the connection over."""

    def __init__(
        self, interface: WSGIInterface, takeover: Takeover, environ: dict[str, Any], loop_calls: LoopCalls
    ) -> None:
        super().__init__(interface, takeover.session.request, environ, loop_calls)
        self._takeover = takeover

    @property
    def drops_response(self) -> bool:  # type: ignore[override]
        return self._takeover.is_taken

    def run(self) -> None:
        self._takeover.worker = threading.get_ident()
        try:
            super().run()
        finally:
            # Before this thread has another call, which is not to leave the pool.
            self._takeover.decide()
            self._loop_calls.post(self._on_loop_ended)

    def _start_response(
        self, status: str, headers: Iterable[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        if not self.drops_response:
            return super()._start_response(status, headers, exc_info)
        self._takeover.has_failed = status.startswith("5")
        return self._write

    def _write(self, content: bytes) -> None:
        if not self.drops_response:
            super()._write(content)

    def _hand_over(self, content: bytes) -> bool:
        return not self._takeover.decide() and super()._hand_over(content)

    def _send_last(self, content: bytes) -> None:
        if not self._takeover.decide():
            super()._send_last(content)

    def _send_file(self, wrapper: FileWrapper) -> bool:
        return self._takeover.decide() or super()._send_file(wrapper)

    def _take_head(self) -> Head | None:
        if self._head is None and self._takeover.has_refused:
            # The application has returned as after a WebSocket.
            raise ClientDisconnected("websocket: the client has disconnected")
        return super()._take_head()

    def _on_loop_ended(self) -> None:
        # A method of the call, which keeps the environ and thereby the application's socket open until now.
        self._takeover.ended()

    def _on_loop_failed(self, error: BaseException) -> None:
        if self.drops_response:
            self._takeover.failed(error)
        elif self._takeover.was_rejected and is_disconnect(error):
            where = self.exchange
            logger.debug(
                "%s: exception in the application after the server rejected the handshake", where, exc_info=error
            )
        else:
            super()._on_loop_failed(error)


def _is_iterable(returned: object) -> bool:
    if isinstance(returned, (bytes, str)):
        return not returned
    return hasattr(returned, "__iter__") or hasattr(returned, "__getitem__")


@final
class WSGIInterface(ThreadedInterface):
    """Calls `app(environ, start_response)` on a worker thread for each request."""

    name = "wsgi"

    def __init__(self, app: Callable[..., Any], settings: Settings, executor: Executor | None = None) -> None:
        super().__init__(app, settings, executor)
        self.errors = ErrorLog()
        self._own = {
            "wsgi.errors": self.errors,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.multithread": self.calls_at_a_time != 1,
        }
        self.takes_over = isinstance(self.executor, WorkerPool) and settings.ws_threads > 0
        # Acquired by the thread that logs the warning; later warnings are not logged.
        self._unwarned = threading.Lock()

    def serve_http(self, exchange: HTTPExchange) -> None:
        loop_calls = self.loop_calls()
        self.queue(WSGICall(self, exchange, self.environ_of(exchange, loop_calls), loop_calls), exchange)

    def serve_handshake(self, session: WebSocketSession) -> None:
        # Imported on first use, because most WSGI sites have no WebSockets.
        from uvicorn.interfaces.wsgi_websocket import WSGIWebSocket

        loop_calls = self.loop_calls()
        assert isinstance(self.executor, WorkerPool)
        takeover = Takeover(session, loop_calls, self.executor)
        environ = self.environ_of(session.request, loop_calls)
        environ["uvicorn.websocket"] = WSGIWebSocket(takeover, loop_calls, self.settings)
        environ["werkzeug.socket"] = HandedSocket(takeover)
        self.queue(HandshakeCall(self, takeover, environ, loop_calls), session.request)

    def environ_of(self, exchange: HTTPExchange, loop_calls: LoopCalls) -> dict[str, Any]:
        environ = build_environ(exchange, self._own)
        environ["wsgi.input"] = (
            # Always a ContentReader if there is content: whether all of it has arrived depends on the packets.
            ContentReader(exchange, loop_calls, exchange.receive_whole()) if exchange.has_content else io.BytesIO()
        )
        return environ

    def warn_of_excess(self, exchange: HTTPExchange) -> None:
        """Log once that a response exceeds its content-length. Thread-safe."""
        if self._unwarned.acquire(blocking=False):
            logger.warning(
                "%s: the application sends more content than its content-length; the rest is dropped "
                "(logged once: later responses are cut without a warning)",
                exchange,
            )
