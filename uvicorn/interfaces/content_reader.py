"""`wsgi.input` of content that is still on its way."""

from __future__ import annotations

import asyncio
import io
from typing import Any

from uvicorn.errors import ClientDisconnected
from uvicorn.exchange import COMPLETE, HTTPExchange
from uvicorn.interfaces.backlog import Backlog
from uvicorn.interfaces.bell import Bell, new_bell
from uvicorn.interfaces.pooled import Outbox


class ContentReader(io.RawIOBase):
    """A file of what the client sends: reading it blocks a worker, never the loop.

    From the first read on, and not before, the loop hands over what arrives, each piece when the last one has been
    read: what lies ahead of the worker is what the exchange holds, and no more. Nothing after the response's end.
    """

    def __init__(self, exchange: HTTPExchange, outbox: Outbox) -> None:
        self._exchange = exchange
        self._outbox = outbox
        self._left = memoryview(b"")
        # One piece at a time: what a request may occupy is the exchange's business.
        self._backlog = Backlog(0)
        self._bell: Bell | None = None
        self._waiting = False
        # The loop's to set: the next piece, whether there will be no more, and whether there have been all.
        self._piece = b""
        self._ended = False
        self._whole = False
        # The loop itself keeps tasks by weak references.
        self._handing_over: asyncio.Task[None] | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises ClientDisconnected, an OSError, if the client leaves before its content is whole."""
        while not self._left:
            # Before the piece: none comes after it.
            ended = self._ended
            if self._piece:
                self._left, self._piece = memoryview(self._piece), b""
            elif not ended:
                self._wait()
            elif self._whole:
                return 0
            else:
                raise ClientDisconnected("the client went away before its request was complete")
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        if self._backlog.take(count):
            self._outbox.post(self._backlog.wake)
        return count

    def _wait(self) -> None:
        if self._bell is None:
            self._bell = new_bell()
            if not self._outbox.post(self._on_loop_begin):
                self._ended = True
        self._waiting = True
        # Looked at again: a loop that saw nobody wait does not ring.
        if not self._piece and not self._ended:
            self._bell.wait()

    # On the event loop's thread

    def _on_loop_begin(self) -> None:
        self._handing_over = asyncio.get_running_loop().create_task(self._hand_over())
        self._exchange.on_end(lambda exchange: self._backlog.wake())

    async def _hand_over(self) -> None:
        exchange = self._exchange
        try:
            more_content = True
            while more_content:
                content, more_content = await exchange.receive()
                if content:
                    self._backlog.put += len(content)
                    self._piece = content
                    self._ring()
                    await self._backlog.wait(lambda: exchange.state >= COMPLETE)
                    if self._backlog.is_high:
                        return
            self._whole = True
        except ClientDisconnected:
            pass
        finally:
            # Also when the loop stops, and cancels this.
            self._ended = True
            self._ring()

    def _ring(self) -> None:
        if self._waiting and self._bell is not None:
            self._waiting = False
            self._bell.ring()
