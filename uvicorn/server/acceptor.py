"""Accepts connections on listening sockets."""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import ssl
import sys
import types
from collections.abc import Coroutine, Generator, Iterator
from contextvars import copy_context
from typing import Any, Final, TypeAlias, final

from uvicorn import process_count
from uvicorn.server.context import ServerContext
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.tls import handshake_failure

logger = logging.getLogger("uvicorn.error")

# uvloop's own servers accept one connection in each iteration of the event loop, which delays new clients of a busy
# server. asyncio's accept all, so that one of several processes may take them all.

# The most in one iteration if no other process shares the socket: 128 connections take 6 ms.
_MOST_ALONE: Final = 128
# The most for all processes that share a socket. A smaller number distributes the connections more evenly.
_MOST_SHARED: Final = 64

# The pause after an error such as a lack of descriptors. Short, because connections of clients that have given up stay
# in the queue until they are accepted, and each attempt accepts only as many as there are free descriptors.
_RETRY_SECONDS: Final = 0.1

_Accepted: TypeAlias = tuple[socket.socket, HTTP1Connection]


@final
class Acceptor:
    """Accepts the connections of one listening socket."""

    def __init__(self, context: ServerContext, sock: socket.socket, tls: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._sock = sock
        self._poll = select.poll()
        self._poll.register(sock.fileno(), select.POLLIN)
        processes = process_count.count or 1
        self._most = _MOST_ALONE if processes == 1 else max(1, _MOST_SHARED // processes)
        self._retry: asyncio.TimerHandle | None = None
        self._is_open = False
        self._reads_first = tls is None and _reads_when_ready(context.loop)
        self._options: dict[str, Any] = {}
        if tls is not None:
            settings = context.settings
            # The time for the first head includes the handshake.
            seconds = min(settings.ssl_handshake_seconds, settings.header_seconds)
            self._options = {
                "ssl": tls,
                "ssl_handshake_timeout": seconds,
                "ssl_shutdown_timeout": settings.linger_seconds,
            }

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening socket in a tuple, or an empty tuple after `close`."""
        # As in `asyncio.Server`.
        return (self._sock,) if self._is_open else ()

    def start(self) -> None:
        """Listen on the socket, and accept connections from now on."""
        self._sock.setblocking(False)
        self._sock.listen(self._context.settings.backlog)
        self._is_open = True
        self._resume()

    def close(self) -> None:
        """Close the listening socket after accepting the queued connections."""
        if self._is_open:
            self._accept(self._context.settings.backlog)
            self.abort()

    def abort(self) -> None:
        """Close the listening socket without accepting the queued connections."""
        if self._is_open:
            self._is_open = False
            self._pause()
            self._sock.close()

    def _resume(self) -> None:
        self._retry = None
        self._context.loop.add_reader(self._sock.fileno(), self._accept, self._most)

    def _pause(self) -> None:
        self._context.loop.remove_reader(self._sock.fileno())
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _accept(self, most: int) -> None:
        accepted = list(self._accept_queued(most))
        if accepted and self._reads_first:
            # After the calls of `connection_made`, which the transports have scheduled.
            self._context.loop.call_soon(self._read_first_requests, accepted)

    def _accept_queued(self, most: int) -> Iterator[_Accepted]:
        context = self._context
        for _ in range(most):
            # All processes that share the socket wake up together. A failed accept takes 7 us, a poll 1 us.
            if not self._poll.poll(0):
                return
            try:
                sock, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._pause()
                self._retry = context.loop.call_later(_RETRY_SECONDS, self._resume)
                context.accept_failed(error)
                return
            # No handshake, because TLS buffers take 300 KiB on asyncio.
            if self._options and 0 < context.limit_concurrency <= len(context.connections) + len(context.arriving):
                sock.close()
                self._warn(peer, f"refused before the TLS handshake: over {context.limit_concurrency} connections")
                continue
            yield sock, self._start(sock, peer)

    def _warn(self, peer: Any, what: str) -> None:
        self._context.warnings.warn((peer[0], peer[1]) if isinstance(peer, tuple) else None, what)

    def _read_first_requests(self, accepted: list[_Accepted]) -> None:
        # Read now, before the event loop polls all connections.
        # Otherwise 100 new clients would wait for the requests of 200 busy connections, 5 ms.
        connections = self._context.connections
        waiting = {sock.fileno(): (sock, connection) for sock, connection in accepted if connection in connections}
        poll = select.poll()
        for number in waiting:
            poll.register(number, select.POLLIN)
        for number, event in poll.poll(0):
            # The event loop handles a connection that the client has reset.
            if event == select.POLLIN:
                sock, connection = waiting[number]
                try:
                    # A context for each connection, as in the callbacks of a transport.
                    copy_context().run(_read, sock, connection)
                except Exception:
                    # The first requests of the other connections must still be read.
                    logger.exception("reading the first request of a connection failed; resetting the connection")
                    connection.reset()

    def _start(self, sock: socket.socket, peer: Any) -> HTTP1Connection:
        context = self._context
        connection = HTTP1Connection(context)
        if self._reads_first:
            # Without `_connect`, which takes 3 us: there is no handshake to await.
            coroutine: Coroutine[Any, Any, Any] = context.loop.connect_accepted_socket(lambda: connection, sock)
        else:
            coroutine = self._connect(connection, sock, peer)
        if sys.version_info >= (3, 12):
            task = asyncio.Task(coroutine, loop=context.loop, eager_start=True)
        elif self._reads_first:  # pragma: no cover (Python 3.11, where coverage is not counted)
            # The first step creates the transport. A task would run it in the next iteration only.
            task = context.loop.create_task(_continued(coroutine, coroutine.send(None)))
        else:  # pragma: no cover (Python 3.11)
            task = context.loop.create_task(coroutine)
        if not task.done():
            context.arriving[connection] = task
        return connection

    async def _connect(self, connection: HTTP1Connection, sock: socket.socket, peer: Any) -> None:
        try:
            await self._context.loop.connect_accepted_socket(lambda: connection, sock, **self._options)
        except BaseException as error:
            sock.close()
            # Other errors of a TLS handshake are clients that disconnected or took too long.
            if self._options and isinstance(error, ssl.SSLError):
                if failure := handshake_failure(error):
                    self._warn(peer, failure)
            elif not (self._options and isinstance(error, OSError)):
                raise
        finally:
            self._context.arriving.pop(connection, None)


@types.coroutine
def _continued(coroutine: Any, awaited: Any) -> Generator[Any, Any, Any]:  # pragma: no cover (Python 3.11)
    yield awaited
    return (yield from coroutine)


def _reads_when_ready(loop: asyncio.AbstractEventLoop) -> bool:
    # A loop with a read in progress, as with io_uring, would deliver its bytes after those that this module reads.
    uvloop = sys.modules.get("uvloop")
    return isinstance(loop, asyncio.SelectorEventLoop) or (uvloop is not None and isinstance(loop, uvloop.Loop))


def _read(sock: socket.socket, connection: HTTP1Connection) -> None:
    try:
        count = sock.recv_into(connection.get_buffer(-1))
    except OSError:
        return
    if count:
        connection.buffer_updated(count)
