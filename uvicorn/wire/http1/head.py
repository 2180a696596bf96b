"""Parses a complete request head (RFC 9112, sections 2 to 5; RFC 9110, section 5).

A regular expression and llhttp both check heads, to prevent request smuggling.
"""

from __future__ import annotations

import re
from contextlib import suppress
from ipaddress import AddressValueError, IPv6Address
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import httptools

from uvicorn.errors import RemoteProtocolError
from uvicorn.fields import LOWER_NAMES, TOKEN, Fields, is_token, split_pairs, split_tokens
from uvicorn.settings import Limits

# The HTTP methods that llhttp knows, except CONNECT, which is for proxies. Requests with others get 501.
METHODS: Final[dict[bytes, str]] = {
    name.encode(): name
    for name in (
        "GET HEAD POST PUT DELETE OPTIONS PATCH TRACE ACL BIND CHECKOUT COPY LINK LOCK M-SEARCH MERGE MKACTIVITY "
        "MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE QUERY REBIND REPORT SEARCH SUBSCRIBE UNBIND UNLINK "
        "UNLOCK UNSUBSCRIBE"
    ).split()
}

_ORIGIN_FORM: Final = rb"/[!\"$-~]*+"

#: A head of the usual form: origin-form, values without tabs and trailing white space. 0.7 us for 350 bytes.
USUAL_HEAD: Final = re.compile(
    rb"([A-Z-]++) (%b) HTTP/1\.([01])\r\n(?:%b:[ -~\x80-\xff]*+(?<! )\r\n)++\r\n" % (_ORIGIN_FORM, TOKEN)
)

_REQUEST_LINE: Final = re.compile(rb"(%b) ([^ \r\n]+) ([^ \r\n]+)\r\n" % TOKEN)
_PATH: Final = re.compile(_ORIGIN_FORM)
_ABSOLUTE_FORM: Final = re.compile(rb"(?i:https?)://([^/?#@]+)(/[!\"$-~]*|\?[!\"$-~]*|)")
_HOST: Final = re.compile(rb"(?:\[([0-9A-Fa-f:.]+)\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)(?::[0-9]{0,5})?")

# A method is a token of up to 32 bytes.
_METHOD_BYTES: Final = 32

#: The error for a head, complete or not, with such a line end.
BARE_LINE_END: Final = "a line ends with LF or CR alone"

_PROXY_PROTOCOL: Final = "PROXY protocol, which is not supported: let the proxy send X-Forwarded-For instead"

#: The errors for bytes that are no request. Version 2 of the PROXY protocol begins with empty lines.
EMPTY_LINES: Final = f"two empty lines before a request, or the {_PROXY_PROTOCOL}"
NO_METHOD: Final = "a request must begin with its method"

# Fields whose repetition is an attack or a mistake; picking one of two would be guessing.
_SINGULAR: Final = frozenset(b"host content-length transfer-encoding content-type authorization upgrade".split())

# Fields that determine the client and the host of a request. _DECISIVE adds those for the framing and the connection.
_ROUTING: Final = (b"host", b"x-forwarded-for", b"x-forwarded-proto")
_OTHERS: Final = b"content-length transfer-encoding connection proxy-connection upgrade expect"
_DECISIVE: Final = frozenset((*_ROUTING, *_OTHERS.split()))


class _Shape(NamedTuple):
    #: In lower case.
    names: tuple[bytes, ...]
    #: Names of decisive fields, in lower case and as they were spelled.
    decisive: tuple[tuple[bytes, bytes], ...]
    #: How the fields of _ROUTING were spelled, b"" for an absent one; None without Host, or if others are decisive.
    routing: tuple[bytes, bytes, bytes] | None
    #: Whether two names differ in case only.
    has_repetition: bool


# Cache of shapes, by the names as spelled, of 4 MB at most. Without it, each head takes 0.9 us more.
_SHAPES: Final[dict[tuple[bytes, ...], _Shape]] = {}
_MOST_SHAPES: Final = 512
_SHAPE_BYTES: Final = 1024
# A name takes 50 bytes more than its text. Browsers send some 20 names, and proxies add a few.
_SHAPE_NAMES: Final = 64


class RequestHead:
    """The head of the current request."""

    def __init__(self, limits: Limits) -> None:
        self.method = ""
        #: In origin-form, or `*`.
        self.target = b""
        self.http_version = ""
        self.fields: Fields = (), ()
        #: The fields as pairs if the head repeats the last one, otherwise None.
        self.pairs: list[tuple[bytes, bytes]] | None = None
        #: -1 if the content is chunked.
        self.content_length = 0
        self.keep_alive = True
        self.expect_continue = False
        self.upgrade = b""
        #: The values of X-Forwarded-For and X-Forwarded-Proto; several fields are joined with commas.
        self.forwarded: tuple[bytes, bytes] | None = None
        self._limits = limits
        # llhttp's callback is `setdefault` of this dict: no Python call for each field. The count reveals repetitions.
        self._seen: dict[bytes, bytes] = {}
        self._llhttp: Any = None
        self._callbacks: SimpleNamespace | None = None
        self._good_host: bytes | None = None

    def _read_usual_head(self, match: re.Match[bytes], head: bytes) -> bool:
        # Returns whether the caller may cache the result.
        method, target, minor = match.groups()
        if method not in METHODS:
            self._read_head(head)
            return False  # pragma: no cover (rejected above)
        self.method = METHODS[method]
        self.target = target
        self.http_version = "1.1" if minor == b"1" else "1.0"
        # All lines except the request line and the empty line.
        count = head.count(b"\n") - 2
        seen = self._take_apart(head, count)
        spellings = tuple(seen)
        names, decisive, routing, has_repetition = _SHAPES.get(spellings) or _shape_of(spellings)
        if count != len(names) or has_repetition:
            self._apply_fields(self._read_repeated_fields(head, count), b"")
            return False
        self.fields = names, tuple(seen.values())
        if routing is not None and seen.get(routing[0]) == self._good_host and minor == b"1":
            # The result of `_apply_fields` for most requests, 0.4 us faster.
            self.content_length = 0
            self.keep_alive = True
            self.expect_continue = False
            self.upgrade = b""
            _, forwarded_for, proto = routing
            self.forwarded = (seen.get(forwarded_for, b""), seen.get(proto, b"")) if forwarded_for or proto else None
            return True
        self._apply_fields({name: seen[spelling] for name, spelling in decisive}, b"")
        return self.content_length == 0

    def _read_head(self, head: bytes) -> None:
        authority = self._read_request_line(head[: head.find(b"\n") + 1])
        lines = head.count(b"\r\n")
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise RemoteProtocolError(BARE_LINE_END)
        count = lines - 2
        seen = self._take_apart(head, count)
        fields = {LOWER_NAMES.get(name) or name.lower(): value.rstrip(b" \t") for name, value in seen.items()}
        if len(fields) == count:
            self.fields = tuple(fields), tuple(fields.values())
        else:
            fields = self._read_repeated_fields(head, count)
        self._apply_fields(fields, authority)

    def _forget(self) -> None:
        self.target = b""
        self.fields = (), ()
        self._seen.clear()

    def _take_apart(self, head: bytes, count: int) -> dict[bytes, bytes]:
        seen = self._seen
        seen.clear()
        llhttp = self._llhttp
        if llhttp is None:
            if self._callbacks is None:
                self._callbacks = SimpleNamespace(on_header=seen.setdefault)
            llhttp = self._llhttp = httptools.HttpRequestParser(self._callbacks)
        try:
            llhttp.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._llhttp = None
        except httptools.HttpParserError as error:
            raise RemoteProtocolError(f"malformed head: {error}") from None
        if count > self._limits.max_header_fields:
            raise RemoteProtocolError(f"more than {self._limits.max_header_fields} header fields", 431)
        return seen

    def _read_repeated_fields(self, head: bytes, count: int) -> dict[bytes, bytes]:
        pairs: list[tuple[bytes, bytes]] = []
        llhttp = httptools.HttpRequestParser(SimpleNamespace(on_header=lambda *pair: pairs.append(pair)))
        # llhttp has accepted this head before, so it can only report an upgrade again.
        with suppress(httptools.HttpParserUpgrade):
            llhttp.feed_data(head)
        # A folded line, for example, changes the count.
        if len(pairs) != count:
            raise RemoteProtocolError("malformed header section")
        self.fields = split_pairs((LOWER_NAMES.get(key) or key.lower(), value.rstrip(b" \t")) for key, value in pairs)
        values: dict[bytes, list[bytes]] = {}
        for name, value in zip(*self.fields, strict=True):
            values.setdefault(name, []).append(value)
        if any(len(values.get(name, ())) > 1 for name in _SINGULAR):
            raise RemoteProtocolError("repeated header field that may occur only once")
        return {name: b",".join(of_name) for name, of_name in values.items()}

    def _read_request_line(self, line: bytes) -> bytes:
        check_first_byte(line)
        match = _REQUEST_LINE.fullmatch(line)
        if match is None or len(match[1]) > _METHOD_BYTES:
            raise RemoteProtocolError(_PROXY_PROTOCOL if line.startswith(b"PROXY ") else "malformed request line")
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
        elif _PATH.fullmatch(target) is None and target != b"*":
            raise RemoteProtocolError("request target has a fragment or a byte that must be percent-encoded")
        self.method = METHODS[method]
        self.target = target
        self.http_version = "1.1" if version == b"HTTP/1.1" else "1.0"
        return authority

    def _apply_fields(self, fields: dict[bytes, bytes], authority: bytes) -> None:
        modern = self.http_version == "1.1"
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
            others = [field for field in zip(*self.fields, strict=True) if field[0] != b"host"]
            self.fields = split_pairs([(b"host", authority), *others])

        self.content_length = 0
        self.keep_alive = modern
        self.expect_continue = False
        self.upgrade = b""
        self.forwarded = None
        if len(fields) == 1 and host is not None:
            return

        if b"x-forwarded-for" in fields or b"x-forwarded-proto" in fields:
            self.forwarded = fields.get(b"x-forwarded-for", b""), fields.get(b"x-forwarded-proto", b"")
        length = fields.get(b"content-length")
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if length is not None:
                # Picking one is how smuggling starts (RFC 9112, section 6.3).
                raise RemoteProtocolError("request with both transfer-encoding and content-length")
            if not modern:
                raise RemoteProtocolError("HTTP/1.0 request with transfer-encoding")
            if coding.lower() != b"chunked":
                raise RemoteProtocolError("transfer-encoding other than chunked", 501)
            self.content_length = -1
        elif length is not None:
            # 18 digits stay below 2**63; bytes.isdigit knows ASCII digits only.
            if not length.isdigit() or len(length) > 18:
                raise RemoteProtocolError("malformed content-length")
            self.content_length = int(length)
            if 0 < self._limits.max_content_bytes < self.content_length:
                raise RemoteProtocolError(f"request content over {self._limits.max_content_bytes} bytes", 413)
        connection = fields.get(b"connection")
        if connection is not None and (connection != b"keep-alive" or not modern):
            options = split_tokens(connection)
            self.keep_alive = b"close" not in options and (modern or b"keep-alive" in options)
            if modern and b"upgrade" in options:
                offered = split_tokens(fields.get(b"upgrade", b""))
                if b"websocket" in offered:
                    if self.content_length:
                        raise RemoteProtocolError("websocket handshake: expected no content")
                    self.upgrade = b"websocket"
                    # Even if the upgrade is rejected: the next bytes are WebSocket frames.
                    self.keep_alive = False
                else:
                    self.upgrade = b",".join(offered)
        if b"proxy-connection" in fields:
            # llhttp treats it as Connection, and after `close` it would reject the next head.
            self._llhttp = None
        expect = fields.get(b"expect")
        if expect is not None and modern:
            if expect.lower() != b"100-continue":
                raise RemoteProtocolError("expect field other than 100-continue", 417)
            self.expect_continue = self.content_length != 0


def check_first_byte(head: bytes | bytearray) -> None:
    if not is_token(bytes(head[:1])):
        if head[:1] == b"\x16":
            # The first byte of a TLS handshake.
            raise RemoteProtocolError("TLS on a port for plain HTTP: use http:// in the client, or pass --ssl-certfile")
        raise RemoteProtocolError(EMPTY_LINES if head[:1] == b"\r" else NO_METHOD)


def _shape_of(spellings: tuple[bytes, ...]) -> _Shape:
    names = tuple(LOWER_NAMES.get(name) or name.lower() for name in spellings)
    decisive = tuple(pair for pair in zip(names, spellings, strict=True) if pair[0] in _DECISIVE)
    spelled = dict(decisive)
    routing = None
    if b"host" in spelled and spelled.keys() <= set(_ROUTING):
        host, forwarded_for, proto = (spelled.get(name, b"") for name in _ROUTING)
        routing = host, forwarded_for, proto
    shape = _Shape(names, decisive, routing, len(set(names)) < len(names))
    if len(names) <= _SHAPE_NAMES and sum(map(len, names)) <= _SHAPE_BYTES:
        if len(_SHAPES) >= _MOST_SHAPES:
            _SHAPES.clear()
        _SHAPES[spellings] = shape
    return shape


def _is_host(value: bytes) -> bool:
    # With or without a port (RFC 9110, section 7.2).
    match = _HOST.fullmatch(value)
    if match is None or match[1] is None:
        return match is not None
    try:
        IPv6Address(match[1].decode())
    except AddressValueError:
        return False
    return True
