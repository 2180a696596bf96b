"""The deadlines and the closing of an HTTP/1.1 connection."""

from __future__ import annotations

import asyncio
import sys
from enum import IntEnum
from typing import Final

from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import ERROR_HEADERS, STREAMING, WAITING, HTTPExchange
from uvicorn.errors import RemoteProtocolError
from uvicorn.server.clock import TICK_SECONDS
from uvicorn.server.connection import LINGER_DRAINS, MinimumRate, TransportConnection
from uvicorn.server.context import ServerContext
from uvicorn.server.transport import CONNECTED, HALF_CLOSED, RESET, peer_state, reset, unacknowledged_bytes
from uvicorn.types import Headers
from uvicorn.wire.http1.encoder import PHRASES, HTTP1ResponseEncoder
from uvicorn.wire.http1.parser import HTTP1RequestParser


class HTTP1Phase(IntEnum):
    """The phase of an HTTP/1.1 connection."""

    HEAD = 0  # waiting for the first head, or for the rest of one
    IDLE = 1  # kept alive between requests
    BUSY = 2  # an exchange is under way
    DRAINING = 3  # the response is out; unread request content still arrives
    LINGERING = 4  # the last response is on its way; input is dropped
    CLOSING = 5  # closed as soon as the unsent bytes have been sent
    CLOSED = 6


HEAD, IDLE, BUSY, DRAINING, LINGERING, CLOSING, CLOSED = HTTP1Phase

# The connection is kept if unread content of up to `max_drain_bytes` arrives within this time.
_DRAIN_SECONDS: Final = 1.0

# A stopping server keeps a connection that has been idle for less than this: a request may be on its way.
_RECENT_SECONDS: Final = 0.5

# The rate is an average over this time: mobile clients may pause for half of it.
_RESPONSE_RATE_SECONDS: Final = 60.0


class ResponseRate:
    """Measures how fast a client reads a response."""

    __slots__ = ("_bytes", "_seconds", "_taken")

    def __init__(self) -> None:
        self._taken: int | None = None
        self._seconds = 0.0
        self._bytes = 0

    def check(self, elapsed: float, taken: int, least_rate: int) -> bool:
        """Return whether the client was too slow in the last minute."""
        before, self._taken = self._taken, taken
        if before is None:
            return False
        self._seconds += elapsed
        self._bytes += taken - before
        if self._seconds < _RESPONSE_RATE_SECONDS:
            return False
        is_slow = self._bytes < least_rate * self._seconds
        # Each minute counts separately: a fast first minute must not make up for slow ones.
        self._seconds, self._bytes = 0.0, 0
        return is_slow

    def pause(self) -> None:
        """Do not count the time until the next `check`."""
        self._taken = None


class HTTP1Timeouts(TransportConnection, asyncio.BufferedProtocol):
    """Enforces the deadlines of an HTTP/1.1 connection."""

    __slots__ = (
        "_content_done",
        "_continue_due",
        "_encoder",
        "_endpoint",
        "_eof",
        "_exchange",
        "_file_left",
        "_jitter",
        "_parser",
        "_response_rate",
        "_stream_headers",
        "_ticked",
        "aborted",
        "phase",
        "received",
    )

    _endpoint: Endpoint
    _parser: HTTP1RequestParser

    def __init__(self, context: ServerContext) -> None:
        super().__init__(context, context.clock.now)
        self._encoder = HTTP1ResponseEncoder(context.defaults)
        self._exchange: HTTPExchange | None = None
        self.phase = HEAD
        self._jitter = 1 + context.clock.jitter() / 10
        self._content_done = True
        self._continue_due = False
        self._eof = False
        # Why this server aborted the response.
        self.aborted = ""
        # The fields of the last response that was streamed.
        self._stream_headers: Headers = ()
        self.received = 0
        # The value of `_written` at the last tick.
        self._ticked = 0
        self._file_left = 0
        self._response_rate: tuple[HTTPExchange, ResponseRate] | None = None

    # What the server calls

    def tick(self) -> None:
        settings = self._context.settings
        is_over = self._context.clock.is_over
        phase = self.phase
        if phase is BUSY:
            if self._written != self._ticked:
                self._ticked = self._written
                self._since = self._context.clock.now
            if self._eof_since is not None:
                # Rounded to the nearest tick, so that `timeout_disconnect` begins on time.
                if self._context.clock.now - self._eof_since >= settings.half_closed_seconds - TICK_SECONDS / 2:
                    self._break_off("")
            elif self._reading_paused and self._look_for_end():
                pass
            elif not self._content_done:
                self._check_pace()
        elif phase is IDLE:
            if is_over(self._since, settings.keep_alive_seconds * self._jitter):
                self._close()
        elif phase is HEAD:
            if is_over(self._since, settings.header_seconds):
                if self._parser.buffer:
                    self._refuse(RemoteProtocolError(f"incomplete head after {settings.header_seconds:g} seconds", 408))
                else:
                    self._close()
        elif phase is DRAINING:
            if is_over(self._since, _DRAIN_SECONDS):
                self._linger_upload()
        elif phase is LINGERING:
            if self._transport.get_write_buffer_size():
                # Count from the last byte sent; before that, the write timeout applies.
                self._since = self._context.clock.now
            elif self._has_lingered():
                self._close()
        if self.phase is not CLOSED:
            self._check_stall()

    def stop(self) -> None:
        if self.phase is BUSY:
            self._end_idle_stream()
        if self.phase is IDLE or (self.phase is HEAD and not self._parser.buffer):
            if self._context.clock.is_over(self._since, _RECENT_SECONDS):
                self._close()

    def reset(self, reason: str = "") -> None:
        if self.phase is not CLOSED:
            self.phase = CLOSED
            self.aborted = reason
            self._parser.stop()
            # A truncated response must not look complete.
            reset(self._transport)

    # Disconnects

    def _half_close(self, content_follows: bool = False) -> None:
        if self._eof_since is None:
            self._eof_since = self._context.clock.monotonic()
        if not self._context.settings.half_closed_seconds:
            self._break_off("")
        elif self._exchange is not None:
            self._exchange.half_close(content_follows)

    def _look_for_end(self) -> bool:
        end = peer_state(self._transport)
        if end == RESET:
            self._break_off("")
        elif end == HALF_CLOSED:
            self._half_close(content_follows=True)
        return end != CONNECTED

    def _break_off(self, reason: str) -> None:
        self.reset(reason)
        # Now, because `connection_lost` comes in the next iteration only.
        self._disconnect()

    def _disconnect(self) -> None:
        # First, because a task that is notified may cancel another inside `send`, which would leave a generator open.
        self.resume_writing()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.disconnect()

    def _end_idle_stream(self) -> None:
        exchange = self._exchange
        if (
            exchange is not None
            and exchange.state is STREAMING
            and any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in self._stream_headers
            )
            and self._encoder.is_open_ended
            and self._context.clock.is_over(self._since, self._context.settings.idle_stream_seconds)
        ):
            self._encoder.keep_alive = False
            exchange.finish()

    # Closing

    def _warn(self, what: str) -> None:
        exchange = self._exchange
        self._context.warnings.warn(self._endpoint.client if exchange is None else exchange.client, what)

    def _refuse(self, error: RemoteProtocolError) -> None:
        if self.phase >= LINGERING:
            return
        exchange = self._exchange
        self._warn(f"refused: {error} ({error.status_hint})")
        if exchange is not None and exchange.state is STREAMING:
            exchange.abort("the request is malformed")
            return
        if exchange is None or exchange.state is WAITING:
            content = PHRASES[error.status_hint].encode() + b"\n"
            pieces = self._encoder.start("GET", "1.1", False, error.status_hint, b"", ERROR_HEADERS, content, False)
            self._transport.write(b"".join(pieces))
            if exchange is not None:
                # For the access log, which has a line for this response too.
                exchange.status = error.status_hint
                self.aborted = f"refused: {error}"
        self._linger()
        if exchange is not None:
            exchange.disconnect()

    def _linger(self) -> None:
        # Closing a socket with unread input may destroy the response on its way (RFC 9112, section 9.6).
        self._begin_lingering(LINGER_DRAINS * self._context.settings.max_drain_bytes)

    def _linger_upload(self) -> None:
        left = self._parser.content_left
        if left < 0:
            left = self._context.settings.limits.max_content_bytes or sys.maxsize
        most = max(left, LINGER_DRAINS * self._context.settings.max_drain_bytes)
        self._begin_lingering(most, MinimumRate())

    def _begin_lingering(self, most: int, pace: MinimumRate | None = None) -> None:
        if self.phase >= LINGERING:
            return
        if self._eof:
            self._close()
            return
        self.phase = LINGERING
        self._parser.stop()
        self._begin_discarding(most, pace)

    def _close(self) -> None:
        if self.phase < CLOSING:
            self.phase = CLOSING
            self._parser.stop()
            self._transport.close()

    # Slow clients

    def _check_pace(self) -> None:
        if self._reading_paused or self._continue_due:
            return
        if self._pace is None:
            self._pace = MinimumRate()
        settings, elapsed = self._context.settings, self._context.clock.elapsed
        reason = self._pace.check(elapsed, self.received, settings.content_idle_seconds, settings.min_content_rate)
        if reason:
            self._refuse(RemoteProtocolError(reason, 408))

    def _check_stall(self) -> None:
        unsent = self._transport.get_write_buffer_size() + self._file_left
        settings = self._context.settings
        least = settings.min_response_rate
        if least and self._takes_too_slowly(unsent):
            self._warn(f"reset: the client read less than {least} bytes per second of a response that holds a thread")
            self._break_off("response rate")
        elif self._has_stalled(unsent):
            self._warn(f"reset: the client read no byte of a response for {settings.write_stall_seconds:g} seconds")
            self._break_off("write timeout")

    def _takes_too_slowly(self, unsent: int) -> bool:
        exchange = self._exchange
        if exchange is None or exchange.thread_held is None or not exchange.thread_held():
            self._response_rate = None
            return False
        if self._response_rate is None or self._response_rate[0] is not exchange:
            self._response_rate = (exchange, ResponseRate())
        rate = self._response_rate[1]
        if not unsent:
            rate.pause()
            return False
        taken = self._written - unsent - unacknowledged_bytes(self._transport.get_extra_info("socket"))
        return rate.check(self._context.clock.elapsed, taken, self._context.settings.min_response_rate)
