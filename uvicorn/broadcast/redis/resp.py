"""Parses RESP2, the protocol of Redis. This module uses no sockets."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeAlias

#: bytes, int, None, RedisRefusal, or a list of these.
Reply: TypeAlias = Any

#: 4 MiB: four times the largest message that we publish. Longer payloads of other publishers are skipped.
MAX_PAYLOAD_BYTES: Final = 4 << 20

# Redis exceeds none of these. Lines are numbers, statuses and errors. A push has three items. ROLE lists all replicas.
_MAX_LINE_BYTES: Final = 16 << 10
_MAX_ITEMS: Final = 1024
_MAX_DEPTH: Final = 4

_ARRAY: Final = ord("*")
# The header of a message: its kind and the length of its channel, then the length of its payload.
_MESSAGE: Final = re.compile(rb"\*3\r\n\$(7\r\nmessage|8\r\nsmessage)\r\n\$([0-9]{1,18})\r\n")
_PAYLOAD: Final = re.compile(rb"\r\n\$([0-9]{1,18})\r\n")

# Error codes that end by themselves or after a failover. Redis has not executed the command.
_TRANSIENT: Final = frozenset(("BUSY", "LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN"))
#: The delay of a retry after such an error. It doubles up to 0.4 s: four attempts within a timeout of 1 s.
FIRST_RETRY_SECONDS: Final = 0.05
LONGEST_RETRY_SECONDS: Final = 0.4
# Error codes that an administrator has to resolve.
_DENIED: Final = frozenset(("NOPERM", "NOAUTH", "WRONGPASS"))


class RedisRefusal(Exception):
    """An error reply from Redis, such as NOAUTH."""

    @property
    def code(self) -> str:
        return str(self).partition(" ")[0]

    @property
    def is_transient(self) -> bool:
        return self.code in _TRANSIENT

    @property
    def is_denied(self) -> bool:
        return self.code in _DENIED

    @property
    def redirection(self) -> tuple[str, int] | None:
        """The host and port of an ASK or MOVED reply, otherwise None."""
        words = str(self).split(" ")
        if len(words) != 3 or words[0] not in ("MOVED", "ASK"):
            return None
        host, _, port = words[2].rpartition(":")
        # An empty host means the server that replied.
        return (host, int(port)) if port.isdecimal() else None


class NotRedis(Exception):
    """The received bytes are not RESP."""


def encode_command(*command: bytes) -> bytes:
    parts = [b"*%d\r\n" % len(command)]
    for part in command:
        parts += (b"$%d\r\n" % len(part), part, b"\r\n")
    return b"".join(parts)


class _Incomplete(Exception):
    def __init__(self, need: int = 0) -> None:
        # The data must grow to this number of bytes before the next attempt.
        self.need = need


class RedisReader:
    """Calls `on_reply` with each parsed reply. None replaces payloads above MAX_PAYLOAD_BYTES."""

    def __init__(self, on_reply: Callable[[Reply], None]) -> None:
        self._on_reply = on_reply
        self._pieces: list[bytes] = []
        self._size = 0
        self._need = 0
        self._skip = 0
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self._pieces.clear()

    def feed(self, data: bytes) -> None:
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._pieces.append(data)
        self._size += len(data)
        # A long payload arrives in many pieces, which are joined and parsed once.
        if self._size < self._need or self._closed:
            return
        if len(self._pieces) > 1:
            data = b"".join(self._pieces)
        at = self._need = 0
        try:
            while at < len(data) and not self._closed:
                # Only an array can be a message.
                message = self._parse_message(data, at) if data[at] == _ARRAY else None
                reply, at = message or self._parse(data, at, 0)
                if at > len(data):
                    self._skip, at = at - len(data), len(data)
                self._on_reply(reply)
        except _Incomplete as incomplete:
            self._need = max(0, incomplete.need - at)
        self._size = len(data) - at
        self._pieces = [data[at:]] if self._size else []

    def _parse_message(self, data: bytes, at: int) -> tuple[Reply, int] | None:
        # Faster than `_parse`.
        if (header := _MESSAGE.match(data, at)) is None:
            return None
        channel_end = header.end() + int(header[2])
        if (length := _PAYLOAD.match(data, channel_end)) is None:
            return None
        kind, channel, size = header[1][3:], data[header.end() : channel_end], int(length[1])
        if size > MAX_PAYLOAD_BYTES:
            return [kind, channel, None], length.end() + size + 2
        payload, end = _bulk(data, length.end(), size)
        return [kind, channel, payload], end

    def _parse(self, data: bytes, at: int, depth: int) -> tuple[Reply, int]:
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > _MAX_LINE_BYTES:
                raise NotRedis(f"expected a line of {_MAX_LINE_BYTES} bytes at most")
            raise _Incomplete
        kind, line, at = data[at : at + 1], data[at + 1 : end], end + 2
        if kind == b"$":
            length = _length(line)
            if length > MAX_PAYLOAD_BYTES:
                raise NotRedis(f"expected a string of {MAX_PAYLOAD_BYTES} bytes at most, got {length}")
            return _bulk(data, at, length)
        if kind == b"*":
            return self._parse_items(data, at, _length(line), depth + 1)
        if kind == b":":
            return _number(line), at
        if kind == b"+":
            return line, at
        if kind == b"-":
            return RedisRefusal(line.decode("utf-8", "backslashreplace")), at
        raise NotRedis(f"unknown type of reply {kind!r}")

    def _parse_items(self, data: bytes, at: int, count: int, depth: int) -> tuple[Reply, int]:
        if count < 0:
            return None, at
        if count > _MAX_ITEMS or depth > _MAX_DEPTH:
            raise NotRedis(f"expected {_MAX_ITEMS} items and {_MAX_DEPTH} levels at most, got {count} and {depth}")
        items: list[Reply] = []
        for _ in range(count):
            item, at = self._parse(data, at, depth)
            items.append(item)
        return items, at


def _bulk(data: bytes, at: int, length: int) -> tuple[bytes | None, int]:
    if length < 0:
        return None, at
    end = at + length
    if len(data) < end + 2:
        raise _Incomplete(end + 2)
    if data[end : end + 2] != b"\r\n":
        raise NotRedis("expected CRLF at the end of a bulk string")
    return data[at:end], end + 2


def _length(line: bytes) -> int:
    if line != b"-1" and not (line.isdigit() and len(line) <= 18):
        raise NotRedis(f"malformed length {line[:32]!r}")
    return int(line)


def _number(line: bytes) -> int:
    digits = line.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 20:
        raise NotRedis(f"malformed number {line[:32]!r}")
    return int(line)


#: The error for a server that fails `is_master`.
NOT_MASTER: Final = "the server that the sentinels name is not the master"


def is_master(role: Reply) -> bool:
    return isinstance(role, list) and role[:1] == [b"master"]
