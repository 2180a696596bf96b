"""Serves `GET /metrics` on a separate thread, even while the event loop is blocked."""

from __future__ import annotations

import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, final

from uvicorn.server.listener import close_sockets, describe, open_sockets, parse_bind
from uvicorn.server.metrics import CONTENT_TYPE

logger = logging.getLogger("uvicorn.error")

# Prometheus sends 400 bytes, and reads the response immediately.
_MOST_HEAD_BYTES: Final = 8192
_SECONDS: Final = 5.0

# Beyond this number, the oldest connection is closed. A few scrapers connect, one after the other.
_MOST_CLIENTS: Final = 32

# Connections that wait to be accepted. The kernel ignores one more, and the client tries again after a second.
_BACKLOG: Final = 1024

# The pause after an error such as a lack of descriptors.
_RETRY_SECONDS: Final = 0.1


@final
class MetricsListener:
    """Answers `GET /metrics` with the result of `text()`."""

    def __init__(self, address: str, text: Callable[[], bytes]) -> None:
        """Start listening on `address`. Raises ConfigError for an unusable address."""
        self.sockets = open_sockets([parse_bind(address, "metrics")], _BACKLOG, option="metrics")
        self._text = text
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._waking = socket.socketpair()
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        for sock in self.sockets:
            # Not for the processes that the application starts.
            sock.set_inheritable(False)
            self._selector.register(sock, selectors.EVENT_READ)
            logger.info("Metrics are served on %s/metrics", describe(sock))
        #: The connections in the order of their arrival.
        self._clients: dict[socket.socket, _Client] = {}
        self._thread = threading.Thread(target=self._run, name="uvicorn-metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the sockets, and end the thread."""
        self._waking.close()
        self._thread.join()
        close_sockets(self.sockets)
        for sock in (self._wakeup, *self._clients):
            sock.close()
        self._selector.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select(1 if self._clients else None):
                if key.fileobj is self._wakeup:
                    return
                if key.data is None:
                    self._accept(key.fileobj)
                elif key.data.sock in self._clients:
                    self._serve(key.data)
            now = time.monotonic()
            for client in [client for client in self._clients.values() if now > client.deadline]:
                self._drop(client)

    def _accept(self, listening: Any) -> None:
        try:
            sock, _ = listening.accept()
        except BlockingIOError:
            return
        except OSError:
            time.sleep(_RETRY_SECONDS)
            return
        sock.setblocking(False)
        if len(self._clients) >= _MOST_CLIENTS:
            self._drop(next(iter(self._clients.values())))
        client = self._clients[sock] = _Client(sock)
        self._selector.register(sock, selectors.EVENT_READ, client)

    def _serve(self, client: _Client) -> None:
        try:
            if not client.unsent:
                data = client.sock.recv(_MOST_HEAD_BYTES)
                client.received += data
                is_whole = b"\r\n\r\n" in client.received
                if data and not is_whole and len(client.received) <= _MOST_HEAD_BYTES:
                    return
                client.unsent = self._response(client.received) if is_whole else b""
                self._selector.modify(client.sock, selectors.EVENT_WRITE, client)
            client.unsent = client.unsent[client.sock.send(client.unsent) :]
        except BlockingIOError:
            return
        except OSError:
            client.unsent = b""
        if not client.unsent:
            self._drop(client)

    def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        status, kind, content = b"404 Not Found", b"text/plain; charset=utf-8", b"Not Found\n"
        if method == b"GET" and path == b"/metrics":
            try:
                status, kind, content = b"200 OK", CONTENT_TYPE, self._text()
            except Exception:
                logger.exception("collecting the metrics failed; the response is 500")
                status, content = b"500 Internal Server Error", b"Internal Server Error\n"
        return (
            b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (status, kind, len(content))
            + b"cache-control: no-store\r\nconnection: close\r\n\r\n"
            + content
        )

    def _drop(self, client: _Client) -> None:
        del self._clients[client.sock]
        self._selector.unregister(client.sock)
        with suppress(OSError):
            client.sock.shutdown(socket.SHUT_WR)
        client.sock.close()


@final
class _Client:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.deadline = time.monotonic() + _SECONDS
        self.received = b""
        self.unsent = b""
