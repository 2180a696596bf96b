"""HTTP/1.1 requests: bytes in, calls out (RFC 9112).

Heads are delimited here and given whole to httptools; content is read here. Each decision depends only on the
bytes of the stream so far, so any way of cutting a stream into pieces gives the same requests and refusals.

The checks that framing hangs on (line ends, field count, content-length, transfer-encoding) are made here as
well as in llhttp: two readers have to be wrong in the same way before a request can be smuggled.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import AddressValueError, IPv6Address
from types import SimpleNamespace
from typing import Any, Final, Protocol, final

import httptools

from uvicorn.errors import RemoteProtocolError
from uvicorn.fields import LOWER_NAMES, is_token, split_tokens
from uvicorn.settings import Limits
from uvicorn.wire.http1.chunked import ChunkedDecoder

# Methods that llhttp knows for HTTP, but CONNECT: we are no proxy. Others are answered with 501.
METHODS: Final[dict[bytes, str]] = {
    name.encode(): name
    for name in (
        "GET HEAD POST PUT DELETE OPTIONS PATCH TRACE ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY "
        "MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE QUERY REBIND REPORT SEARCH SUBSCRIBE UNBIND UNLINK "
        "UNLOCK UNSUBSCRIBE"
    ).split()
}

_REQUEST_LINE: Final = re.compile(rb"([A-Z-]+) (/[!\"$-~]*) HTTP/1\.([01])\r\n(.*)", re.DOTALL)
_ANY_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([^ \r\n]+) ([^ \r\n]+)\r\n")
_ABSOLUTE_FORM: Final = re.compile(rb"(?i:https?)://([^/?#@]+)(/[!\"$-~]*|\?[!\"$-~]*|)")
_HOST: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?")
_BARE_CR: Final = re.compile(rb"\r[^\n]")
_BARE_CR_OR_LF: Final = re.compile(rb"\r[^\n]|(?<!\r)\n")

_BARE_LINE_END: Final = "a line ends with LF or CR alone"

# Fields whose repetition is an attack or a mistake; picking one of two would be guessing.
_SINGULAR: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization", b"upgrade")
)

# A head up to this size is kept to be compared with the next: an idle connection is to stay small.
_MEMO_BYTES: Final = 1024

_NO_MATCH: Final = (b"", b"", b"", b"")

_HEAD: Final = 0
_LENGTH: Final = 1
_CHUNKED: Final = 2
_COMPLETE: Final = 3
_REFUSED: Final = 4
# Before a head, after the CR of an empty line, and after the whole of one.
_AFTER_CR: Final = 5
_AFTER_EMPTY_LINE: Final = 6


class RequestSink(Protocol):
    """What the parser calls; a call must not feed the parser again."""

    def on_request(self) -> None:
        """A head is complete: read it from the parser's attributes. Without content the request is whole with it."""

    def on_content(self, content: bytes) -> None:
        """Some content of the current request."""

    def on_message_complete(self) -> None:
        """The content of the current request is whole."""


class _Nobody:
    def on_request(self) -> None:
        """Never called."""

    def on_content(self, content: bytes) -> None:
        """Never called."""

    def on_message_complete(self) -> None:
        """Never called."""


_NOBODY: Final = _Nobody()


@final
class HTTP1RequestParser:
    """The requests of one connection, one at a time; until the next one the parser *is* the head.

    `target` is in origin-form, or `*`. `headers` is a fresh list for each request. `content_length` is -1 when
    the content is chunked.
    """

    def __init__(self, sink: RequestSink, limits: Limits) -> None:
        self.method = ""
        self.target = b""
        self.http_version = ""
        self.headers: list[list[bytes]] = []
        self.content_length = 0
        self.keep_alive = True
        self.expect_continue = False
        self.upgrade = b""
        #: Whether a proxy says something about the client, by X-Forwarded-For or X-Forwarded-Proto.
        self.forwarded = False
        #: Whether part of a head, or a whole pipelined request, is held here.
        self.buffer = bytearray()
        self._sink = sink
        self._limits = limits
        self._state = _HEAD
        # llhttp puts the fields in here without a call of ours in between. What it cannot hold, a name that comes
        # twice, is read again; the count tells.
        self._seen: dict[bytes, bytes] = {}
        self._good_host: bytes | None = None
        self._left = 0
        self._chunked: ChunkedDecoder | None = None
        # Where the request line of a head that is still arriving ends; 0 until it has been checked.
        self._line_end = 0
        self._llhttp: Any = None
        # Clients send the same fields with each request of a connection, more often than not, and some the same head.
        # Kept are those of the last request if that had no content, so that what it has set is what its repetition
        # would set.
        self._last_head: bytes | None = None
        self._last_section = b""
        self._last_fields: list[tuple[bytes, bytes]] = []
        # A head no longer than this cannot exceed either limit, so its parts need not be measured.
        self._small = min(limits.max_request_line_bytes, limits.max_header_bytes)

    @property
    def content_left(self) -> int:
        """Bytes of content still to come; -1 if not known, because it is chunked."""
        return self._left if self._state != _CHUNKED else -1

    def receive_data(self, data: bytes) -> None:
        """Take bytes off the wire; calls the sink.

        Stops after the end of a message and holds the rest until `next_message`. Raises RemoteProtocolError, after
        which everything is ignored: nothing that follows a refused request is ever read as one.
        """
        if data == self._last_head and self._state == _HEAD and not self.buffer:
            self.headers = [[name, value] for name, value in self._last_fields]
            self._state = _COMPLETE
            self._sink.on_request()
            return
        try:
            if self._state != _HEAD:
                self._receive_content(data)
            elif self.buffer or not data or data[0] <= 13 or (end := data.find(b"\r\n\r\n") + 4) < 4:
                self._receive_part_of_head(data)
            elif end == len(data):
                self._parse_head(data, b"")
            else:
                self._parse_head(data[:end], data[end:])
        except RemoteProtocolError:
            self._state = _REFUSED
            self.buffer.clear()
            raise

    def next_message(self) -> None:
        """Go on to the next request, when the current one is whole and has been answered."""
        if self._state == _REFUSED:
            return
        self._state = _HEAD
        if self.buffer:
            data = bytes(self.buffer)
            self.buffer.clear()
            self.receive_data(data)

    def detach(self) -> None:
        """Let go of the sink, which holds this parser in turn: nothing more will come."""
        self.stop()
        self._sink = _NOBODY

    def stop(self) -> None:
        """Ignore whatever comes: the connection is about to be closed."""
        self._state = _REFUSED
        self.buffer.clear()

    # Head

    def _receive_part_of_head(self, data: bytes) -> None:
        buffer = self.buffer
        if self._state == _AFTER_CR:
            self._state = _HEAD
            data = b"\r" + data
        searched = max(0, len(buffer) - 3)
        buffer += data
        if buffer[:1] == b"\r":
            # One empty line before a request is a known mistake of old clients (RFC 9112, section 2.2).
            if len(buffer) == 1 and self._state == _HEAD:
                # A state rather than a byte in the buffer: no part of a request has arrived yet.
                self._state = _AFTER_CR
                buffer.clear()
                return
            if self._state == _AFTER_EMPTY_LINE or buffer[1] != 10:
                raise RemoteProtocolError("a request must begin with its method")
            self._state = _AFTER_EMPTY_LINE
            del buffer[:2]
            searched = 0
        if not buffer:
            return
        end = buffer.find(b"\r\n\r\n", searched) + 4
        if end > 3:
            head, rest = bytes(buffer[:end]), bytes(buffer[end:])
            buffer.clear()
            self._line_end = 0
            self._parse_head(head, rest)
        else:
            self._check_unfinished_head(buffer, searched)

    def _check_unfinished_head(self, head: bytes | bytearray, searched: int = 0) -> None:
        """Refuse what is too long or bound to be refused, as soon as that is certain."""
        line_end = self._line_end
        if not line_end:
            _check_first_byte(head)
            longest_line = self._limits.max_request_line_bytes
            line_end = head.find(b"\n", searched, longest_line + 2) + 1
            if not line_end:
                if _BARE_CR.search(head, searched, longest_line + 2):
                    raise RemoteProtocolError("malformed request line")
                if len(head) >= longest_line + 2:
                    raise RemoteProtocolError(f"request line over {longest_line} bytes", 414)
                return
            self._parse_request_line(bytes(head[:line_end]))
            self._line_end = line_end
        longest = line_end + self._limits.max_header_bytes + 2
        if _BARE_CR_OR_LF.search(head, max(line_end - 1, searched), longest):
            raise RemoteProtocolError(_BARE_LINE_END)
        if len(head) > longest:
            raise RemoteProtocolError(f"header section over {self._limits.max_header_bytes} bytes", 431)

    def _parse_head(self, head: bytes, rest: bytes) -> None:
        if len(head) > self._small:
            self._check_unfinished_head(head)
            self._line_end = 0
        # Set again below, if what this head sets is what its repetition would.
        self._last_head = None
        match = _REQUEST_LINE.fullmatch(head)
        authority = b""
        method, target, minor, section = match.groups() if match is not None else _NO_MATCH
        if method in METHODS:
            self.method = METHODS[method]
            self.target = target
            if minor == b"1":
                self.http_version = "1.1"
                if section == self._last_section:
                    # Byte for byte the last one: all but the request line is as it was.
                    self.headers = [[name, value] for name, value in self._last_fields]
                    self._last_head = head if len(head) <= _MEMO_BYTES else None
                    self._state = _COMPLETE
                    if rest:
                        self.buffer += rest
                    self._sink.on_request()
                    return
            else:
                self.http_version = "1.0"
                section = b""
        else:
            authority = self._parse_request_line(head[: head.find(b"\n") + 1])

        lines = head.count(b"\r\n")
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise RemoteProtocolError(_BARE_LINE_END)
        seen = self._seen
        seen.clear()
        llhttp = self._llhttp
        if llhttp is None:
            llhttp = self._llhttp = httptools.HttpRequestParser(SimpleNamespace(on_header=seen.setdefault))
        try:
            llhttp.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._llhttp = None
        except httptools.HttpParserError as error:
            raise RemoteProtocolError(f"malformed head: {error}") from None
        try:
            fields = {LOWER_NAMES[name]: value for name, value in seen.items()}
        except KeyError:
            fields = {LOWER_NAMES[name] if name in LOWER_NAMES else name.lower(): value for name, value in seen.items()}
        # The request line and the empty line make two.
        if len(fields) == lines - 2:
            if head.find(b" \r\n") > 0 or head.find(b"\t\r\n") > 0:
                fields = {name: value.rstrip(b" \t") for name, value in fields.items()}
            if len(fields) > self._limits.max_header_fields:
                raise RemoteProtocolError(f"more than {self._limits.max_header_fields} header fields", 431)
            self.headers = [[name, value] for name, value in fields.items()]
        else:
            section = b""
            fields = self._parse_repeated_fields(head, lines - 2)
        self._last_section = b""
        self._apply_fields(fields, authority)
        if not self.keep_alive:
            # llhttp will not read on after it.
            self._llhttp = None
        if self.content_length == 0:
            if section and len(head) <= _MEMO_BYTES:
                self._last_head = head
                self._last_section = section
                self._last_fields = list(fields.items())
            self._state = _COMPLETE
            if rest:
                self.buffer += rest
            self._sink.on_request()
            return

        self._sink.on_request()
        # llhttp now waits for the content, which it will not get.
        self._llhttp = None
        if self.content_length > 0:
            self._state = _LENGTH
            self._left = self.content_length
        else:
            self._state = _CHUNKED
            line_end = head.find(b"\n") + 1
            self._chunked = ChunkedDecoder(
                self._limits, len(head) - line_end - 2, len(self.headers), self._sink.on_content
            )
        if rest:
            self._receive_content(rest)

    def _parse_repeated_fields(self, head: bytes, count: int) -> dict[bytes, bytes]:
        """Read a head again that has a field name more than once; return the values by name, lists joined."""
        if count > self._limits.max_header_fields:
            raise RemoteProtocolError(f"more than {self._limits.max_header_fields} header fields", 431)
        pairs: list[tuple[bytes, bytes]] = []
        llhttp = httptools.HttpRequestParser(SimpleNamespace(on_header=lambda *pair: pairs.append(pair)))
        # The head has passed once; an upgrade is told again.
        with suppress(httptools.HttpParserUpgrade):
            llhttp.feed_data(head)
        # A folded line, for one, would upset the count.
        if len(pairs) != count:
            raise RemoteProtocolError("malformed header section")
        self.headers = [[LOWER_NAMES.get(name) or name.lower(), value.rstrip(b" \t")] for name, value in pairs]
        values: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            values.setdefault(name, []).append(value)
        if any(len(values.get(name, ())) > 1 for name in _SINGULAR):
            raise RemoteProtocolError("a header field that must stand once is repeated")
        return {name: b",".join(of_name) for name, of_name in values.items()}

    def _parse_request_line(self, line: bytes) -> bytes:
        """Read a request line that is not of the usual form; return the authority of an absolute-form target."""
        _check_first_byte(line)
        match = _ANY_REQUEST_LINE.fullmatch(line)
        if match is None:
            raise RemoteProtocolError("malformed request line")
        method, target, version = match.groups()
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            if version.startswith(b"HTTP/"):
                raise RemoteProtocolError("HTTP version other than 1.0 and 1.1", 505)
            raise RemoteProtocolError("malformed request line")
        if method not in METHODS:
            raise RemoteProtocolError("method not implemented", 501)
        authority = b""
        if target[0] != 47 and not (target == b"*" and method == b"OPTIONS"):
            absolute = _ABSOLUTE_FORM.fullmatch(target)
            if absolute is None:
                raise RemoteProtocolError("request target is neither a path nor an http URL")
            authority, target = absolute.groups()
            if target[:1] != b"/":
                target = b"*" if not target and method == b"OPTIONS" else b"/" + target
        elif _REQUEST_LINE.fullmatch(b"GET " + target + b" HTTP/1.1\r\n") is None and target != b"*":
            raise RemoteProtocolError("request target has a fragment or a byte that must be percent-encoded")
        self.method = METHODS[method]
        self.target = target
        self.http_version = "1.1" if version == b"HTTP/1.1" else "1.0"
        return authority

    def _apply_fields(self, fields: dict[bytes, bytes], authority: bytes) -> None:
        """Check the fields that decide framing, connection and host, and set the attributes that follow from them."""
        modern = self.http_version == "1.1"
        self.forwarded = b"x-forwarded-for" in fields or b"x-forwarded-proto" in fields
        host = fields.get(b"host")
        if host is None:
            if modern:
                raise RemoteProtocolError("HTTP/1.1 request without a host field")
        elif host != self._good_host:
            if not _is_host(host):
                raise RemoteProtocolError("malformed host field")
            self._good_host = host
        if authority:
            if not _is_host(authority):
                raise RemoteProtocolError("malformed authority in the request target")
            # It replaces Host (RFC 9112, section 3.2.2), for the application too.
            self.headers[:] = [field for field in self.headers if field[0] != b"host"]
            self.headers.insert(0, [b"host", authority])

        self.content_length = 0
        self.keep_alive = modern
        self.expect_continue = False
        self.upgrade = b""
        if len(fields) == 1 and host is not None:
            return

        length = fields.get(b"content-length")
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if length is not None:
                # Picking one is how smuggling starts (RFC 9112, section 6.3).
                raise RemoteProtocolError("both transfer-encoding and content-length")
            if not modern:
                raise RemoteProtocolError("transfer-encoding in HTTP/1.0")
            if coding.lower() != b"chunked":
                raise RemoteProtocolError("transfer-encoding other than chunked", 501)
            self.content_length = -1
        elif length is not None:
            # 18 digits stay below 2**63; bytes.isdigit knows ASCII digits only.
            if not length.isdigit() or len(length) > 18:
                raise RemoteProtocolError("malformed content-length")
            self.content_length = int(length)
            if 0 < self._limits.max_content_bytes < self.content_length:
                raise RemoteProtocolError(f"content over {self._limits.max_content_bytes} bytes", 413)
        connection = fields.get(b"connection")
        if connection is not None and (connection != b"keep-alive" or not modern):
            options = split_tokens(connection)
            self.keep_alive = b"close" not in options and (modern or b"keep-alive" in options)
            if modern and b"upgrade" in options:
                offered = split_tokens(fields.get(b"upgrade", b""))
                if b"websocket" in offered:
                    if self.content_length:
                        raise RemoteProtocolError("content in a request to upgrade to websocket")
                    self.upgrade = b"websocket"
                    # Even if nobody makes the upgrade: what follows the request is not HTTP.
                    self.keep_alive = False
                else:
                    self.upgrade = b",".join(offered)
        expect = fields.get(b"expect")
        if expect is not None and modern:
            if expect.lower() != b"100-continue":
                raise RemoteProtocolError("expectation other than 100-continue", 417)
            self.expect_continue = self.content_length != 0

    # Content

    def _receive_content(self, data: bytes) -> None:
        if self._state == _LENGTH:
            if len(data) < self._left:
                self._left -= len(data)
                self._sink.on_content(data)
                return
            rest = data[self._left :]
            data = data[: self._left]
            self._left = 0
        elif self._state == _CHUNKED:
            assert self._chunked is not None
            self._chunked.decode(data)
            if not self._chunked.complete:
                return
            data = b""
            rest = self._chunked.rest
            self._chunked = None
        elif self._state == _COMPLETE:
            self.buffer += data
            return
        elif self._state != _REFUSED:
            self._receive_part_of_head(data)
            return
        else:
            return
        self._state = _COMPLETE
        self.buffer += rest
        if data:
            self._sink.on_content(data)
        self._sink.on_message_complete()


def _check_first_byte(head: bytes | bytearray) -> None:
    if not is_token(bytes(head[:1])):
        raise RemoteProtocolError("a request must begin with its method")


def _is_host(value: bytes) -> bool:
    """Whether `value` is a host, with or without a port (RFC 9110, section 7.2)."""
    match = _HOST.fullmatch(value)
    if match is None or match[1] is None:
        return match is not None
    try:
        IPv6Address(match[1].decode())
    except AddressValueError:
        return False
    return True
