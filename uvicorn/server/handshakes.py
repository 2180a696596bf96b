"""TLS connections from accept until their handshake has ended: counted, limited, and given a deadline.

The event loop accepts them as plain connections, which costs next to nothing. Only those that the limit has room for
get a TLS handshake, whose buffers take 300 KiB each on asyncio.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, cast, final

from uvicorn.server.context import ServerContext


@final
class TLSHandshakes:
    """Starts a handshake on each connection that one server accepts, and knows those that are under way."""

    def __init__(
        self, context: ServerContext, tls: ssl.SSLContext, build_connection: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        """`build_connection` returns the protocol object that is served once the handshake is complete."""
        self._context = context
        self._tls = tls
        self._build_connection = build_connection
        self._tasks: set[asyncio.Task[None]] = set()
        settings = context.settings
        #: The handshake is a part of what comes before the first request's head, and has no longer than all of that.
        self.seconds: Final = min(settings.ssl_handshake_seconds, settings.header_seconds)

    def accept(self) -> asyncio.BaseProtocol:
        """Return the protocol object of a connection that has just been accepted."""
        accepted = _Accepted(self)
        self._context.arriving.add(accepted)
        return accepted

    def close(self) -> None:
        """Break off the handshakes that are under way."""
        for task in tuple(self._tasks):
            task.cancel()

    def begin(self, accepted: _Accepted, transport: asyncio.Transport) -> None:
        """Begin the handshake, or close the connection if there are as many as there may be."""
        context = self._context
        limit = context.settings.limit_concurrency
        try:
            # `accepted` itself is one of those that arrive.
            if 0 < limit < len(context.connections) + len(context.arriving):
                peer = transport.get_extra_info("peername")
                client = (peer[0], peer[1]) if isinstance(peer, tuple) else None
                context.warnings.warn(client, f"closed before its TLS handshake: over {limit} connections")
                return
            sock = _taken_from(transport)
        except OSError as error:
            context.loop_exception(context.loop, {"exception": error, "message": "a TLS connection was not accepted"})
            return
        finally:
            context.arriving.discard(accepted)
            transport.abort()
        connection = self._build_connection()
        task = context.loop.create_task(self._complete(connection, sock))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _complete(self, connection: Any, sock: socket.socket) -> None:
        context = self._context
        try:
            await context.loop.connect_accepted_socket(
                lambda: connection,
                sock,
                ssl=self._tls,
                ssl_handshake_timeout=self.seconds,
                ssl_shutdown_timeout=context.settings.linger_seconds,
            )
        except BaseException as error:
            sock.close()
            # Otherwise it was no TLS, it took too long, or the client has gone.
            if not isinstance(error, OSError):
                raise
        finally:
            context.arriving.discard(connection)


@final
class _Accepted(asyncio.Protocol):
    """A connection that the event loop has accepted, for the turn of the loop until its transport is there."""

    def __init__(self, handshakes: TLSHandshakes) -> None:
        self._handshakes = handshakes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the connection on."""
        # uvloop's transports do not inherit from asyncio's.
        self._handshakes.begin(self, cast(asyncio.Transport, transport))


def _taken_from(transport: asyncio.Transport) -> socket.socket:
    """The connection of a transport that has read nothing yet, to be gone on with when the transport has been closed.

    `start_tls` would hand over data before it returns the transport to answer on: clients send their first request
    with the end of the handshake.
    """
    its = transport.get_extra_info("socket")
    return socket.socket(its.family, its.type, its.proto, fileno=os.dup(its.fileno()))
