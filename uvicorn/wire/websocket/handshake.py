"""The opening handshake of a WebSocket (RFC 6455, section 4.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar, final

from websockets.exceptions import InvalidHeader
from websockets.headers import parse_connection, parse_extension, parse_subprotocol, parse_upgrade
from websockets.utils import accept_key

from uvicorn.errors import LocalProtocolError, RemoteProtocolError
from uvicorn.fields import HOP_BY_HOP, LOWER_NAMES, encode_field_line, lower_name
from uvicorn.types import Headers
from uvicorn.wire.http1.default_fields import DefaultFields
from uvicorn.wire.websocket.deflate import PerMessageDeflate, negotiate

_Item = TypeVar("_Item")

# The base64 form of 16 bytes.
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")

# Fields that an application must not set, besides `sec-websocket-*`.
_RESERVED: Final = HOP_BY_HOP | {b"content-length"}


@final
class WebSocketHandshake:
    """A client's valid request to upgrade to WebSocket."""

    def __init__(self, method: str, http_version: str, headers: list[list[bytes]], has_content: bool) -> None:
        """Raise RemoteProtocolError for an invalid request. `headers` has lower-case names."""
        if method != "GET":
            raise RemoteProtocolError("websocket handshake: expected the method GET")
        if http_version != "1.1":
            raise RemoteProtocolError("websocket handshake: expected HTTP/1.1")
        if has_content:
            raise RemoteProtocolError("websocket handshake: expected no content")
        values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            values.setdefault(name, []).append(value)
        self.host = _only(values, b"host").decode("latin-1")
        if "upgrade" not in [option.lower() for option in _parse_list(values, b"connection", parse_connection)]:
            raise RemoteProtocolError("websocket handshake: expected the field 'connection: upgrade'")
        if "websocket" not in [protocol.lower() for protocol in _parse_list(values, b"upgrade", parse_upgrade)]:
            raise RemoteProtocolError("websocket handshake: expected the field 'upgrade: websocket'")
        if _only(values, b"sec-websocket-version") != b"13":
            raise RemoteProtocolError("websocket handshake: expected the field 'sec-websocket-version: 13'", 426)
        key = _only(values, b"sec-websocket-key")
        if _KEY.fullmatch(key) is None:
            raise RemoteProtocolError("sec-websocket-key is not 16 bytes in base64")
        self._key = key.decode()
        #: None for clients that are not browsers.
        self.origin = _only(values, b"origin").decode("latin-1") if b"origin" in values else None
        #: In the client's order.
        self.subprotocols: list[str] = [*_parse_list(values, b"sec-websocket-protocol", parse_subprotocol)]
        if len(set(self.subprotocols)) != len(self.subprotocols):
            raise RemoteProtocolError("sec-websocket-protocol names a subprotocol twice")
        self._extensions = _parse_list(values, b"sec-websocket-extensions", parse_extension)

    def accept(
        self, subprotocol: str | None, headers: Headers, defaults: DefaultFields, compression: bool
    ) -> tuple[bytes, PerMessageDeflate | None]:
        """Return the 101 response and the agreed compression, if any.

        After LocalProtocolError, `accept` may be called again.
        """
        if subprotocol is not None and subprotocol not in self.subprotocols:
            offered = self.subprotocols
            raise LocalProtocolError(f"subprotocol: expected one of {offered!r:.200}, got {subprotocol!r:.100}")
        accept = accept_key(self._key).encode()
        upgrade = b"upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: %b\r\n" % accept
        parts = [b"HTTP/1.1 101 Switching Protocols\r\n", defaults.block, upgrade]
        if subprotocol is not None:
            parts.append(b"sec-websocket-protocol: %b\r\n" % subprotocol.encode())
        try:
            for name, value in headers:
                lower = LOWER_NAMES[name] if name in LOWER_NAMES else lower_name(name)
                if lower in _RESERVED or lower.startswith(b"sec-websocket-"):
                    is_protocol = lower == b"sec-websocket-protocol"
                    instead = "; expected the subprotocol in 'subprotocol'" if is_protocol else ""
                    raise LocalProtocolError(f"header {lower!r}: only the server may set this field{instead}")
                if lower == b"server" or lower == b"date":
                    parts[1] = defaults.without(lower, parts[1])
                parts.append(encode_field_line(lower, value))
        except (TypeError, ValueError):
            raise LocalProtocolError(f"headers: expected [name, value] pairs of bytes, got {headers!r:.200}") from None
        deflate = None
        if compression and (agreed := negotiate(self._extensions)) is not None:
            extension, deflate = agreed
            parts.append(b"sec-websocket-extensions: %b\r\n" % extension.encode())
        parts.append(b"\r\n")
        return b"".join(parts), deflate


def _only(values: dict[bytes, list[bytes]], name: bytes) -> bytes:
    of_name = values.get(name, ())
    if len(of_name) != 1:
        raise RemoteProtocolError(f"websocket handshake: expected one field {name.decode()!r}, got {len(of_name)}")
    return of_name[0]


def _parse_list(values: dict[bytes, list[bytes]], name: bytes, parse: Callable[[str], Sequence[_Item]]) -> list[_Item]:
    members: list[_Item] = []
    for value in values.get(name, ()):
        try:
            members += parse(value.decode("latin-1"))
        except InvalidHeader:
            raise RemoteProtocolError(f"malformed {name.decode()} field") from None
    return members
