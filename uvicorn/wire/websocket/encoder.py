"""Frames that a server sends, and what close frames may say (RFC 6455, sections 5.2 and 7.4).

Each message goes in one frame, and none of them is masked.
"""

from __future__ import annotations

import struct
from typing import Final

from uvicorn.errors import LocalProtocolError, WebSocketProtocolError
from uvicorn.fields import CLOSE_CODES
from uvicorn.types import SharedBytes, SharedText
from uvicorn.wire.websocket.deflate import MIN_COMPRESSED_BYTES, PerMessageDeflate
from uvicorn.wire.websocket.frame_cache import FrameCache

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

# Bits of the first byte of a frame (section 5.2).
FIN: Final = 0x80
RSV1: Final = 0x40
RSV2_RSV3: Final = 0x30
CONTROL: Final = 0x08

# First bytes of the frames that we send: each message in one.
TEXT_FRAME: Final = FIN | TEXT
BINARY_FRAME: Final = FIN | BINARY

#: Close code of an empty close frame.
NO_STATUS: Final = 1005

# Headers of short frames, by length.
SHORT_TEXT: Final = [bytes((TEXT_FRAME, length)) for length in range(126)]
SHORT_BINARY: Final = [bytes((BINARY_FRAME, length)) for length in range(126)]

_medium_head: Final = struct.Struct("!BBH").pack
_long_head: Final = struct.Struct("!BBQ").pack


class MessageEncoder:
    """The sending half of a connection: each message becomes a frame."""

    def __init__(self, deflate: PerMessageDeflate | None = None, last: FrameCache | None = None) -> None:
        """`last` is shared by connections that may be sent the same messages."""
        self._deflate = deflate
        self._last = FrameCache() if last is None else last

    def encode_text(self, text: str) -> bytes:
        """A text message as a frame. Frames must be sent in the order in which they are encoded.

        Raises LocalProtocolError for a lone surrogate, which UTF-8 has no bytes for.
        """
        last = self._last
        plain = self._deflate is None or type(text) is SharedText
        if text is last.message and (plain or len(last.frame) < MIN_COMPRESSED_BYTES):
            return last.frame
        data = encode_utf8(text)
        length = len(data)
        if self._deflate is not None and length >= MIN_COMPRESSED_BYTES and not plain:
            return frame(TEXT_FRAME | RSV1, self._deflate.deflate(data))
        last.frame = whole = SHORT_TEXT[length] + data if length < 126 else frame(TEXT_FRAME, data)
        last.message = text
        return whole

    def encode_bytes(self, data: bytes) -> bytes:
        """A binary message as a frame, like `encode_text`."""
        last = self._last
        kind = type(data)
        plain = self._deflate is None or kind is SharedBytes
        if data is last.message and (plain or len(last.frame) < MIN_COMPRESSED_BYTES):
            return last.frame
        length = len(data)
        if self._deflate is not None and length >= MIN_COMPRESSED_BYTES and not plain:
            return frame(BINARY_FRAME | RSV1, self._deflate.deflate(data))
        last.frame = whole = SHORT_BINARY[length] + data if length < 126 else frame(BINARY_FRAME, data)
        # What can change is another message the next time.
        last.message = data if kind is bytes or kind is SharedBytes else None
        return whole

    def encode_ping(self, data: bytes) -> bytes:
        """A ping; LocalProtocolError for more than 125 bytes of data."""
        return control_frame(PING, data)

    def encode_pong(self, data: bytes) -> bytes:
        """A pong; LocalProtocolError for more than 125 bytes of data."""
        return control_frame(PONG, data)

    def encode_close(self, code: int, reason: str) -> bytes:
        """A close frame; 1005 makes an empty one, which answers an empty one. Nothing may be sent after it.

        Raises LocalProtocolError for a code that must not be sent and for a reason over 123 bytes.
        """
        if code == NO_STATUS:
            return control_frame(CLOSE, b"")
        if not is_close_code(code):
            raise LocalProtocolError(
                f"close code: expected 1000 to 1003, 1007 to 1014 or 3000 to 4999, got {code!r:.40}"
            )
        data = encode_utf8(reason)
        if len(data) > 123:
            raise LocalProtocolError(f"close reason: expected at most 123 bytes of UTF-8, got {len(data)}")
        return control_frame(CLOSE, code.to_bytes(2) + data)


def frame_text(text: str) -> bytes:
    """A text message as a frame that any connection may be sent, whether it has agreed on compression or not.

    For a message to many clients: framed once, written to each. Raises LocalProtocolError for a lone surrogate.
    """
    data = encode_utf8(text)
    length = len(data)
    return SHORT_TEXT[length] + data if length < 126 else frame(TEXT_FRAME, data)


def frame_bytes(data: bytes) -> bytes:
    """A binary message as a frame that any connection may be sent, like `frame_text`."""
    length = len(data)
    return SHORT_BINARY[length] + data if length < 126 else frame(BINARY_FRAME, data)


def encode_utf8(text: str) -> bytes:
    """LocalProtocolError for a lone surrogate, which UTF-8 has no bytes for."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"text: expected text that UTF-8 can hold, got {error.reason}") from None


def frame(first: int, data: bytes) -> bytes:
    """A frame of any length; `first` is its first byte."""
    length = len(data)
    if length < 126:
        return bytes((first, length)) + data
    if length < 65536:
        return _medium_head(first, 126, length) + data
    return _long_head(first, 127, length) + data


def control_frame(opcode: int, data: bytes) -> bytes:
    """A ping, pong or close; LocalProtocolError for more than 125 bytes of data (section 5.5)."""
    if len(data) > 125:
        raise LocalProtocolError(f"control frame: expected at most 125 bytes, got {len(data)}")
    return bytes((FIN | opcode, len(data))) + data


def is_close_code(code: object) -> bool:
    """Return whether a close frame may contain `code`."""
    return isinstance(code, int) and code in CLOSE_CODES


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason of a close frame (section 5.5.1); a payload of one byte has been refused."""
    if not payload:
        return NO_STATUS, ""
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError:
        raise WebSocketProtocolError(1007, "close reason is not valid UTF-8") from None
    code = int.from_bytes(payload[:2])
    if not is_close_code(code):
        raise WebSocketProtocolError(1002, "close code that must not be sent")
    return code, reason
