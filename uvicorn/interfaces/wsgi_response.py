"""Converts response heads between WSGI (PEP 3333) and exchanges."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from uvicorn.errors import LocalProtocolError
from uvicorn.fields import LOWER_NAMES, has_controls, is_token
from uvicorn.types import Headers

#: In heads from `encode_response`, a content-length field has this object as its name.
CONTENT_LENGTH: Final = LOWER_NAMES[b"content-length"]

# Caches of checked statuses, field names and fields, bounded because applications may send any number of them.
_STATUSES: Final[dict[str, tuple[int, bytes]]] = {}
_FIELD_NAMES: Final[dict[str, bytes]] = {}
_ENCODED_FIELDS: Final[dict[tuple[str, str], tuple[bytes, bytes]]] = {}
_DECODED_FIELDS: Final[dict[tuple[bytes, bytes], tuple[str, str]]] = {}
_MOST_NAMES: Final = 256
_MEMO_LENGTH: Final = 64
_FIELD_BYTES: Final = 128

_STATUS: Final = re.compile(r"([2-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


def encode_response(status: object, headers: Iterable[Sequence[Any]]) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
    """Convert `start_response` arguments to a head with lower-case field names. Raises LocalProtocolError."""
    code, reason = (_STATUSES.get(status) if type(status) is str else None) or _checked_status(status)
    try:
        fields = [
            (_ENCODED_FIELDS.get(field) if type(field) is tuple else None) or _encoded_field(*field)
            for field in headers
        ]
    except (AttributeError, TypeError, ValueError):
        raise LocalProtocolError(
            f"start_response: expected headers as (name, value) pairs of latin-1 text, got {headers!r:.200}"
        ) from None
    return code, reason, fields


def decode_response(status: int, reason: bytes, headers: Headers, phrase: str) -> tuple[str, list[tuple[str, str]]]:
    """Convert a response head to `start_response` arguments. Raises LocalProtocolError."""
    if reason and (not isinstance(reason, bytes) or has_controls(reason)):
        raise LocalProtocolError(f"status_text: expected bytes without control characters, got {reason!r:.100}")
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise LocalProtocolError(f"status: expected an int from 200 to 999, got {status!r:.40}")
    fields: list[tuple[str, str]] = []
    try:
        for name, value in headers:
            try:
                field = _DECODED_FIELDS.get((name, value))
            except (TypeError, ValueError):
                # A bytearray has no hash, and not every memoryview.
                field = None
            fields.append(field or _decoded_field(name, value))
    except (TypeError, ValueError):
        raise LocalProtocolError(f"headers: expected [name, value] pairs of bytes, got {headers!r:.200}") from None
    return f"{status} {reason.decode('latin-1') if reason else phrase}", fields


def field_octets(part: object) -> bytes:
    """Convert bytes, a bytearray or a memoryview to bytes. Raises TypeError."""
    if not isinstance(part, (bytes, bytearray, memoryview)):
        raise TypeError(part)
    return bytes(part)


def _checked_status(status: object) -> tuple[int, bytes]:
    match = _STATUS.fullmatch(status) if isinstance(status, str) else None
    if match is None:
        raise LocalProtocolError(f"start_response: expected a status such as '200 OK', got {status!r:.100}")
    checked = int(match[1]), (match[2] or "").encode("latin-1")
    if len(_STATUSES) < _MOST_NAMES and len(match.string) <= _MEMO_LENGTH:
        _STATUSES[match.string] = checked
    return checked


def _encoded_field(name: Any, value: Any) -> tuple[bytes, bytes]:
    # isprintable() is a fast check that most values pass.
    octets = value.encode("latin-1") if value.isprintable() else _checked_value(value)
    field = _FIELD_NAMES.get(name) or _checked_name(name), octets
    if type(name) is str is type(value) and len(name) + len(value) <= _FIELD_BYTES:
        if len(_ENCODED_FIELDS) >= _MOST_NAMES:
            _ENCODED_FIELDS.clear()
        _ENCODED_FIELDS[name, value] = field
    return field


def _checked_name(name: Any) -> bytes:
    # Characters beyond latin-1 become question marks, which a token must not contain.
    encoded: bytes = name.encode("latin-1", "replace")
    if not is_token(encoded):
        raise LocalProtocolError(f"start_response: expected a token as a header's name, got {name!r:.100}")
    lower = encoded.lower()
    lower = LOWER_NAMES.get(lower, lower)
    if type(name) is str and len(name) <= _MEMO_LENGTH and len(_FIELD_NAMES) < _MOST_NAMES:
        _FIELD_NAMES[name] = lower
    return lower


def _decoded_field(name: Any, value: Any) -> tuple[str, str]:
    octets, text = field_octets(name), field_octets(value).decode("latin-1")
    if not text.isprintable() and has_controls(text.encode("latin-1")):
        raise LocalProtocolError(
            f"header field: expected a value without control characters, got {(octets, text)!r:.200}"
        )
    if not is_token(octets):
        raise LocalProtocolError(f"header field: expected a token as its name, got {octets!r:.100}")
    field = octets.decode().lower(), text
    if type(name) is bytes is type(value) and len(name) + len(value) <= _FIELD_BYTES:
        if len(_DECODED_FIELDS) >= _MOST_NAMES:
            _DECODED_FIELDS.clear()
        _DECODED_FIELDS[name, value] = field
    return field


def _checked_value(value: Any) -> bytes:
    encoded: bytes = value.encode("latin-1")
    if has_controls(encoded):
        raise LocalProtocolError(
            f"start_response: expected a header value without control characters, got {value!r:.100}"
        )
    return encoded
