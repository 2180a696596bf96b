"""Encodes HTTP/1.1 responses (RFC 9112)."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Final, final

from uvicorn.errors import LocalProtocolError
from uvicorn.fields import (
    HOP_BY_HOP,
    LOWER_NAMES,
    encode_field_line,
    has_controls,
    is_forbidden_trailer,
    lower_name,
    split_tokens,
)
from uvicorn.types import Headers
from uvicorn.wire.http1.default_fields import DefaultFields

PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

#: Status code to status line. Sites use codes above 599 (999 for scrapers), though RFC 9110, section 15, forbids them.
STATUS_LINES: Final[dict[int, bytes]] = {
    status: f"HTTP/1.1 {status} {PHRASES.get(status, '')}\r\n".encode() for status in range(200, 1000)
}

_REASONS: Final = {status: phrase.encode() for status, phrase in PHRASES.items()}

# The last lines of a head, for short content: formatting an int costs more than the rest of the line.
_LENGTH_LINES: Final = [b"content-length: %d\r\n\r\n" % length for length in range(2048)]

# Cache of checked field lines, by name and value as the application gave them.
_FIELD_LINES: Final[dict[tuple[bytes, bytes], bytes]] = {}
_LINES: Final = 256
_LINE_BYTES: Final = 128

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# Hop-by-hop fields that are dropped with a warning. `connection` is read for its option `close`; `trailer` is sent, and
# `upgrade` in a 426 response.
_DROPPED: Final = HOP_BY_HOP - {b"connection", b"trailer"}

# Fields that the encoder drops, reads or replaces; all others are sent unchanged.
_SPECIAL: Final = _DROPPED | {b"content-length", b"connection", b"server", b"date"}

# How the end of the content is marked (RFC 9112, section 6); fixed by start().
_NO_CONTENT, _LENGTH, _CHUNKED, _UNTIL_CLOSE = range(4)


class ContentTooLong(LocalProtocolError):
    """The application sent more content than content-length allows. `allowed` contains the bytes that fit."""

    def __init__(self, message: str, allowed: bytes) -> None:
        super().__init__(message)
        self.allowed = allowed


@final
class HTTP1ResponseEncoder:
    """Encodes the responses of one connection, one after another."""

    def __init__(self, defaults: DefaultFields) -> None:
        #: After `start`: whether another response may follow on the connection.
        self.keep_alive = True
        #: After `start`: the names of the application's fields that are not sent.
        self.dropped: tuple[bytes, ...] = ()
        #: The number of content bytes that `start` has returned.
        self.started_with = 0
        self._defaults = defaults
        self._framing = _NO_CONTENT
        self._length = 0
        self._left = 0
        self._declared = -1

    def start(
        self,
        method: str,
        http_version: str,
        keep_alive: bool,
        status: int,
        reason: bytes,
        headers: Headers,
        content: bytes,
        more_content: bool,
    ) -> list[bytes]:
        """Begin a response. Return the head and the first content in pieces.

        After LocalProtocolError, `start` may be called again.
        """
        try:
            status_line = STATUS_LINES[status]
        except (KeyError, TypeError):
            raise LocalProtocolError(f"status: expected an int from 200 to 999, got {status!r:.40}") from None
        # Most applications that give a reason phrase give the registered one.
        if reason and reason != _REASONS.get(status):
            if not isinstance(reason, bytes) or has_controls(reason):
                raise LocalProtocolError(
                    f"reason phrase: expected bytes without control characters, got {reason!r:.100}"
                )
            status_line = b"HTTP/1.1 %d %b\r\n" % (status, reason)
        pieces = [status_line, self._defaults.block]
        self.keep_alive = keep_alive
        self.dropped = ()
        self._declared = -1
        try:
            for name, value in headers:
                line = _FIELD_LINES.get((name, value))
                if line is None:
                    if name == b"content-length" and self._declared < 0:
                        # Without `_field_line`, because most applications send the field: 0.15 us.
                        self._declared = _declared_length(value)
                        continue
                    line = self._field_line(name, value, pieces)
                pieces.append(line)
        except (TypeError, ValueError):
            raise LocalProtocolError(f"headers: expected [name, value] pairs of bytes, got {headers!r:.200}") from None

        declared = self._declared
        length = self.started_with = len(content)
        if status == 204 or status == 304 or method == "HEAD":
            self._framing = _NO_CONTENT
            self.started_with = 0
            if method != "HEAD" and content:
                self.dropped += (b"content of a %d response" % status,)
            elif declared < 0 and content and not more_content and method == "HEAD" and status == 200:
                declared = length
            if declared >= 0 and status != 204:
                pieces.append(b"content-length: %d\r\n" % declared)
        elif declared >= 0 or not more_content:
            if declared < 0:
                declared = length
            elif not more_content and length != declared:
                stopped = " and stopped" if length < declared else ""
                raise LocalProtocolError(f"content-length is {declared} but the app sent {length} bytes{stopped}")
            if declared < 2048 and not more_content and http_version == "1.1" and self.keep_alive:
                # Most responses take this path: they are complete and leave no state behind.
                pieces.append(_LENGTH_LINES[declared])
                pieces.append(content)
                return pieces
            self._framing = _LENGTH
            self._length = self._left = declared
            pieces.append(b"content-length: %d\r\n" % declared)
        elif http_version == "1.1":
            self._framing = _CHUNKED
            pieces.append(b"transfer-encoding: chunked\r\n")
        else:
            self._framing = _UNTIL_CLOSE
            self.keep_alive = False

        if not self.keep_alive:
            pieces.append(b"connection: close\r\n")
        elif http_version == "1.0":
            pieces.append(b"connection: keep-alive\r\n")
        pieces.append(b"\r\n")
        if content:
            pieces.append(self.content(content, more_content))
        return pieces

    @property
    def is_open_ended(self) -> bool:
        """Whether content of any length may follow."""
        return self._framing in (_CHUNKED, _UNTIL_CLOSE)

    def content(self, content: bytes, more_content: bool) -> bytes:
        """Frame a piece of content. Raises ContentTooLong, or LocalProtocolError for content that is too short."""
        framing = self._framing
        if framing == _LENGTH:
            left = self._left - len(content)
            if left < 0:
                allowed, self._left = content[: self._left], 0
                raise ContentTooLong(f"content-length is {self._length} but the app sent more", allowed)
            if left and not more_content:
                sent = self._length - left
                raise LocalProtocolError(f"content-length is {self._length} but the app sent {sent} bytes and stopped")
            self._left = left
            return content
        if framing == _CHUNKED:
            if more_content:
                return b"%x\r\n%b\r\n" % (len(content), content) if content else b""
            return b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n"
        return content if framing == _UNTIL_CLOSE else b""

    def framing_around(self, count: int) -> tuple[bytes, bytes] | None:
        """Return the framing before and after `count` file bytes, or None without content."""
        # After the file, the caller calls `content` or `trailers`.
        if self._framing == _NO_CONTENT:
            return None
        if self._framing == _CHUNKED:
            return (b"%x\r\n" % count, b"\r\n") if count else (b"", b"")
        if self._framing == _LENGTH:
            if count > self._left:
                raise LocalProtocolError(f"content-length is {self._length} but the app sent more")
            self._left -= count
        return b"", b""

    def trailers(self, headers: Headers) -> bytes:
        """Return the content's end. `headers` are sent only after chunked content. Raises LocalProtocolError."""
        if self._framing != _CHUNKED:
            return self.content(b"", more_content=False)
        lines = []
        try:
            for name, value in headers:
                lower = LOWER_NAMES[name] if name in LOWER_NAMES else lower_name(name)
                if is_forbidden_trailer(lower):
                    raise LocalProtocolError(f"trailer {lower!r}: this field is forbidden in trailers")
                lines.append(encode_field_line(lower, value))
        except (TypeError, ValueError):
            raise LocalProtocolError(f"trailers: expected [name, value] pairs of bytes, got {headers!r:.200}") from None
        return b"0\r\n%b\r\n" % b"".join(lines)

    def _field_line(self, name: bytes, value: bytes, pieces: list[bytes]) -> bytes:
        lower = LOWER_NAMES[name] if name in LOWER_NAMES else lower_name(name)
        if lower in _SPECIAL:
            if lower == b"content-length":
                if self._declared >= 0:
                    raise LocalProtocolError("header content-length: expected one field, got two")
                self._declared = _declared_length(value)
                return b""
            if lower == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in split_tokens(value)
                return b""
            if lower == b"upgrade" and pieces[0].startswith(b"HTTP/1.1 426 "):
                # RFC 9110, section 15.5.22: the response must have this field; section 7.8: with its option.
                return encode_field_line(lower, value) + b"connection: upgrade\r\n"
            if lower in _DROPPED:
                self.dropped += (lower,)
                return b""
            pieces[1] = self._defaults.without(lower, pieces[1])
        line = encode_field_line(lower, value)
        if lower not in _SPECIAL and len(line) <= _LINE_BYTES:
            if len(_FIELD_LINES) >= _LINES:
                _FIELD_LINES.clear()
            _FIELD_LINES[name, value] = line
        return line


def encode_default_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return lines for `DefaultFields`. Raises LocalProtocolError for an invalid field."""
    lines = []
    for name, value in fields:
        lower = lower_name(name)
        if lower in _SPECIAL and lower != b"server":
            raise LocalProtocolError(f"default header {lower!r}: this field is not configurable")
        lines.append(encode_field_line(lower, value))
    return b"".join(lines)


def _declared_length(value: object) -> int:
    if not isinstance(value, bytes) or not value.isdigit() or len(value) > 18:
        raise LocalProtocolError(f"content-length: expected digits as bytes, got {value!r:.40}")
    return int(value)
