"""Lets a WSGI application take over a WebSocket connection."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar, final

from uvicorn.concurrency.worker_pool import WorkerPool
from uvicorn.core.websocket_session import CLOSED, CLOSING, CONNECTING, OPEN, WebSocketSession
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.fields import INTERNAL_ERROR
from uvicorn.interfaces.handlers import log_failure
from uvicorn.interfaces.threaded import refuse
from uvicorn.loop_calls import LoopCalls

T = TypeVar("T")

logger = logging.getLogger("uvicorn.app")


_SOCKET_METHODS: Final = frozenset(
    name for name in dir(socket.socket) if not name.startswith("_") and callable(getattr(socket.socket, name))
)

_EXCLUSIVE_METHODS: Final = frozenset(("send", "sendall", "close"))


@final
class Takeover:
    """Lets an application take over one connection, at most once."""

    def __init__(self, session: WebSocketSession, loop_calls: LoopCalls, pool: WorkerPool) -> None:
        self.session = session
        self._loop_calls = loop_calls
        self._pool = pool
        self._lock = threading.Lock()
        # For the server, which counts the threads that serve WebSockets.
        self._thread_ended: Callable[[], object] | None = None
        # Whether no thread can take the connection over any more.
        self._is_decided = False
        #: Whether the connection has been taken over. No response can be sent then.
        self.is_taken = False
        #: Whether the application has responded 5xx after the takeover, because its framework has caught an exception.
        self.has_failed = False
        #: Whether `take` has raised ClientDisconnected.
        self.has_refused = False
        #: Whether the server has rejected the handshake, because of its origin or of too many threads.
        self.was_rejected = False
        #: The identifier of the worker thread that calls the application.
        self.worker = 0

    def take(self, begin: Callable[[], T]) -> T:
        """Take the connection over by calling `begin()` on the event loop's thread.

        Call this on another thread. Raises ClientDisconnected and LocalProtocolError.
        """
        with self._lock:
            if self.is_taken:
                raise LocalProtocolError(
                    "websocket: the application uses both environ['uvicorn.websocket'] and environ['werkzeug.socket']; "
                    "use only one of them"
                )
            if self._is_decided:
                raise ClientDisconnected("websocket: the application has responded to the handshake")
            try:
                return self._loop_calls.call(lambda: self._on_loop_take(begin))
            except ClientDisconnected:
                self.has_refused = True
                raise

    def decide(self) -> bool:
        """Return whether the connection was taken over. From now on, `take` raises."""
        # Waits for a takeover in progress: not for use on the event loop's thread.
        with self._lock:
            self._is_decided = True
            return self.is_taken

    # On the event loop's thread

    def _on_loop_take(self, begin: Callable[[], T]) -> T:
        session = self.session
        request = session.request
        if request.status:
            raise ClientDisconnected(f"websocket: the handshake has been answered with {request.status}")
        if session.state is not CONNECTING or request.half_closed:
            raise ClientDisconnected("websocket: the client has disconnected")
        if self._thread_ended is None:
            self._thread_ended = session.gateway.admit(session)
            if self._thread_ended is None:
                self.was_rejected = True
                raise ClientDisconnected("websocket: the server has rejected the handshake; its log has the reason")
            self._pool.detach(self.worker)
        try:
            begun = begin()
        except OSError:
            # Without a free descriptor, for example.
            refuse(request)
            raise
        if session.request.status != 101:
            raise ClientDisconnected("websocket: the client has disconnected")
        self.is_taken = True
        return begun

    def failed(self, error: BaseException) -> None:
        """Log the application's `error` after the takeover, and close the connection."""
        session = self.session
        if isinstance(error, StopIteration):
            # gunicorn's way to end a call without a response, which flask-sock and other libraries use.
            return
        session.gateway.catch_up()
        if session.state is CLOSED or (session.state is CLOSING and isinstance(error, OSError)):
            logger.debug("%s: exception in the application after the disconnect", session, exc_info=error)
            return
        log_failure(session, error)
        if session.state is OPEN:
            session.close(INTERNAL_ERROR)

    def ended(self) -> None:
        """Close a connection that was taken over. Stop counting the thread."""
        session = self.session
        if self.is_taken and session.state is OPEN:
            session.gateway.catch_up()
            session.close(INTERNAL_ERROR if self.has_failed else 1000)
        thread_ended, self._thread_ended = self._thread_ended, None
        if thread_ended is not None:
            thread_ended()


@final
class HandedSocket:
    """`environ['werkzeug.socket']`, for WebSocket libraries. Thread-safe.

    The first method call takes over the connection.
    """

    __slots__ = ("_lock", "_sending", "_socket", "_takeover")

    family = socket.AF_UNIX
    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, takeover: Takeover) -> None:
        self._takeover = takeover
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._sending = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if name not in _SOCKET_METHODS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return partial(self._call, name)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # Two threads may make the first call.
        with self._lock:
            if self._socket is None:
                self._socket = self._takeover.take(self._takeover.session.hand_over)
        method = getattr(self._socket, name)
        if name not in _EXCLUSIVE_METHODS:
            return method(*args, **kwargs)
        # One at a time: the kernel may divide a long message, and simple-websocket sends its pings on another thread.
        # That thread also closes: the number of the descriptor, if freed during a send, may be that of another client.
        with self._sending:
            return method(*args, **kwargs)

    def __del__(self) -> None:
        # The servers that this key comes from close the socket themselves, so applications need not.
        if self._socket is not None:
            self._socket.close()

    def __enter__(self) -> HandedSocket:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __copy__(self) -> HandedSocket:
        return self

    def __deepcopy__(self, memo: object) -> HandedSocket:
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._socket or 'unused'}>"
