"""The base class of all connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from uvicorn.core.unsent import UnsentSends
from uvicorn.core.waiters import Waiters
from uvicorn.server.context import ServerContext

# A lingering close drops up to this many times `max_drain_bytes` of input, besides the announced bytes.
LINGER_DRAINS: Final = 4

# Many clients read the response only after they have sent all content (RFC 9112, section 9.6). These are the limits on
# the lingering close, on a pause of the client, and on the lingering close of a stopping server.
_DROPPED_SECONDS: Final = 30.0
_DROPPED_IDLE_SECONDS: Final = 5.0
_DROPPED_STOPPING_SECONDS: Final = 1.0

# The minimum rate applies after this time, so that a client may start slowly.
_RATE_AFTER_SECONDS: Final = 10.0


class MinimumRate:
    """Measures how fast request content arrives."""

    __slots__ = ("_idle", "_received", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._idle = 0.0
        self._received = 0

    def check(self, elapsed: float, received: int, idle_seconds: float, least_rate: int) -> str:
        """If the client is too slow, return the reason. Otherwise, return an empty string."""
        self._seconds += elapsed
        self._idle = 0.0 if received > self._received else self._idle + elapsed
        self._received = received
        if self._idle >= idle_seconds:
            return f"no request content for {idle_seconds:g} seconds"
        if self._seconds > _RATE_AFTER_SECONDS and received < least_rate * self._seconds:
            return f"request content slower than {least_rate} bytes per second"
        return ""


# A base class, because a separate object would cost each request extra calls.
class TransportConnection:
    """Base class of HTTP/1.1 connections, WebSocket connections and tunnels."""

    __slots__ = (
        "_context",
        "_discarded",
        "_drainers",
        "_eof_since",
        "_linger_bytes",
        "_pace",
        "_reading_paused",
        "_since",
        "_stall",
        "_transport",
        "_unsent",
        "_written",
        "write_paused",
    )

    _transport: asyncio.Transport

    def __init__(self, context: ServerContext, since: float) -> None:
        self._context = context
        # When the current phase began, or when the client last made progress in it.
        self._since = since
        self.write_paused = False
        self._reading_paused = False
        # When the client was found to have closed its side; None while it has not.
        self._eof_since: float | None = None
        # Callers of `drain`. Created for the first one, because most connections never have any.
        self._drainers: Waiters | None = None
        # The unsent bytes of a slow client; None while writing is not paused.
        self._unsent: UnsentSends | None = None
        # The number of bytes written. It need not be counted while `_stall` is None.
        self._written = 0
        # The bytes that a slow client has received, and the seconds since then. None while no bytes are unsent.
        self._stall: tuple[int, float] | None = None
        # In a lingering close: the bytes dropped so far, their limit, and their minimum rate if they were announced.
        self._discarded = 0
        self._linger_bytes = 0
        self._pace: MinimumRate | None = None

    # Write flow control

    def pause_writing(self) -> None:
        self.write_paused = True

    async def drain(self) -> None:
        if self.write_paused:
            if self._drainers is None:
                self._drainers = Waiters()
            await self._drainers.wait(self._drainers.add())

    def last_send(self) -> Callable[[], object] | None:
        if not self.write_paused:
            return None
        return self._track_unsent(self._transport.get_write_buffer_size()).last_send()

    def _track_unsent(self, buffered: int) -> UnsentSends:
        if self._unsent is None:
            self._unsent = UnsentSends(buffered)
        return self._unsent

    def _shortage(self, size: int, unawaited_size: int, most_messages: int = 0) -> str:
        settings = self._context.settings
        buffered = self._transport.get_write_buffer_size()
        unsent = self._track_unsent(buffered)
        most = settings.max_unsent_bytes
        return unsent.unawaited_shortage(unawaited_size, buffered, most, most_messages) or unsent.pending_shortage(
            size, buffered, most, settings.max_pending_bytes
        )

    def _wake_drainers(self) -> None:
        drainers, self._drainers = self._drainers, None
        if drainers is not None:
            drainers.wake()

    def _has_stalled(self, unsent: int) -> bool:
        if not unsent:
            self._stall = None
            return False
        context = self._context
        received = self._written - unsent
        before, seconds = self._stall or (None, 0.0)
        seconds = seconds + context.clock.elapsed if received == before else 0.0
        self._stall = received, seconds
        return seconds >= context.settings.write_stall_seconds

    # Lingering close

    def _begin_discarding(self, most: int, pace: MinimumRate | None) -> None:
        self._since = self._context.clock.now
        self._discarded = 0
        self._linger_bytes = most
        self._pace = pace
        self._read_on()
        self._send_fin()

    def _send_fin(self) -> None:
        # TLS has no half-close.
        if self._transport.can_write_eof():
            # OSError if the client has reset the connection, which the event loop reports in its next iteration.
            with suppress(OSError):
                self._transport.write_eof()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > self._linger_bytes:
            self._close()

    def _has_lingered(self) -> bool:
        context = self._context
        settings = context.settings
        if self._pace is None:
            seconds = settings.linger_seconds
        elif self._pace.check(context.clock.elapsed, self._discarded, _DROPPED_IDLE_SECONDS, settings.min_content_rate):
            return True
        else:
            seconds = _DROPPED_STOPPING_SECONDS if context.stopping else _DROPPED_SECONDS
        return context.clock.is_over(self._since, seconds)

    def _read_on(self) -> None:
        # A closing transport does not read, and a TLS transport may already have dropped its state.
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def _close(self) -> None:
        raise NotImplementedError
