"""WSGI applications, `app(environ, start_response)` (PEP 3333), run by a pool of threads.

A request costs two hops: one to a worker, one back. What workers say is gathered in an outbox, and one wake-up of the
event loop takes all of it. Only a worker touches the application; only the loop's thread touches the exchange.
"""

from __future__ import annotations

import asyncio
import io
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from types import TracebackType
from typing import Any, Final, final

from uvicorn import processes
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.exchange import COMPLETE, STREAMING, HTTPExchange
from uvicorn.interfaces.base import answer_failure
from uvicorn.interfaces.content_reader import ContentReader
from uvicorn.interfaces.environ import build_environ, encode_response
from uvicorn.interfaces.pooled import Call, Outbox, PooledInterface, refuse
from uvicorn.processes import end_fork
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")

# Content that a worker may have handed over and the client not taken: with 64 KiB it waited at every other piece of it.
# Only as many responses as there are workers can have so much.
_UNTAKEN_BYTES: Final = 262144

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class _OfThread(threading.local):
    """State of each thread; most never set it, and an attribute that is not there costs an exception."""

    rest = ""
    is_logging = False


class ErrorLog(io.TextIOBase):
    """`wsgi.errors`: the whole lines of one `write` are one ERROR record of logger uvicorn.app.

    An unfinished line waits for its end, or for `flush`, per thread.
    """

    def __init__(self) -> None:
        self._of_thread = _OfThread()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        mine = self._of_thread
        if logger.disabled or mine.is_logging:
            # The application has had all loggers switched off, or our own lines logged here, where they would go round
            # and round: what Flask's documentation shows does either.
            if sys.stderr is not None:
                sys.stderr.write(text)
            return len(text)
        lines, newline, rest = text.rpartition("\n")
        if not newline:
            mine.rest += text
            return len(text)
        lines, mine.rest = mine.rest + lines, rest
        if lines.strip():
            mine.is_logging = True
            try:
                # One record, as a traceback that was formatted beforehand is one event: not one ERROR per line.
                logger.error("wsgi.errors: %s", lines.rstrip())
            finally:
                mine.is_logging = False
        return len(text)

    def flush(self) -> None:
        """Log what this thread has written since its last line."""
        if self._of_thread.rest:
            self.write("\n")


class FileWrapper:
    """`wsgi.file_wrapper`: a file's content, a block at a time; closes the file."""

    def __init__(self, file: Any, block_bytes: int = 65536) -> None:
        self._file = file
        self._block_bytes = block_bytes

    def __iter__(self) -> Iterator[bytes]:
        while block := self._file.read(self._block_bytes):
            yield block

    def close(self) -> None:
        close = getattr(self._file, "close", None)
        if close is not None:
            close()


@final
class WSGICall(Call):
    """One call of the application. `run` is the worker's side, methods named `_on_loop_*` the loop's."""

    __slots__ = (
        "_app",
        "_context",
        "_environ",
        "_exchange",
        "_head",
        "_head_sent",
        "_room",
        "_sent",
        "_taken",
        "_waiting",
    )

    def __init__(
        self,
        app: Callable[..., Any],
        exchange: HTTPExchange,
        environ: dict[str, Any],
        outbox: Outbox,
        seconds: float,
    ) -> None:
        super().__init__(outbox, seconds)
        self._app = app
        self._exchange = exchange
        self._environ = environ
        # What a middleware has set for this request, such as a trace, is the application's to see.
        self._context = copy_context()
        self._head: tuple[int, bytes, list[list[bytes]]] | None = None
        self._head_sent = False
        # Bytes: the first is the worker's to write, the second the loop's.
        self._sent = 0
        self._taken = 0
        # The loop's: whether the worker waits to acquire `_room`, which is the worker's to make.
        self._waiting = False
        self._room: threading.Lock | None = None

    # On a worker

    def _run(self) -> None:
        """Call the application and hand over what it says, to its end whatever that is."""
        if self._over:
            return
        errors: ErrorLog = self._environ["wsgi.errors"]
        endpoint = self._exchange.endpoint
        try:
            self._context.run(self._call_application)
        except BaseException as error:
            if endpoint.is_parents:
                end_fork(error)
            # SystemExit and KeyboardInterrupt too: they end the request, not the worker.
            self._outbox.post(lambda error=error: answer_failure(self._exchange, error))  # type: ignore[misc]
        if endpoint.forks != processes.forks:
            end_fork(None)
        errors.flush()

    def cancel(self) -> None:
        """The call will not be made: the pool, or the user's executor, has been shut down before its turn."""
        self._outbox.post(lambda: refuse(self._exchange))

    def _call_application(self) -> None:
        iterable = self._app(self._environ, self._start_response)
        if type(iterable) is list or type(iterable) is tuple:
            try:
                content = b"".join(iterable)
            except TypeError:
                raise _no_bytes(iterable) from None
            self._send_last(content)
            return
        try:
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
        is_head = self._exchange.method == "HEAD"
        for content in iterable:
            if self._over or self._answered:
                return
            if content:
                self._write(content)
            if is_head and self._head_sent:
                return
        self._send_last(b"")

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
        """Hand over content, and wait while the client has too much of it before it."""
        if self._over:
            raise ClientDisconnected("the response is over: its end was sent, or the client has gone")
        if not isinstance(content, bytes):
            raise LocalProtocolError(f"content: expected bytes, got {type(content).__name__} {content!r:.100}")
        if not content:
            # The head stays open to be replaced until there is content (PEP 3333).
            return
        if self._answered:
            return
        head = self._take_head()
        self._sent += len(content)
        self._post(lambda: self._on_loop_write(head, content, True))
        if self._sent - self._taken > _UNTAKEN_BYTES:
            self._wait_for_room()

    def _send_last(self, content: bytes) -> None:
        if not self._over:
            head = self._take_head()
            self._post(lambda: self._on_loop_write(head, content, False))

    def _take_head(self) -> tuple[int, bytes, list[list[bytes]]] | None:
        if self._head_sent:
            return None
        if self._head is None:
            raise LocalProtocolError("the application has not called start_response before its content (PEP 3333)")
        self._head_sent = True
        return self._head

    def _wait_for_room(self) -> None:
        if self._room is None:
            self._room = threading.Lock()
            self._room.acquire()
        self._post(self._on_loop_wants_room)
        self._room.acquire()
        if self._over:
            raise ClientDisconnected("the client has gone")

    def _post(self, message: Callable[[], None]) -> None:
        if not self._outbox.post(message):
            self._over = True
            raise ClientDisconnected("the event loop has stopped")

    # On the event loop's thread

    def _give_up(self) -> None:
        super()._give_up()
        if self._waiting:
            self._release()

    def _on_loop_write(
        self, head: tuple[int, bytes, list[list[bytes]]] | None, content: bytes, more_content: bool
    ) -> None:
        exchange = self._exchange
        try:
            if head is not None:
                status, reason, headers = head
                exchange.respond(status, headers, content, more_content, reason)
            elif exchange.state == STREAMING:
                exchange.write(content, more_content)
        except LocalProtocolError as error:
            answer_failure(exchange, error)
        if more_content and not exchange.write_paused:
            self._taken += len(content)

    def _on_loop_wants_room(self) -> None:
        self._waiting = True
        exchange = self._exchange
        if exchange.state >= COMPLETE or not exchange.write_paused:
            self._release()
        else:
            task = asyncio.get_running_loop().create_task(exchange.drain())
            task.add_done_callback(lambda task: self._release())

    def _release(self) -> None:
        if self._waiting and self._room is not None:
            self._waiting = False
            self._taken = self._sent
            self._room.release()


def _is_iterable(returned: object) -> bool:
    """Whether it may be a response's content. A text that is not empty is one piece too few."""
    if isinstance(returned, (bytes, str)):
        return not returned
    return hasattr(returned, "__iter__") or hasattr(returned, "__getitem__")


def _no_bytes(pieces: Sequence[object]) -> LocalProtocolError:
    """What to raise for a list with something else than bytes in it."""
    wrong = next(piece for piece in pieces if not isinstance(piece, (bytes, bytearray, memoryview)))
    return LocalProtocolError(f"content: expected bytes, got {type(wrong).__name__} {wrong!r:.100}")


@final
class WSGIInterface(PooledInterface):
    """Calls `app(environ, start_response)` on a worker for each exchange.

    `executor` is one of the user's own to use instead of a pool of `settings.threads` workers.
    """

    name = "wsgi"

    def __init__(self, app: Callable[..., Any], settings: Settings, executor: Executor | None = None) -> None:
        super().__init__(app, settings, executor)
        self._errors = ErrorLog()

    def serve_http(self, exchange: HTTPExchange) -> None:
        """Queue the call; 503 if too many are waiting."""
        outbox = self.outbox()
        environ = build_environ(exchange)
        content = exchange.receive_whole()
        environ["wsgi.input"] = io.BytesIO(content) if content is not None else ContentReader(exchange, outbox)
        environ["wsgi.errors"] = self._errors
        environ["wsgi.file_wrapper"] = FileWrapper
        self.queue(WSGICall(self.app, exchange, environ, outbox, self.settings.disconnect_seconds), exchange)
