"""`environ['werkzeug.socket']` is a socket for applications that have their own WebSocket code."""

from __future__ import annotations

import socket
import threading
from functools import partial
from typing import Any, Final, final

from uvicorn.interfaces.takeover import Takeover

_METHODS: Final = frozenset(
    name for name in dir(socket.socket) if not name.startswith("_") and callable(getattr(socket.socket, name))
)

_EXCLUSIVE: Final = frozenset(("send", "sendall", "close"))


@final
class HandedSocket:
    """A socket for any thread. The first call of one of its methods takes over the client's connection.

    After the takeover, the object is one end of a socket pair, with the methods of `socket.socket`. `repr` and copying
    do not take over the connection.
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
        if name not in _METHODS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return partial(self._call, name)

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # Two threads may make the first call.
        with self._lock:
            if self._socket is None:
                self._socket = self._takeover.take(self._takeover.session.hand_over)
        method = getattr(self._socket, name)
        if name not in _EXCLUSIVE:
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
