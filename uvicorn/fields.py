"""Rules of header fields (RFC 9110, section 5) and WebSocket close codes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from uvicorn.errors import LocalProtocolError

#: The pattern of a token (RFC 9110, section 5.6.2), possessive because backtracking never helps.
TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_TOKEN: Final = re.compile(TOKEN)

# Control characters that a field must not contain: all but HTAB (RFC 9110, section 5.5).
_CONTROLS: Final = bytes(set(range(32)) - {9}) + b"\x7f"

#: Fields of a connection, not of a message (RFC 9110, section 7.6.1): an application must not send them (PEP 3333).
HOP_BY_HOP: Final = frozenset(b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade".split())

#: Close codes that a WebSocket peer may send (RFC 6455, section 7.4). 1004 to 1006 and 1015 never appear on the wire.
CLOSE_CODES: Final = frozenset((1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)))
#: The close code of a server that has met an unexpected condition.
INTERNAL_ERROR: Final = 1011

# Fields that must not be sent in trailers (RFC 9110, section 6.5.1).
_FORBIDDEN_TRAILERS: Final = frozenset(
    b"authorization cache-control connection cookie date expect forwarded host keep-alive location max-forwards "
    b"proxy-authenticate proxy-authorization proxy-connection range server set-cookie te trailer transfer-encoding "
    b"upgrade www-authenticate x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto".split()
)

# The only content-* fields allowed in trailers: digests, computed while the content is sent (RFC 9530, section 2).
_INTEGRITY_FIELDS: Final = frozenset((b"content-digest", b"content-md5"))

_COMMON_NAMES = """
    Accept Accept-Charset Accept-Encoding Accept-Language Accept-Ranges Access-Control-Allow-Credentials
    Access-Control-Allow-Headers Access-Control-Allow-Methods Access-Control-Allow-Origin
    Access-Control-Expose-Headers Access-Control-Max-Age Access-Control-Request-Headers
    Access-Control-Request-Method Age Allow Authorization Cache-Control Connection Content-Disposition
    Content-Encoding Content-Language Content-Length Content-Location Content-Range Content-Security-Policy
    Content-Type Cookie Cross-Origin-Opener-Policy DNT Date ETag Expect Expires Forwarded From Host
    If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since Keep-Alive Last-Modified Link
    Location Max-Forwards Origin Permissions-Policy Pragma Priority Proxy-Authenticate Proxy-Authorization
    Proxy-Connection Purpose Range Referer Referrer-Policy Retry-After Sec-Fetch-Dest Sec-Fetch-Mode
    Sec-Fetch-Site Sec-Fetch-User Sec-GPC Sec-WebSocket-Accept Sec-WebSocket-Extensions Sec-WebSocket-Key
    Sec-WebSocket-Protocol Sec-WebSocket-Version Server Set-Cookie Strict-Transport-Security TE Trailer
    Transfer-Encoding Upgrade Upgrade-Insecure-Requests User-Agent Vary Via WWW-Authenticate Warning
    X-Content-Type-Options X-Forwarded-For X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto
    X-Frame-Options X-Powered-By X-Real-IP X-Request-ID X-Requested-With sec-ch-ua sec-ch-ua-mobile
    sec-ch-ua-platform
""".split()

#: Maps both usual spellings of each common name to one lower-case object. A look-up costs less than a check.
LOWER_NAMES: Final[dict[bytes, bytes]] = {}
for _name in _COMMON_NAMES:
    _lower = _name.lower().encode()
    LOWER_NAMES[_name.encode()] = LOWER_NAMES[_lower] = LOWER_NAMES.get(_lower, _lower)


# Header fields in order: their names, in lower case, and their values. Two tuples cost less than a list of pairs.
Fields = tuple[tuple[bytes, ...], tuple[bytes, ...]]


def split_pairs(headers: Iterable[Sequence[bytes]]) -> Fields:
    """Return the names and the values of `[name, value]` pairs."""
    pairs = list(headers)
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def is_token(value: bytes) -> bool:
    """Return whether `value` is a token (RFC 9110, section 5.6.2)."""
    return _TOKEN.fullmatch(value) is not None


def has_controls(value: bytes) -> bool:
    """Return whether `value` has a control character other than tab."""
    return len(value.translate(None, _CONTROLS)) != len(value)


def is_forbidden_trailer(name: bytes) -> bool:
    """Return whether a lower-case field name is forbidden in trailers."""
    return name in _FORBIDDEN_TRAILERS or (name.startswith(b"content-") and name not in _INTEGRITY_FIELDS)


def split_tokens(value: bytes) -> list[bytes]:
    """Split a comma-separated list into lower-case items. Leave out empty items."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def lower_name(name: object) -> bytes:
    """Return a field name in lower case. Raises LocalProtocolError."""
    if not isinstance(name, bytes):
        raise LocalProtocolError(f"header name: expected bytes, got {type(name).__name__} {name!r:.100}")
    if not is_token(name):
        raise LocalProtocolError(f"header name: expected a token (RFC 9110, section 5.6.2), got {name!r:.100}")
    return name.lower()


def encode_field_line(name: bytes, value: object) -> bytes:
    """Return the line `name: value`. `name` must be valid. Raises LocalProtocolError."""
    if not isinstance(value, bytes):
        raise LocalProtocolError(f"header {name!r}: expected a value of bytes, got {value!r:.200}")
    # As has_controls, without the call: responses have many fields.
    if len(value.translate(None, _CONTROLS)) != len(value):
        raise LocalProtocolError(f"header {name!r}: expected a value without control characters")
    return b"%b: %b\r\n" % (name, value)
