"""Breaking a connection off in a way that its client cannot take for an end, and noticing that the client has."""

from __future__ import annotations

import asyncio
import select
import socket
import struct
from typing import Final

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """Close at once, unsent bytes and all; by a reset where there is such a thing, which Unix sockets have not."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        except OSError:
            pass  # gone already
    transport.abort()


# What a client has done to its side of a connection.
CONNECTED: Final = 0
HALF_CLOSED: Final = 1
RESET: Final = 2

# Linux tells of a FIN behind input that has not been read; elsewhere only a reset is seen.
_HALF_CLOSED_EVENT: Final = getattr(select, "POLLRDHUP", 0)


def peer_state(transport: asyncio.Transport) -> int:
    """Ask the kernel whether the client has closed its side: while reading is paused, the event loop does not."""
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return CONNECTED
    poll = select.poll()
    poll.register(sock.fileno(), _HALF_CLOSED_EVENT)
    for _, events in poll.poll(0):
        if events & (select.POLLERR | select.POLLHUP | select.POLLNVAL):
            return RESET
        if events & _HALF_CLOSED_EVENT:
            return HALF_CLOSED
    return CONNECTED
