"""Encodes and decodes messages. A payload has one of two formats:

- Plain JSON, for a message without bytes values. The optional key `_uvicorn` holds sender and sequence number.
- An envelope, for a message with bytes values. It contains the byte 0x01, the header's length in four bytes, the
  header, and the bytes values. The header is JSON with `{"_uvicorn_bytes": length}` in place of each bytes value.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.errors import LocalProtocolError, MessageTooLarge, UvicornError
from uvicorn.types import Message, SharedBytes, SharedText

#: 1 MiB: the limit of a WebSocket message, and the limit in the draft of the channels interface.
MAX_MESSAGE_BYTES: Final = 1 << 20
#: The limit of a group's name in UTF-8: enough for a path or two hashes.
MAX_GROUP_BYTES: Final = 512

#: The prefix of control groups, through which processes send requests to each other. Applications cannot use it.
PROCESS_GROUPS: Final = "uvicorn.process."

# The sender, the sequence number and the envelope add fewer bytes to a message.
_OVERHEAD_BYTES: Final = 1024

# The memory of a list or dict and of the reference to it: 1 MB of empty lists in JSON takes 30 MB.
_OBJECT_BYTES: Final = 72
_FEW_KEYS: Final = 16

# Pickle is not used, because any Redis client could then run code in every subscribed process.
_ENVELOPE: Final = b"\x01"
_BYTES: Final = "_uvicorn_bytes"
_JSON: Final[dict[str, Any]] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
_plain: Final = json.JSONEncoder(**_JSON)


class MalformedMessage(UvicornError):
    """A payload cannot be decoded."""


@dataclass(slots=True)
class Encoded:
    """A serialized message without a sequence number."""

    header: bytes
    body: bytes | None

    def numbered(self, sender: str, sequence: int) -> bytes:
        comma = b"," if len(self.header) > 2 else b""
        header = b'%b%b"_uvicorn":["%b",%d]}' % (self.header[:-1], comma, sender.encode(), sequence)
        if self.body is None:
            return header
        return b"".join((_ENVELOPE, len(header).to_bytes(4), header, self.body))


def encode(message: Message, most: int = MAX_MESSAGE_BYTES) -> Encoded:
    """Serialize a message. Raises LocalProtocolError, or MessageTooLarge above `most` bytes."""
    if not isinstance(message, dict):
        raise LocalProtocolError(f"groups.send: expected 'send' to be a dict, got {type(message).__name__}")
    bodies: list[bytes] = []
    try:
        try:
            header = _plain.encode(message).encode()
        except TypeError:
            header = json.dumps(message, **_JSON, default=lambda value: _extract_bytes(value, bodies)).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalProtocolError(f"groups.send: expected JSON values or bytes in 'send': {error}") from None
    body = b"".join(bodies) if bodies else None
    size = len(header) + len(body or b"")
    if size > most:
        raise MessageTooLarge(f"groups.send: expected a message of {most} bytes at most, got {size}")
    return Encoded(header, body)


def decode(payload: bytes, most: int = MAX_MESSAGE_BYTES) -> tuple[Message, str, int]:
    """Return the message, its sender ('' if unknown) and its sequence number. Raises MalformedMessage."""
    if len(payload) > most + _OVERHEAD_BYTES:
        raise MalformedMessage(f"expected a payload of {most} bytes at most, got {len(payload)}")
    header, restore = payload, None
    if payload[:1] == _ENVELOPE:
        start = 5 + int.from_bytes(payload[1:5])
        if start > len(payload):
            raise MalformedMessage("the envelope is truncated")
        header, restore = payload[5:start], _Restorer(payload[start:])
    try:
        message = json.loads(header, object_hook=restore)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"expected JSON or an envelope of this version, got a {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise MalformedMessage(f"expected a JSON object, got {type(message).__name__}")
    match message.pop("_uvicorn", None):
        case [str(sender), int(sequence)] if not isinstance(sequence, bool):
            return message, sender, sequence
    return message, "", 0


def share(message: Message) -> Message:
    """Wrap `text` and `bytes` in place. All clients then share one encoded frame."""
    text, data = message.get("text"), message.get("bytes")
    if isinstance(text, str):
        message["text"] = SharedText(text)
    if isinstance(data, bytes):
        message["bytes"] = SharedBytes(data)
    return message


def weight(message: Message, payload: bytes) -> int:
    """Estimate how many bytes of memory a queued message takes."""
    if len(message) <= _FEW_KEYS and not any(isinstance(value, (list, dict)) for value in message.values()):
        return len(payload)
    return len(payload) + _OBJECT_BYTES * (payload.count(b",") + payload.count(b"[") + payload.count(b"{"))


def group_name(group: Any) -> str:
    """Check and return `group`. Raises LocalProtocolError for an invalid name."""
    if not isinstance(group, str) or not group:
        raise LocalProtocolError(f"groups.send: expected 'group' to be the name of a group, got {group!r:.100}")
    if group.startswith(PROCESS_GROUPS):
        raise LocalProtocolError(f"groups.send: the prefix {PROCESS_GROUPS!r} is reserved, got {group!r:.100}")
    try:
        size = len(group.encode())
    except UnicodeEncodeError:
        raise LocalProtocolError(f"groups.send: expected a name that UTF-8 can encode, got {group!r:.100}") from None
    if size > MAX_GROUP_BYTES:
        raise LocalProtocolError(f"groups.send: expected a name of {MAX_GROUP_BYTES} bytes at most, got {size}")
    return group


def _extract_bytes(value: object, bodies: list[bytes]) -> dict[str, int]:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"got a value of type {type(value).__name__}")
    bodies.append(bytes(value))
    return {_BYTES: len(bodies[-1])}


class _Restorer:
    def __init__(self, body: bytes) -> None:
        self._body = body
        self._start = 0

    def __call__(self, value: dict[str, Any]) -> Any:
        if value.keys() != {_BYTES}:
            return value
        end = self._start + value[_BYTES] if type(value[_BYTES]) is int and value[_BYTES] >= 0 else -1
        if not self._start <= end <= len(self._body):
            raise ValueError("the lengths of bytes values do not match the payload")
        piece, self._start = self._body[self._start : end], end
        return piece
