"""Encodes a server's frames, and parses close frames (RFC 6455, sections 5.2 and 7.4)."""

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

# First bytes of the frames that we send.
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
    """Encodes the frames that are sent on one connection."""

    def __init__(self, deflate: PerMessageDeflate | None = None, cache: FrameCache | None = None) -> None:
        """Connections that may send the same messages share `cache`."""
        self._deflate = deflate
        self._cache = FrameCache() if cache is None else cache

    def encode_text(self, text: str) -> bytes:
        """Return a text message's frame. Send frames in the order of encoding. Raises LocalProtocolError."""
        cache = self._cache
        plain = self._deflate is None or type(text) is SharedText
        if text is cache.message and (plain or len(cache.frame) < MIN_COMPRESSED_BYTES):
            return cache.frame
        data = encode_utf8(text)
        length = len(data)
        if self._deflate is not None and length >= MIN_COMPRESSED_BYTES and not plain:
            return frame(TEXT_FRAME | RSV1, self._deflate.deflate(data))
        cache.frame = whole = SHORT_TEXT[length] + data if length < 126 else frame(TEXT_FRAME, data)
        cache.message = text
        return whole

    def encode_bytes(self, data: bytes) -> bytes:
        cache = self._cache
        kind = type(data)
        plain = self._deflate is None or kind is SharedBytes
        if data is cache.message and (plain or len(cache.frame) < MIN_COMPRESSED_BYTES):
            return cache.frame
        length = len(data)
        if self._deflate is not None and length >= MIN_COMPRESSED_BYTES and not plain:
            return frame(BINARY_FRAME | RSV1, self._deflate.deflate(data))
        cache.frame = whole = SHORT_BINARY[length] + data if length < 126 else frame(BINARY_FRAME, data)
        # A mutable object may change before the next call.
        cache.message = data if kind is bytes or kind is SharedBytes else None
        return whole

    def encode_ping(self, data: bytes) -> bytes:
        return control_frame(PING, data)

    def encode_pong(self, data: bytes) -> bytes:
        return control_frame(PONG, data)

    def encode_close(self, code: int, reason: str) -> bytes:
        """Return a close frame, which must be the last frame. Raises LocalProtocolError."""
        if code == NO_STATUS:
            return control_frame(CLOSE, b"")
        if not isinstance(code, int) or code not in CLOSE_CODES:
            raise LocalProtocolError(f"close code: expected 1000-1003, 1007-1014 or 3000-4999, got {code!r:.40}")
        data = encode_utf8(reason)
        if len(data) > 123:
            raise LocalProtocolError(f"close reason: expected at most 123 bytes of UTF-8, got {len(data)}")
        return control_frame(CLOSE, code.to_bytes(2) + data)


def encode_utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise LocalProtocolError(f"text: cannot be encoded as UTF-8: {error.reason}") from None


def frame(first: int, data: bytes) -> bytes:
    """`first` is the frame's first byte."""
    length = len(data)
    if length < 126:
        return bytes((first, length)) + data
    if length < 65536:
        return _medium_head(first, 126, length) + data
    return _long_head(first, 127, length) + data


def control_frame(opcode: int, data: bytes) -> bytes:
    """Return a ping, pong or close frame (section 5.5)."""
    if len(data) > 125:
        raise LocalProtocolError(f"control frame: expected at most 125 bytes, got {len(data)}")
    return bytes((FIN | opcode, len(data))) + data


def parse_close(payload: bytes) -> tuple[int, str]:
    """Return a close frame's code and reason. The caller rejects one-byte payloads."""
    if not payload:
        return NO_STATUS, ""
    try:
        reason = payload[2:].decode()
    except UnicodeDecodeError:
        raise WebSocketProtocolError(1007, "close reason is not valid UTF-8") from None
    code = int.from_bytes(payload[:2])
    if code not in CLOSE_CODES:
        raise WebSocketProtocolError(1002, "close frame with an invalid close code")
    return code, reason
