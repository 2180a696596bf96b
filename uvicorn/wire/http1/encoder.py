"""HTTP/1.1 responses: what an application says, as bytes (RFC 9112)."""

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

#: Status code to reason phrase.
PHRASES: Final = {status.value: status.phrase for status in HTTPStatus}

#: Status lines with their CRLF. An unknown code gets an empty phrase, which section 4 allows. Codes above 599 are
#: invalid by RFC 9110, section 15, and pass: sites use them (999 for scrapers), and other servers send them.
STATUS_LINES: Final[dict[int, bytes]] = {
    status: f"HTTP/1.1 {status} {PHRASES.get(status, '')}\r\n".encode() for status in range(200, 1000)
}

_REASONS: Final = {status: phrase.encode() for status, phrase in PHRASES.items()}

# Ready lines for the lengths of most pages; formatting an int costs more than all the rest of the line.
_LENGTH_LINES: Final = [b"content-length: %d\r\n\r\n" % length for length in range(2048)]

# Lines of response fields that have been checked, by name and value as the application gave them: most applications
# send the same few with each response. Bounded in number and size, and begun anew when full.
_FIELD_LINES: Final[dict[tuple[bytes, bytes], bytes]] = {}
_LINES: Final = 256
_LINE_BYTES: Final = 128

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# Hop-by-hop fields that are dropped with a warning. Two are not: `connection` may say close, which is obeyed, and
# `trailer` announces trailers that are sent.
_DROPPED: Final = HOP_BY_HOP - {b"connection", b"trailer"}

# Fields of which at least one line is the server's to write.
_OF_THE_SERVER: Final = _DROPPED | {b"content-length", b"connection", b"server", b"date"}

# How the end of the content is told (RFC 9112, section 6); fixed by start().
_NO_CONTENT: Final = 0
_LENGTH: Final = 1
_CHUNKED: Final = 2
_UNTIL_CLOSE: Final = 3


class ContentTooLong(LocalProtocolError):
    """More content than content-length promised. `allowed` is the part that still fits."""

    def __init__(self, message: str, allowed: bytes) -> None:
        super().__init__(message)
        self.allowed = allowed


@final
class HTTP1ResponseEncoder:
    """The responses of one connection, one after another; `start` begins a new one.

    `keep_alive` tells after `start` whether another response may follow on the connection, and `dropped` the
    hop-by-hop fields of the application that were left out.
    """

    def __init__(self, defaults: DefaultFields) -> None:
        self.keep_alive = True
        self.dropped: tuple[bytes, ...] = ()
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
        """Begin a response and return its head and the content at hand, in pieces to be joined; a long one is the last.

        Framing is fixed here and cannot change later (RFC 9112, section 6): no content in answer to HEAD or with 204
        and 304; the given content-length; exact length when `more_content` is false; otherwise chunked, or until
        close on 1.0.

        Raises LocalProtocolError for a bad field, or when content contradicts content-length; then nothing may be
        written, and `start` may be called again for another response.
        """
        status_line = STATUS_LINES.get(status)
        if status_line is None:
            raise LocalProtocolError(f"status: expected an int from 200 to 999, got {status!r:.40}")
        # Most applications that give one give the usual one.
        if reason and reason != _REASONS.get(status):
            status_line = b"HTTP/1.1 %d %b\r\n" % (status, _checked_reason(reason))
        pieces = [status_line, self._defaults.block]
        self.keep_alive = keep_alive
        self.dropped = ()
        self._declared = -1
        try:
            for name, value in headers:
                line = _FIELD_LINES.get((name, value))
                if line is None:
                    line = self._field_line(name, value, pieces)
                pieces.append(line)
        except (TypeError, ValueError):
            raise LocalProtocolError(f"headers: expected [name, value] pairs of bytes, got {headers!r:.200}") from None

        declared = self._declared
        length = len(content)
        if status == 204 or status == 304 or method == "HEAD":
            self._framing = _NO_CONTENT
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
                # Most responses. They are over with this, and leave nothing to remember.
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
        """Whether the content may end at any time: no length was promised."""
        return self._framing in (_CHUNKED, _UNTIL_CLOSE)

    def content(self, content: bytes, more_content: bool) -> bytes:
        """Frame a piece of content; the last one when `more_content` is false.

        Raises ContentTooLong, or LocalProtocolError when the response would end short of its content-length.
        """
        framing = self._framing
        if framing == _LENGTH:
            left = self._left - len(content)
            if left < 0:
                allowed, self._left = content[: self._left], 0
                raise ContentTooLong(f"content-length is {self._length} but the app sent more", allowed)
            if left and not more_content:
                raise LocalProtocolError(
                    f"content-length is {self._length} but the app sent {self._length - left} bytes and stopped"
                )
            self._left = left
            return content
        if framing == _CHUNKED:
            if more_content:
                return b"%x\r\n%b\r\n" % (len(content), content) if content else b""
            return b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content) if content else b"0\r\n\r\n"
        return content if framing == _UNTIL_CLOSE else b""

    def beside(self, count: int) -> tuple[bytes, bytes] | None:
        """What stands before and behind `count` bytes of content that do not pass through here; None if none may.

        More content may follow, and the end must. Raises LocalProtocolError if this is more than content-length.
        """
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
        """End the content, with fields behind it if it is chunked: other framings have no room for them.

        Raises LocalProtocolError for a field that must not stand there, or when the response would end short.
        """
        if self._framing != _CHUNKED:
            return self.content(b"", more_content=False)
        lines = []
        try:
            for name, value in headers:
                lower = LOWER_NAMES[name] if name in LOWER_NAMES else lower_name(name)
                if is_forbidden_trailer(lower):
                    raise LocalProtocolError(f"trailer {lower!r}: this field cannot follow the content")
                lines.append(encode_field_line(lower, value))
        except (TypeError, ValueError):
            raise LocalProtocolError(f"trailers: expected [name, value] pairs of bytes, got {headers!r:.200}") from None
        return b"0\r\n%b\r\n" % b"".join(lines)

    def _field_line(self, name: bytes, value: bytes, pieces: list[bytes]) -> bytes:
        """The line of one field, checked; or nothing, if the field is the connection's and not the response's."""
        lower = LOWER_NAMES[name] if name in LOWER_NAMES else lower_name(name)
        if lower in _OF_THE_SERVER:
            if lower == b"content-length":
                if self._declared >= 0:
                    raise LocalProtocolError("content-length is given twice")
                self._declared = _declared_length(value)
                return b""
            if lower == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in split_tokens(value)
                return b""
            if lower in _DROPPED:
                self.dropped += (lower,)
                return b""
            pieces[1] = self._defaults.without(lower, pieces[1])
        line = encode_field_line(lower, value)
        if lower not in _OF_THE_SERVER and len(line) <= _LINE_BYTES:
            if len(_FIELD_LINES) >= _LINES:
                _FIELD_LINES.clear()
            _FIELD_LINES[name, value] = line
        return line


def encode_default_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Lines for `DefaultFields`. Raises LocalProtocolError for what cannot be a field, or is decided per response."""
    lines = []
    for name, value in fields:
        lower = lower_name(name)
        if lower in _OF_THE_SERVER and lower != b"server":
            raise LocalProtocolError(f"header {lower!r}: decided for each response, not for all of them")
        lines.append(encode_field_line(lower, value))
    return b"".join(lines)


def _declared_length(value: object) -> int:
    if not isinstance(value, bytes) or not value.isdigit() or len(value) > 18:
        raise LocalProtocolError(f"content-length: expected digits as bytes, got {value!r:.40}")
    return int(value)


def _checked_reason(reason: object) -> bytes:
    if not isinstance(reason, bytes) or has_controls(reason):
        raise LocalProtocolError(f"reason phrase: expected bytes without control characters, got {reason!r:.100}")
    return reason
