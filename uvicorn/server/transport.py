"""Socket operations that asyncio's transports lack."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import socket
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from uvicorn.core.exchange import STREAMING, HTTPExchange
from uvicorn.errors import LocalProtocolError

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Reset the connection, and drop the unsent bytes."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        # OSError if the connection is closed already.
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


# The states of a connection: CONNECTED at first, HALF_CLOSED after the peer's FIN, RESET after an error.
CONNECTED: Final = 0
HALF_CLOSED: Final = 1
RESET: Final = 2

# Linux reports a FIN behind unread input; other systems report only a reset.
_HALF_CLOSED_EVENT: Final = getattr(select, "POLLRDHUP", 0)


def peer_state(transport: asyncio.Transport) -> int:
    """Return CONNECTED, HALF_CLOSED or RESET for an open transport."""
    # CONNECTED for a closed one, whose loss the event loop reports.
    sock = transport.get_extra_info("socket")
    return CONNECTED if sock is None or sock.fileno() < 0 else socket_state(sock)


def socket_state(sock: socket.socket) -> int:
    """Return CONNECTED, HALF_CLOSED or RESET for an open socket."""
    poll = select.poll()
    poll.register(sock.fileno(), _HALF_CLOSED_EVENT)
    for _, events in poll.poll(0):
        if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            return RESET
        if events & _HALF_CLOSED_EVENT:
            return HALF_CLOSED
    return CONNECTED


# The most bytes that one connection sends before others are served, in less than a millisecond.
_TURN_BYTES: Final = 1 << 20


async def send_file(
    exchange: HTTPExchange, connected: int, file: int, start: int, count: int, on_sent: Callable[[int], None]
) -> None:
    """Send `count` bytes of a file to a socket. Raises OSError and LocalProtocolError."""
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] | None = None

    def wake(*_: object) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    exchange.on_end(wake)
    sent = 0
    # Not loop.sendfile, which uvloop lacks. Event loops reject writers for a transport's descriptor, but not for a
    # duplicate, which keeps the connection open until it is closed.
    duplicate = os.dup(connected)
    try:
        while sent < count and exchange.state is STREAMING:
            try:
                taken = os.sendfile(duplicate, file, start + sent, min(count - sent, _TURN_BYTES))
            except BlockingIOError:
                waiting = loop.create_future()
                loop.add_writer(duplicate, wake)
                try:
                    await waiting
                finally:
                    loop.remove_writer(duplicate)
                continue
            if not taken:
                raise LocalProtocolError(f"the file is {count - sent} bytes shorter than when it was opened")
            sent += taken
            on_sent(taken)
            await asyncio.sleep(0)
    finally:
        os.close(duplicate)


def unacknowledged_bytes(sock: Any) -> int:
    """Return how many written bytes the client has not acknowledged. If unknown, return 0."""
    # Linux accepts bytes in bursts of a third of its buffer, so accepted bytes do not show how fast a client reads.
    return _queued_bytes(sock, termios.TIOCOUTQ)


def unread_bytes(sock: socket.socket) -> int:
    """Return how many received bytes the kernel holds. If unknown, return 0."""
    return _queued_bytes(sock, termios.FIONREAD)


def _queued_bytes(sock: Any, request: int) -> int:
    try:
        taken: bytes = fcntl.ioctl(sock.fileno(), request, bytes(4))
    except (AttributeError, OSError, ValueError):
        return 0
    count: int = struct.unpack("i", taken)[0]
    return count
