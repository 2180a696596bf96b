"""Decodes a WebSocket client's frames and messages (RFC 6455, sections 5 to 7).

An error is raised at the first invalid byte.
"""

from __future__ import annotations

from codecs import utf_8_decode
from enum import IntEnum
from typing import Final, Protocol, final

from uvicorn.errors import WebSocketProtocolError
from uvicorn.wire.websocket.deflate import INVALID_COMPRESSED, PerMessageDeflate
from uvicorn.wire.websocket.encoder import (
    BINARY,
    BINARY_FRAME,
    CLOSE,
    CONTINUATION,
    CONTROL,
    FIN,
    PING,
    PONG,
    RSV1,
    RSV2_RSV3,
    TEXT,
    TEXT_FRAME,
    MessageEncoder,
    parse_close,
)
from uvicorn.wire.websocket.frame_cache import FrameCache

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

_OPCODES: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))

# Payloads from this length on are unmasked through a memoryview, which then costs less than a copy.
_VIEW_BYTES: Final = 16384

# Frames read in a row before `on_busy`. A short message takes 5 to 20 us, and one read may contain 100,000.
_FRAMES_IN_A_ROW: Final = 256

_NOT_UTF8: Final = "text is not valid UTF-8"


class CodecState(IntEnum):
    """Whether a codec decodes, buffers or ignores its input."""

    OPEN = 0
    PAUSED = 1
    ENDED = 2


_OPEN, _PAUSED, _ENDED = CodecState


class WebSocketSink(Protocol):
    """The methods that the codec calls. No method may call `receive_data`."""

    def on_text(self, text: str) -> None: ...

    def on_bytes(self, data: bytes) -> None: ...

    def on_ping(self, data: bytes) -> None:
        """Send a pong with the same data (section 5.5.3)."""

    def on_pong(self, data: bytes) -> None: ...

    def on_close(self, code: int, reason: str) -> None:
        """Handle the client's close frame. No other call follows."""

    def on_busy(self) -> None:
        """Handle a long run of frames, for example by `pause`."""


@final
class WebSocketCodec(MessageEncoder):
    """Decodes and encodes the frames of one connection. Encoding works even after `stop`."""

    def __init__(
        self,
        sink: WebSocketSink,
        max_message_bytes: int,
        max_fragments: int,
        deflate: PerMessageDeflate | None = None,
        cache: FrameCache | None = None,
    ) -> None:
        """`max_message_bytes` limits a message after decompression. `max_fragments` limits the frames of a message."""
        super().__init__(deflate, cache)
        self._sink: WebSocketSink = sink
        self._limit = max_message_bytes
        self._max_fragments = max_fragments
        self.state: CodecState = _OPEN
        # Whether the buffer is empty and the next frame begins a message, which is the usual case.
        self._between = True

        # Unread from `_position` on: part of a header, an incomplete control frame or, when paused, all input.
        self._buffer = bytearray()
        self._position = 0
        self._reading = False

        # The incomplete message; its opcode is 0 between messages.
        self._opcode = 0
        self._compressed = False
        self._fragments = 0
        self._wire_bytes = 0
        self._message = bytearray()
        # The first bytes of an incomplete character of a text message.
        self._character = b""

        # The frame whose header has been read, and whether its payload is incomplete.
        self._in_frame = False
        self._first = 0
        self._left = 0
        self._mask = b""

    @property
    def announced_bytes(self) -> int:
        """The number of payload bytes still missing from the current frame."""
        held = len(self._buffer) - self._position
        return max(0, self._left - held) if self._in_frame else 0

    def receive_data(self, data: bytes) -> None:
        """Decode bytes and call the sink. Raises WebSocketProtocolError with the close code."""
        if self._between and len(data) > 7:
            # Fast path: one complete frame, whose length takes at most two bytes.
            length = data[1] - 0x80
            start = 6
            if length > 125:
                start = 8
                length = data[2] << 8 | data[3] if length == 126 else 0
                if length < 126:
                    # Eight bytes of length, or not the shortest form: make the comparison below fail.
                    length = -1
            if length + start == len(data) and length <= self._limit:
                first = data[0]
                if first == TEXT_FRAME:
                    try:
                        text = apply_mask(data[start:], data[start - 4 : start]).decode()
                    except UnicodeDecodeError:
                        self.stop()
                        raise WebSocketProtocolError(1007, _NOT_UTF8) from None
                    self._sink.on_text(text)
                    return
                if first == BINARY_FRAME:
                    self._sink.on_bytes(apply_mask(data[start:], data[start - 4 : start]))
                    return
        if self.state is _ENDED:
            return
        buffer = self._buffer
        if buffer or self.state is _PAUSED:
            del buffer[: self._position]
            self._position = 0
            buffer += data
        if self.state is _OPEN:
            self._read(buffer or data)

    def pause(self) -> None:
        """Buffer all input until `resume`. The caller must stop reading from the network."""
        if self.state is _OPEN:
            self.state = _PAUSED
            self._between = False

    def resume(self) -> None:
        if self.state is _PAUSED:
            self.state = _OPEN
            # If the sink calls this, `_read` continues by itself.
            if not self._reading:
                self._read(self._buffer)

    def stop(self) -> None:
        """Ignore all further input, and release the sink."""
        self.state = _ENDED
        self._between = False
        self._sink = None  # type: ignore[assignment]  # Never called in this state.
        self._buffer = bytearray()
        self._position = 0
        self._message = bytearray()

    def _read(self, data: bytes | bytearray) -> None:
        self._between = False
        self._reading = True
        try:
            position = self._read_frames(data, self._position)
        except BaseException:
            self.stop()
            raise
        finally:
            self._reading = False
        if self.state is _ENDED:
            return
        if position == len(data):
            if self._buffer:
                self._buffer = bytearray()
            self._position = 0
            self._between = self.state is _OPEN and not self._opcode
        elif data is not self._buffer:
            self._buffer += data[position:]
        elif self.state is _OPEN:
            # Part of a header or control frame is left: copy it, to free the rest of the buffer.
            self._buffer = self._buffer[position:]
            self._position = 0
        else:
            self._position = position

    def _read_frames(self, data: bytes | bytearray, position: int) -> int:
        end = len(data)
        budget = _FRAMES_IN_A_ROW
        while self.state is _OPEN:
            if not budget:
                budget = _FRAMES_IN_A_ROW
                self._sink.on_busy()
                continue
            budget -= 1
            if not self._in_frame:
                start = self._read_header(data, position, end)
                if start < 0:
                    return position
                first = self._first
                stop = start + self._left
                if first & CONTROL:
                    if stop > end:
                        return position
                    position = stop
                    self._handle_control(first & 0x0F, _unmasked(data, start, stop, self._mask))
                    continue
                if stop <= end and not self._opcode and first & FIN and not first & RSV1:
                    position = stop
                    self._handle_whole(first, _unmasked(data, start, stop, self._mask))
                    continue
                if not self._opcode:
                    self._opcode = first & 0x0F
                    self._compressed = bool(first & RSV1)
                self._fragments += 1
                self._wire_bytes += self._left
                self._in_frame = True
                position = start
            stop = min(end, position + self._left)
            self._left -= stop - position
            self._in_frame = self._left > 0
            is_last = not self._in_frame and self._first >= FIN
            self._add(_unmasked(data, position, stop, self._mask), is_last)
            if self._in_frame:
                shift = (stop - position) & 3
                self._mask = self._mask[shift:] + self._mask[:shift]
                return stop
            position = stop
            if is_last:
                self._deliver()
        return position

    def _read_header(self, data: bytes | bytearray, position: int, end: int) -> int:
        # Returns the header's end, or -1 if more bytes must arrive.
        if position == end:
            return -1
        first = data[position]
        opcode = first & 0x0F
        if first & 0x70 and (first & RSV2_RSV3 or self._deflate is None or opcode not in (TEXT, BINARY)):
            raise WebSocketProtocolError(1002, "frame with a reserved bit set")
        if opcode > BINARY:
            if opcode not in _OPCODES:
                raise WebSocketProtocolError(1002, "frame with a reserved opcode")
            if first < FIN:
                raise WebSocketProtocolError(1002, "fragmented control frame")
        elif opcode:
            if self._opcode:
                raise WebSocketProtocolError(1002, "data frame inside an unfinished message")
        elif not self._opcode:
            raise WebSocketProtocolError(1002, "continuation frame outside a message")
        elif self._fragments >= self._max_fragments:
            raise WebSocketProtocolError(1009, f"message in more than {self._max_fragments} frames")

        if position + 2 > end:
            return -1
        length = data[position + 1] - 0x80
        if length < 0:
            raise WebSocketProtocolError(1002, "frame without a mask")
        start = position + 6
        if opcode > BINARY:
            if length > 125:
                raise WebSocketProtocolError(1002, "control frame over 125 bytes")
            if length == 1 and opcode == CLOSE:
                raise WebSocketProtocolError(1002, "close frame with one byte of payload")
        else:
            if length > 125:
                size = 2 if length == 126 else 8
                start += size
                if position + 2 + size > end:
                    return -1
                length = int.from_bytes(data[position + 2 : position + 2 + size])
                if length < (126 if size == 2 else 65536) or length >> 63:
                    raise WebSocketProtocolError(1002, "frame length not in its shortest form")
            longest = self._limit
            if first & RSV1 or (self._compressed and not opcode):
                # Incompressible data grows, by an eighth with the fixed codes of deflate.
                longest += (longest >> 3) + 64
            if self._wire_bytes + length > longest:
                # The client still sends the rest of this frame: see `announced_bytes`.
                self._in_frame = True
                self._left = max(0, start + length - end)
                raise self._too_long()
        if start > end:
            return -1
        self._first = first
        self._left = length
        self._mask = bytes(data[start - 4 : start])
        return start

    def _handle_control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self._sink.on_ping(payload)
        elif opcode == PONG:
            self._sink.on_pong(payload)
        else:
            code, reason = parse_close(payload)
            sink = self._sink
            self.stop()
            sink.on_close(code, reason)

    def _handle_whole(self, first: int, payload: bytes) -> None:
        if first == BINARY_FRAME:
            self._sink.on_bytes(payload)
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            raise WebSocketProtocolError(1007, _NOT_UTF8) from None
        self._sink.on_text(text)

    def _add(self, payload: bytes, is_last: bool) -> None:
        message = self._message
        is_text = self._opcode == TEXT
        if self._compressed:
            assert self._deflate is not None
            for piece in self._deflate.inflate(payload, is_last, self._limit - len(message)):
                room = self._limit - len(message)
                if is_text:
                    self._check_text(piece[:room])
                if len(piece) > room:
                    raise self._too_long()
                message += piece
        else:
            message += payload
            if is_text:
                self._check_text(payload)
        if is_last and self._character:
            raise self._not_text()

    def _check_text(self, piece: bytes) -> None:
        if self._character:
            piece = self._character + piece
        elif piece.isascii():
            return
        try:
            consumed = utf_8_decode(piece, "strict", False)[1]
        except UnicodeDecodeError:
            raise self._not_text() from None
        rest = piece[consumed:]
        # The decoder waits for the third byte before it reports a surrogate.
        if len(rest) > 1 and rest[0] == 0xED and rest[1] >= 0xA0:
            raise self._not_text()
        self._character = rest

    def _deliver(self) -> None:
        message, opcode = self._message, self._opcode
        self._message = bytearray()
        self._opcode = self._fragments = self._wire_bytes = 0
        if opcode == TEXT:
            # Decoded a second time: keeping the text of each piece would take up to 8 times the limit.
            text = message.decode()
            del message
            self._sink.on_text(text)
        else:
            data = bytes(message)
            del message
            self._sink.on_bytes(data)

    def _too_long(self) -> WebSocketProtocolError:
        return WebSocketProtocolError(1009, f"message over {self._limit} bytes")

    def _not_text(self) -> WebSocketProtocolError:
        return WebSocketProtocolError(1007, INVALID_COMPRESSED if self._compressed else _NOT_UTF8)


def _unmasked(data: bytes | bytearray, start: int, stop: int, mask: bytes) -> bytes:
    if stop - start >= _VIEW_BYTES and type(data) is bytes:
        return apply_mask(memoryview(data)[start:stop], mask)
    return apply_mask(data[start:stop], mask)
