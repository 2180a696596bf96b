"""A file onto a socket without a copy in between (Linux, macOS), beside a transport that has nothing to write."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

from uvicorn.errors import LocalProtocolError
from uvicorn.exchange import STREAMING, HTTPExchange

# As much as one connection may send before others have their turn: less than a millisecond.
_TURN_BYTES: Final = 1 << 20


async def send_file(
    exchange: HTTPExchange, connected: int, file: int, start: int, count: int, on_sent: Callable[[int], None]
) -> None:
    """Send `count` bytes of descriptor `file` from `start` on the socket `connected`, as fast as the client takes them.

    `loop.sendfile` is not there on uvloop. The socket is used through a duplicate of its descriptor: event loops let
    nobody wait for one that belongs to a transport. Raises OSError if the client has gone, LocalProtocolError if the
    file has become shorter.
    """
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[None] | None = None

    def wake(*_: object) -> None:
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    exchange.on_end(wake)
    sent = 0
    # Closed at once when the connection is: as long as it is open, so is the connection.
    duplicate = os.dup(connected)
    try:
        while sent < count and exchange.state == STREAMING:
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
                raise LocalProtocolError(f"the file has {count - sent} bytes less than when it was opened")
            sent += taken
            on_sent(taken)
            await asyncio.sleep(0)
    finally:
        os.close(duplicate)
