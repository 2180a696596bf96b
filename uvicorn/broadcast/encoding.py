"""Messages as the carriers see them. The first byte decides what follows.

`{`: a message without bytes, plain JSON, with one key more: `_uvicorn`, the sender and its number within the group. The
key may be missing: anybody who can write JSON can publish, and anybody who can read it can listen.

1: an envelope for a message with bytes in it. Four bytes, the length of a header; the header, JSON in which
`{"_uvicorn_bytes": length}` stands for each of them; and the bytes themselves, one after another.

Never pickle: whoever can reach the carrier could run code in every process that listens.
"""

from __future__ import annotations

import json
from typing import Any, Final, final

from uvicorn.errors import LocalProtocolError, MessageTooLarge, UvicornError
from uvicorn.types import Message, SharedBytes, SharedText

#: 1 MiB: the largest message of a websocket, and of the draft of the channels interface.
MAX_MESSAGE_BYTES: Final = 1 << 20
#: Of a group's name, in UTF-8: long enough for a path or two hashes.
MAX_GROUP_BYTES: Final = 512

#: How the names of the groups begin by which processes talk to each other. A client who chooses a room's name must not
#: choose one of these.
PROCESS_GROUPS: Final = "uvicorn.process."

# What a number and an identity may add to a message, and an envelope to its bytes.
_ROOM: Final = 1024

# What a list or a dict takes, with its place in another one.
_OBJECT_BYTES: Final = 72
_FEW_KEYS: Final = 16

_ENVELOPE: Final = b"\x01"
_BYTES: Final = "_uvicorn_bytes"
_plain: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class BrokenMessage(UvicornError):
    """A payload that is no message: from somebody else, or from a later version."""


@final
class Encoded:
    """A message but for its number, which it gets when its turn has come."""

    __slots__ = ("_body", "_header")

    def __init__(self, header: bytes, body: bytes | None) -> None:
        self._header = header
        self._body = body

    def numbered(self, sender: str, sequence: int) -> bytes:
        """The payload; `sender` is plain ASCII."""
        comma = b"," if len(self._header) > 2 else b""
        header = b'%b%b"_uvicorn":["%b",%d]}' % (self._header[:-1], comma, sender.encode(), sequence)
        if self._body is None:
            return header
        return b"".join((_ENVELOPE, len(header).to_bytes(4), header, self._body))


def encode(message: Message, most: int = MAX_MESSAGE_BYTES) -> Encoded:
    """A message as it goes out; raises LocalProtocolError for one that holds what JSON and bytes cannot say, and
    MessageTooLarge."""
    if not isinstance(message, dict):
        raise LocalProtocolError(f"groups.send: expected 'send' to be a message, a dict, got {type(message).__name__}")
    bodies: list[bytes] = []
    try:
        try:
            header = _plain.encode(message).encode()
        except TypeError:
            header = json.dumps(
                message,
                ensure_ascii=False,
                allow_nan=False,
                separators=(",", ":"),
                default=lambda value: _set_aside(value, bodies),
            ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalProtocolError(
            f"groups.send: expected text, bytes, numbers, True, False, None, lists and dicts in 'send': {error}"
        ) from None
    body = b"".join(bodies) if bodies else None
    size = len(header) + len(body or b"")
    if size > most:
        raise MessageTooLarge(f"groups.send: expected a message of {most} bytes at most, got {size}")
    return Encoded(header, body)


def decode(payload: bytes, most: int = MAX_MESSAGE_BYTES) -> tuple[Message, str, int]:
    """The message, its sender, and its number among those that the sender has sent to the group.

    A payload without these two has no sender, and the number 0. Raises BrokenMessage.
    """
    if len(payload) > most + _ROOM:
        raise BrokenMessage(f"{len(payload)} bytes, more than {most}")
    header, put_back = payload, None
    if payload[:1] == _ENVELOPE:
        start = 5 + int.from_bytes(payload[1:5])
        if start > len(payload):
            raise BrokenMessage("an envelope that is cut off")
        header, put_back = payload[5:start], _PuttingBack(payload[start:])
    try:
        message = json.loads(header, object_hook=put_back)
    except (ValueError, RecursionError) as error:
        raise BrokenMessage(f"neither JSON nor an envelope that this version knows: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise BrokenMessage(f"expected a JSON object, got {type(message).__name__}")
    match message.pop("_uvicorn", None):
        case [str(sender), int(sequence)] if not isinstance(sequence, bool):
            return message, sender, sequence
    return message, "", 0


def share(message: Message) -> Message:
    """The message in a form of which a frame is made only once, however many clients it goes to."""
    text, data = message.get("text"), message.get("bytes")
    if isinstance(text, str):
        message["text"] = SharedText(text)
    if isinstance(data, bytes):
        message["bytes"] = SharedBytes(data)
    return message


def only_text(message: Message) -> str | None:
    """The text of a message that is nothing else."""
    text = message.get("text") if len(message) == 1 else None
    return text if isinstance(text, str) else None


def weight(message: Message, payload: bytes) -> int:
    """The bytes that a message is counted for while it waits: those of its payload, and of the objects in it.

    A megabyte of empty lists takes thirty in memory.
    """
    if len(message) <= _FEW_KEYS and not any(isinstance(value, (list, dict)) for value in message.values()):
        return len(payload)
    return len(payload) + _OBJECT_BYTES * (payload.count(b",") + payload.count(b"[") + payload.count(b"{"))


def group_name(group: Any) -> str:
    """`group`, if it can be one: any text of up to 512 bytes. Raises LocalProtocolError."""
    if not isinstance(group, str) or not group:
        raise LocalProtocolError(f"groups.send: expected 'group' to be the name of a group, got {group!r:.100}")
    if group.startswith(PROCESS_GROUPS):
        raise LocalProtocolError(f"groups.send: names that begin with {PROCESS_GROUPS!r} are not for applications")
    try:
        size = len(group.encode())
    except UnicodeEncodeError:
        raise LocalProtocolError(f"groups.send: expected a name that UTF-8 can hold, got {group!r:.100}") from None
    if size > MAX_GROUP_BYTES:
        raise LocalProtocolError(f"groups.send: expected a name of {MAX_GROUP_BYTES} bytes at most, got {size}")
    return group


def _set_aside(value: object, bodies: list[bytes]) -> dict[str, int]:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise TypeError(f"got {type(value).__name__}")
    bodies.append(bytes(value))
    return {_BYTES: len(bodies[-1])}


class _PuttingBack:
    """Puts bytes back: JSON objects are finished in the order in which they were begun, those that hold none."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._start = 0

    def __call__(self, value: dict[str, Any]) -> Any:
        if value.keys() != {_BYTES}:
            return value
        end = self._start + value[_BYTES] if type(value[_BYTES]) is int and value[_BYTES] >= 0 else -1
        if not self._start <= end <= len(self._body):
            raise ValueError("lengths that do not fit")
        piece, self._start = self._body[self._start : end], end
        return piece
