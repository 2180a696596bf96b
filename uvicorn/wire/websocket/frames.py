"""WebSocket frames and messages, the server's side: bytes in, calls out (RFC 6455, sections 5 to 7).

A fault is found at the byte that makes it one, in a frame that is still arriving too, and faults are found in the
order of the stream. So any way of cutting a stream into pieces gives the same calls and the same refusal. Nothing is
kept of a frame before its header has been held against the limits.
"""

from __future__ import annotations

from codecs import utf_8_decode
from typing import Final, final

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
from uvicorn.wire.websocket.sink import NOBODY, WebSocketSink

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

_OPCODES: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))

# Longer payloads are unmasked where they lie: from here on a view costs less than a copy.
_VIEW_BYTES: Final = 16384

# Frames that are read in a row. A short message costs 5 to 20 microseconds, and one read may bring 100,000 of them.
_FRAMES_IN_A_ROW: Final = 256

_NOT_UTF8: Final = "text is not valid UTF-8"

_OPEN: Final = 0
_PAUSED: Final = 1
_ENDED: Final = 2


@final
class WebSocketCodec(MessageEncoder):
    """The frames of one connection. Both halves are independent: what has been received never hinders encoding."""

    def __init__(
        self,
        sink: WebSocketSink,
        max_message_bytes: int,
        max_fragments: int,
        deflate: PerMessageDeflate | None = None,
        last: FrameCache | None = None,
    ) -> None:
        """`max_message_bytes` holds for a message as the application sees it, `max_fragments` for its frames.

        `last` is shared by connections that may be sent the same messages.
        """
        super().__init__(deflate, last)
        self._sink: WebSocketSink = sink
        self._limit = max_message_bytes
        self._max_fragments = max_fragments
        self._state = _OPEN
        # Whether what comes next is a frame that begins a message, and nothing is held: the usual case.
        self._between = True

        # What has been received and not been read: part of a header, a control frame that is not whole, or, when
        # paused, everything. Read up to `_position`.
        self._buffer = bytearray()
        self._position = 0
        self._reading = False

        # The message that is arriving; its opcode is 0 if there is none.
        self._opcode = 0
        self._compressed = False
        self._fragments = 0
        self._wire_bytes = 0
        self._message = bytearray()
        # A character of a text message that is not whole.
        self._character = b""

        # The frame whose header has been read, and whether its payload is still arriving.
        self._in_frame = False
        self._first = 0
        self._left = 0
        self._mask = b""

    @property
    def buffered_bytes(self) -> int:
        """How much is held of messages that have not been handed over."""
        return len(self._buffer) - self._position + len(self._message)

    @property
    def announced_bytes(self) -> int:
        """How much has yet to come of a frame that has begun; of the one that was refused, after a fault."""
        held = len(self._buffer) - self._position
        return max(0, self._left - held) if self._in_frame else 0

    def receive_data(self, data: bytes) -> None:
        """Take bytes off the wire; calls the sink.

        Raises WebSocketProtocolError for the first fault: close with its code. After it, as after `on_close`,
        everything is ignored.
        """
        if self._between and len(data) > 7:
            # A frame that has come whole and alone is read here, if its length takes no more than two bytes.
            length = data[1] - 0x80
            start = 6
            if length > 125:
                start = 8
                length = data[2] << 8 | data[3] if length == 126 else 0
                if length < 126:
                    # Eight bytes of length, or not the shortest form: not for here, and no piece is as long as this.
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
        if self._state == _ENDED:
            return
        buffer = self._buffer
        if buffer:
            if self._position:
                del buffer[: self._position]
                self._position = 0
            buffer += data
            if self._state == _OPEN:
                self._read(buffer)
        elif self._state == _OPEN:
            self._read(data)
        else:
            buffer += data

    def pause(self) -> None:
        """Hold what comes, and what has come and not been handed over; read no more from the network meanwhile."""
        if self._state == _OPEN:
            self._state = _PAUSED
            self._between = False

    def resume(self) -> None:
        """Go on with what is held; calls the sink and raises like `receive_data`."""
        if self._state == _PAUSED:
            self._state = _OPEN
            # Called by the sink, it only takes a pause back.
            if not self._reading:
                self._read(self._buffer)

    def stop(self) -> None:
        """Ignore whatever comes, and let go of the sink, which holds this codec in turn."""
        self._state = _ENDED
        self._between = False
        self._sink = NOBODY
        self._buffer = bytearray()
        self._position = 0
        self._message = bytearray()

    # Reading

    def _read(self, data: bytes | bytearray) -> None:
        """Read on in `data`, which is what has just come or the buffer itself; keep what cannot be read yet."""
        self._between = False
        self._reading = True
        try:
            position = self._read_frames(data, self._position)
        except BaseException:
            self.stop()
            raise
        finally:
            self._reading = False
        if self._state == _ENDED:
            return
        if position == len(data):
            if self._buffer:
                self._buffer = bytearray()
            self._position = 0
            self._between = self._state == _OPEN and not self._opcode
        elif data is not self._buffer:
            self._buffer += data[position:]
        elif self._state == _OPEN:
            # Part of a header is left, or of a control frame: not worth the memory of what was read with it.
            self._buffer = self._buffer[position:]
            self._position = 0
        else:
            self._position = position

    def _read_frames(self, data: bytes | bytearray, position: int) -> int:
        """Read frames, and parts of long ones, as long as there are and nobody objects; return the position reached."""
        end = len(data)
        budget = _FRAMES_IN_A_ROW
        while self._state == _OPEN:
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
                turn = (stop - position) & 3
                self._mask = self._mask[turn:] + self._mask[:turn]
                return stop
            position = stop
            if is_last:
                self._hand_over()
        return position

    def _read_header(self, data: bytes | bytearray, position: int, end: int) -> int:
        """Check the header of a frame as far as it has come; return where it ends, -1 if that has not come yet."""
        if position == end:
            return -1
        first = data[position]
        opcode = first & 0x0F
        if first & 0x70 and (first & RSV2_RSV3 or self._deflate is None or opcode not in (TEXT, BINARY)):
            raise WebSocketProtocolError(1002, "a reserved bit is set")
        if opcode > BINARY:
            if opcode not in _OPCODES:
                raise WebSocketProtocolError(1002, "reserved opcode")
            if first < FIN:
                raise WebSocketProtocolError(1002, "fragmented control frame")
        elif opcode:
            if self._opcode:
                raise WebSocketProtocolError(1002, "a message begins inside another")
        elif not self._opcode:
            raise WebSocketProtocolError(1002, "continuation of no message")
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
                raise WebSocketProtocolError(1002, "close frame with half a code")
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
                # What cannot be made shorter becomes longer: by an eighth with the fixed codes of deflate.
                longest += (longest >> 3) + 64
            if self._wire_bytes + length > longest:
                # The rest of it still comes.
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
        """A message in one frame that has come whole: nothing has to be put together."""
        if first == BINARY_FRAME:
            self._sink.on_bytes(payload)
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            raise WebSocketProtocolError(1007, _NOT_UTF8) from None
        self._sink.on_text(text)

    def _add(self, payload: bytes, is_last: bool) -> None:
        """Add a part to the message that is arriving."""
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
        """Raise as soon as the message cannot be UTF-8 any more, however it goes on."""
        if self._character:
            piece = self._character + piece
        elif piece.isascii():
            # Nothing to wait for, and no text to make only to drop it.
            return
        try:
            consumed = utf_8_decode(piece, "strict", False)[1]
        except UnicodeDecodeError:
            raise self._not_text() from None
        rest = piece[consumed:]
        # The decoder waits for the third byte before it tells that this is a surrogate.
        if len(rest) > 1 and rest[0] == 0xED and rest[1] >= 0xA0:
            raise self._not_text()
        self._character = rest

    def _hand_over(self) -> None:
        """The message is whole."""
        message = self._message
        opcode = self._opcode
        self._message = bytearray()
        self._opcode = 0
        self._fragments = 0
        self._wire_bytes = 0
        if opcode == TEXT:
            # It has been decoded before, piece by piece; keeping those would take up to 8 times the limit.
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
