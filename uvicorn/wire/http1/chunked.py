"""Decodes the chunked transfer coding, with exact limits (RFC 9112, section 7.1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, final

from uvicorn.errors import RemoteProtocolError
from uvicorn.fields import TOKEN, is_forbidden_trailer
from uvicorn.settings import Limits

# Extensions as in section 7.1.1: `name`, `name=token` or `name="quoted string"`. A recipient must accept white space
# around ";" and "="; white space directly after the size, or at the end of the line, is malformed.
_QUOTED: Final = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
_EXTENSION: Final = rb"[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?" % (TOKEN, TOKEN, _QUOTED)
_CHUNK_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:%b)*)\r\n" % _EXTENSION)
_FIELD_LINE: Final = re.compile(rb"(%b):[\t -~\x80-\xff]*\r\n" % TOKEN)
_BARE_CR: Final = re.compile(rb"\r[^\n]")

# 16 hex digits hold 2**64 - 1, leading zeros included; more are rejected before int() is called.
_SIZE_DIGITS: Final = 16

_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


@final
class ChunkedDecoder:
    """Decodes one message's content. Call `decode` until `complete` is true."""

    # llhttp is not used: its callbacks carry no offsets, so limits on chunk lines and trailers would be inexact.

    def __init__(self, limits: Limits, field_bytes: int, field_count: int, on_content: Callable[[bytes], None]) -> None:
        """`field_bytes` and `field_count` of the header section count towards the trailers' limits."""
        self._on_content = on_content
        self.complete = False
        #: The bytes that follow the content, once `complete` is true.
        self.rest = b""
        self._limits = limits
        self._field_bytes = field_bytes
        self._field_count = field_count
        self._state = _SIZE
        self._left = 0
        self._received = 0
        self._extension_bytes = 0
        # An incomplete line, and the length at which it is rejected.
        self._line = bytearray()
        self._line_limit = 0

    def decode(self, data: bytes) -> None:
        """Decode bytes, and pass their content to `on_content`. Raises RemoteProtocolError."""
        line = self._line
        if line:
            # Parse the line again only if its end, a CR without LF, or its length can decide it.
            undecided = line[-1] != 13 and data.find(b"\n") < 0 and data.find(b"\r") < 0
            line += data
            if undecided and len(line) < self._line_limit:
                return
            data = bytes(line)
            line.clear()
        pieces: list[bytes] = []
        try:
            position = self._decode(data, pieces)
        finally:
            if pieces:
                self._on_content(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self.complete:
            self.rest = data[position:]
        else:
            line += data[position:]

    def _decode(self, data: bytes, pieces: list[bytes]) -> int:
        position = 0
        end = len(data)
        while position < end:
            if self._state == _DATA:
                piece = data[position : position + self._left]
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if self._left == 0:
                    self._state = _DATA_END
            elif self._state == _DATA_END:
                if data[position] != 13 or (position + 1 < end and data[position + 1] != 10):
                    raise RemoteProtocolError("chunk data is not followed by CRLF")
                if position + 1 == end:
                    self._line_limit = 2
                    return position
                position += 2
                self._state = _SIZE
            else:
                start = position
                position = self._chunk_line(data, start) if self._state == _SIZE else self._trailer_line(data, start)
                if position == start or self.complete:
                    return position
        return position

    def _chunk_line(self, data: bytes, position: int) -> int:
        limits = self._limits
        limit = _SIZE_DIGITS + limits.max_chunk_extension_bytes + 2
        line_end = data.find(b"\n", position, position + limit) + 1
        if not line_end:
            if _BARE_CR.search(data, position, position + limit):
                raise RemoteProtocolError("malformed chunk line")
            if len(data) - position >= limit:
                raise RemoteProtocolError(f"chunk line over {limit} bytes")
            self._line_limit = limit
            return position
        match = _CHUNK_LINE.fullmatch(data, position, line_end)
        if match is None:
            raise RemoteProtocolError("malformed chunk line")
        digits, extension = match.groups()
        if extension:
            self._extension_bytes += len(extension)
            if len(extension) > limits.max_chunk_extension_bytes:
                raise RemoteProtocolError(f"chunk extension over {limits.max_chunk_extension_bytes} bytes")
            if self._extension_bytes > limits.max_chunk_extensions_bytes:
                raise RemoteProtocolError(f"chunk extensions over {limits.max_chunk_extensions_bytes} bytes in total")
        self._left = int(digits, 16)
        self._received += self._left
        if limits.max_content_bytes and self._received > limits.max_content_bytes:
            raise RemoteProtocolError(f"request content over {limits.max_content_bytes} bytes", 413)
        self._state = _DATA if self._left else _TRAILER
        return line_end

    def _trailer_line(self, data: bytes, position: int) -> int:
        most = self._limits.max_header_bytes
        limit = most - self._field_bytes
        line_end = data.find(b"\n", position, position + limit + 2) + 1
        if _BARE_CR.search(data, position, line_end or position + limit + 2):
            raise RemoteProtocolError("malformed trailer field")
        if not line_end and len(data) - position < limit + 2:
            self._line_limit = limit + 2
            return position
        if line_end == position + 2 and data[position] == 13:
            self.complete = True
            return line_end
        self._field_bytes += line_end - position
        self._field_count += 1
        if not line_end or self._field_bytes > most:
            raise RemoteProtocolError(f"header and trailer sections together over {most} bytes", 431)
        if self._field_count > self._limits.max_header_fields:
            raise RemoteProtocolError(f"more than {self._limits.max_header_fields} header and trailer fields", 431)
        match = _FIELD_LINE.fullmatch(data, position, line_end)
        if match is None:
            raise RemoteProtocolError("malformed trailer field")
        if is_forbidden_trailer(match[1].lower()):
            raise RemoteProtocolError("trailer section with a field that is forbidden in trailers")
        return line_end
