"""The methods that an exchange calls on its HTTP/1.1 connection."""

from __future__ import annotations

import asyncio
from io import FileIO
from typing import Final

from uvicorn.core.exchange import STREAMING, WAITING, HTTPExchange, HTTPGateway
from uvicorn.server.context import ServerContext
from uvicorn.server.http1_timeouts import BUSY, CLOSED, HTTP1Timeouts
from uvicorn.server.transport import send_file
from uvicorn.types import Headers
from uvicorn.wire.http1.encoder import CONTINUE, ContentTooLong

# Longer content is written separately, because joining it with the head copies it.
_COPY_BYTES: Final = 65536


class HTTP1Gateway(HTTP1Timeouts, HTTPGateway):
    """Sends the responses of one HTTP/1.1 connection."""

    __slots__ = ("began", "content_sent", "sends_files")

    pushes_content = True

    def __init__(self, context: ServerContext) -> None:
        super().__init__(context)
        self.began = 0.0
        self.content_sent = 0
        self.sends_files = False

    def send_response(
        self, exchange: HTTPExchange, status: int, headers: Headers, content: bytes, more_content: bool, reason: bytes
    ) -> None:
        encoder = self._encoder
        keep_alive = self._parser.keep_alive and not self._context.stopping
        if not self._content_done or self._continue_due:
            # A long rest costs more than a new connection. Without 100 Continue, the next bytes may be a request.
            left = self._parser.content_left
            wanted = 0 <= left <= self._context.settings.max_drain_bytes and not self._continue_due
            keep_alive = keep_alive and wanted and not self._eof
        elif self._eof:
            keep_alive = keep_alive and bool(self._parser.buffer)
        if more_content:
            # `_end_idle_stream` reads them when the server stops; an iterator could be read only once.
            if type(headers) is not list and hasattr(headers, "__iter__"):
                headers = list(headers)
            self._stream_headers = headers
            self._since = self._context.clock.now
        pieces = encoder.start(
            exchange.method, exchange.http_version, keep_alive, status, reason, headers, content, more_content
        )
        sent = self.content_sent = encoder.started_with
        if sent <= _COPY_BYTES:
            self._transport.write(b"".join(pieces))
        else:
            # Not `writelines`: asyncio's ignores flow control, and continues after the socket has failed.
            self._transport.write(b"".join(pieces[:-1]))
            self._transport.write(pieces[-1])
        if self._stall is not None:
            self._written += sum(map(len, pieces))
        if encoder.dropped:
            self._context.dropped_fields(exchange, encoder.dropped)

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        transport = self._transport
        if transport.is_closing():
            # A write has failed. The event loop reports it in its next iteration, which a busy handler may delay.
            exchange.disconnect()
            return
        if self.write_paused and (shortage := self._shortage(len(content), 0)):
            self._warn(f"reset: {shortage}")
            exchange.abort("too much unsent")
            return
        try:
            data = self._encoder.content(content, more_content)
        except ContentTooLong as error:
            self.aborted = str(error)
            transport.write(error.allowed)
            self._close()
            raise
        except Exception as error:
            self.reset(str(error))
            raise
        if data:
            transport.write(data)
            if self._unsent is not None:
                self._unsent.add(len(data))
            self._written += len(data)
            self.content_sent += len(content)

    def send_trailers(self, exchange: HTTPExchange, headers: Headers) -> None:
        if self._transport.is_closing():
            exchange.disconnect()
            return
        try:
            data = self._encoder.trailers(headers)
        except Exception as error:
            self.reset(str(error))
            raise
        if data:
            self._transport.write(data)
            self._written += len(data)

    async def send_file(self, exchange: HTTPExchange, file: FileIO, count: int, start: int = 0) -> None:
        transport = self._transport
        sock = transport.get_extra_info("socket")
        # The kernel cannot send a file over TLS.
        if self._endpoint.scheme == "https" or sock is None or sock.fileno() < 0:
            await super().send_file(exchange, file, count, start)
            return
        framing = self._encoder.framing_around(count)
        if framing is None:
            return
        before, behind = framing
        transport.write(before)
        transport.set_write_buffer_limits(high=0)
        while transport.get_write_buffer_size() and exchange.state is STREAMING:
            await (self.drain() if self.write_paused else asyncio.sleep(0))
        transport.set_write_buffer_limits(high=self._context.settings.write_buffer_bytes)
        self._file_left = count
        self._written += len(before) + count + len(behind)
        try:
            await send_file(exchange, sock.fileno(), file.fileno(), start, count, self._file_sent)
        except OSError:
            # The event loop did not send these bytes, so it has not noticed the failure.
            self.reset()
            exchange.disconnect()
        finally:
            self._file_left = 0
        if exchange.state is STREAMING:
            transport.write(behind)

    def want_content(self, exchange: HTTPExchange) -> None:
        if exchange is not self._exchange:
            return
        if self._continue_due:
            self._continue_due = False
            if exchange.state is WAITING:
                # Even if content has arrived, so that the responses do not depend on how the stream was split.
                self._transport.write(CONTINUE)
        if self._reading_paused:
            self._update_reading()

    def content_taken(self, exchange: HTTPExchange) -> None:
        if exchange is self._exchange:
            # The client did not wait for 100 Continue.
            self._continue_due = False
        if self._reading_paused:
            self._update_reading()

    def abort(self, exchange: HTTPExchange, reason: str) -> None:
        if exchange is self._exchange:
            self.reset(reason)

    # What a WebSocket calls

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close_half_closed(self) -> bool:
        """If the client has half-closed, close the connection and return True."""
        if self._eof:
            self._close()
        return self._eof

    def ignore_upgrade(self) -> None:
        """Treat the current request as one without an Upgrade field."""
        self._parser.upgrade = b""

    def switch(self) -> tuple[asyncio.Transport, bytes]:
        """Stop serving HTTP. Return the transport and the bytes received after the request."""
        exchange = self._exchange
        assert exchange is not None
        received = bytes(self._parser.buffer)
        self.phase = CLOSED
        self._exchange = None
        self._parser.detach()
        self._context.connections.discard(self)
        self._read_on()
        self.content_sent = 0
        exchange.switch_protocols()
        return self._transport, received

    # Flow control

    def _file_sent(self, count: int) -> None:
        self._file_left -= count
        self.content_sent += count

    def _update_reading(self) -> None:
        # In other phases the limits on heads suffice.
        if self.phase is BUSY and self._held() > self._context.settings.read_buffer_bytes:
            if not self._reading_paused:
                self._reading_paused = True
                self._transport.pause_reading()
        elif self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    def _held(self) -> int:
        held = len(self._parser.buffer)
        exchange = self._exchange
        return held if exchange is None else max(held, exchange.content.buffered_bytes)
