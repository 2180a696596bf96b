"""Field names, field values and token lists (RFC 9110, section 5)."""

from __future__ import annotations

import re
from email.utils import formatdate
from typing import Final

from uvicorn.errors import LocalProtocolError

_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# Controls that must not stand inside a field: all of them but HTAB (RFC 9110, section 5.5).
CONTROLS: Final = bytes(set(range(32)) - {9}) + b"\x7f"

# Fields that must not be sent in trailers (RFC 9110, section 6.5.1): those that frame or route a message, authenticate
# it, modify the request or control the response. A recipient acts on them before it has the content, or never.
_FORBIDDEN_TRAILERS: Final = frozenset(
    b"authorization cache-control connection cookie date expect forwarded host keep-alive location max-forwards "
    b"proxy-authenticate proxy-authorization proxy-connection range server set-cookie te trailer transfer-encoding "
    b"upgrade www-authenticate x-forwarded-for x-forwarded-host x-forwarded-port x-forwarded-proto".split()
)

# The only content-* fields allowed in trailers: digests, computed while the content is sent (RFC 9530, section 2, and
# its predecessor).
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

# Both usual spellings of each common name, to the one lower-case object. A hit costs less than lower() and needs
# no check; and since connections share the objects, idle ones hold no names of their own.
LOWER_NAMES: Final[dict[bytes, bytes]] = {}
for _name in _COMMON_NAMES:
    _lower = _name.lower().encode()
    LOWER_NAMES[_name.encode()] = LOWER_NAMES[_lower] = LOWER_NAMES.get(_lower, _lower)


def is_token(value: bytes) -> bool:
    """Whether `value` is a token (RFC 9110, section 5.6.2): what names, methods and codings are made of."""
    return _TOKEN.fullmatch(value) is not None


def is_forbidden_trailer(name: bytes) -> bool:
    """Whether a field, by its name in lower case, must not follow the content of a request or of a response."""
    return name in _FORBIDDEN_TRAILERS or (name.startswith(b"content-") and name not in _INTEGRITY_FIELDS)


def split_tokens(value: bytes) -> list[bytes]:
    """The members of a comma-separated list, lower-case, white space trimmed, empty ones left out."""
    return [member for part in value.lower().split(b",") if (member := part.strip(b" \t"))]


def lower_name(name: object) -> bytes:
    """The lower-case form of a response's field name; LocalProtocolError if it cannot be one."""
    if not isinstance(name, bytes):
        raise LocalProtocolError(f"header name: expected bytes, got {type(name).__name__} {name!r:.100}")
    if not is_token(name):
        raise LocalProtocolError(f"header name: expected a token (RFC 9110, section 5.6.2), got {name!r:.100}")
    return name.lower()


class DefaultFields:
    """The lines that every response starts with: `server`, `date`, fresh to the second, and what a user wants besides.

    One per server, shared by its connections. `update` is called by whoever has a clock.
    """

    def __init__(self, server: bytes = b"uvicorn", send_date: bool = True, more: bytes = b"") -> None:
        """`more` is lines that have been checked; a server line among them takes the place of ours."""
        self._send_date = send_date
        lines = more.splitlines(keepends=True)
        given = b"".join(line for line in lines if line.startswith(b"server: "))
        self._more = more = b"".join(line for line in lines if not line.startswith(b"server: "))
        self.server = given or (b"server: " + server + b"\r\n" if server else b"")
        self.date = b""
        self.block = self.server + more

    def update(self, unix_seconds: float) -> None:
        """Set the date to `unix_seconds` since the epoch."""
        if self._send_date:
            self.date = b"date: " + formatdate(unix_seconds, usegmt=True).encode() + b"\r\n"
            self.block = self.server + self.date + self._more

    def without(self, name: bytes, block: bytes) -> bytes:
        """`block` less the line for `name`: an application's own value wins, and there are never two."""
        line = self.server if name == b"server" else self.date
        return block.replace(line, b"") if line else block
