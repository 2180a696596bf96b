"""Redis' protocol, version 2, from bytes to replies; without sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

#: bytes, int, None, RedisRefusal, or a list of these.
Reply: TypeAlias = Any

#: 4 MiB: four times the largest message that our own senders send. Another's longer one is skipped, not kept.
MAX_PAYLOAD_BYTES: Final = 4 << 20

# Lines are numbers, statuses and errors; arrays are pushes of three, and ROLE's few. More is not Redis.
_MAX_LINE_BYTES: Final = 16 << 10
_MAX_ITEMS: Final = 64
_MAX_DEPTH: Final = 4
_MESSAGES: Final = (b"message", b"smessage")


#: Codes of error replies that end by themselves, or that a failover ends.
_PASSING: Final = frozenset(("BUSY", "LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN"))
#: Codes of error replies that an administrator has to end.
_DENIED: Final = frozenset(("NOPERM", "NOAUTH", "WRONGPASS"))


class RedisRefusal(Exception):
    """An error reply: `str()` is Redis' own text, which begins with a code such as NOAUTH."""

    @property
    def code(self) -> str:
        """The first word."""
        return str(self).partition(" ")[0]

    @property
    def passes(self) -> bool:
        """Whether the same command will be accepted in a while; Redis has not executed it."""
        return self.code in _PASSING

    @property
    def denies(self) -> bool:
        """Whether the user's rights or password are refused."""
        return self.code in _DENIED


class NotRedis(Exception):
    """What was received is not the protocol."""


class _Incomplete(Exception):
    """More bytes are needed; at least up to `need`, if that is known."""

    def __init__(self, need: int = 0) -> None:
        self.need = need


class RedisReader:
    """Calls `on_reply` with every reply in the bytes it is fed.

    A message whose payload is longer than `max_payload_bytes` comes with None in its place.
    """

    def __init__(self, on_reply: Callable[[Reply], None], max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._on_reply = on_reply
        self._max_payload_bytes = max_payload_bytes
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 0
        self._skip = 0
        self._closed = False

    def close(self) -> None:
        """Call back no more, whatever is in the bytes that are being read."""
        self._closed = True
        self._pieces.clear()

    def feed(self, data: bytes) -> None:
        """Bytes as they came. Raises NotRedis."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._pieces.append(data)
        self._have += len(data)
        # A long payload comes in many pieces: they are joined once.
        if self._have >= self._need and not self._closed:
            self._read(data if len(self._pieces) == 1 else b"".join(self._pieces))

    def _read(self, data: bytes) -> None:
        at = 0
        self._need = 0
        try:
            while at < len(data) and not self._closed:
                reply, at = self._parse(data, at, 0)
                if at > len(data):
                    self._skip, at = at - len(data), len(data)
                self._on_reply(reply)
        except _Incomplete as incomplete:
            self._need = max(0, incomplete.need - at)
        self._pieces = [data[at:]] if at < len(data) else []
        self._have = len(data) - at

    def _parse(self, data: bytes, at: int, depth: int) -> tuple[Reply, int]:
        """The reply that begins at `at`, and where the next one does."""
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > _MAX_LINE_BYTES:
                raise NotRedis(f"a line of more than {_MAX_LINE_BYTES} bytes")
            raise _Incomplete
        kind, line, at = data[at : at + 1], data[at + 1 : end], end + 2
        if kind == b"$":
            length = _length(line)
            if length > self._max_payload_bytes:
                raise NotRedis(f"{length} bytes in one piece")
            return _bulk(data, at, length)
        if kind == b"*":
            return self._parse_items(data, at, _length(line), depth + 1)
        if kind == b":":
            return _number(line), at
        if kind == b"+":
            return line, at
        if kind == b"-":
            return RedisRefusal(line.decode("utf-8", "backslashreplace")), at
        raise NotRedis(f"a reply that begins with {kind!r}")

    def _parse_items(self, data: bytes, at: int, count: int, depth: int) -> tuple[Reply, int]:
        if count < 0:
            return None, at
        if count > _MAX_ITEMS or depth > _MAX_DEPTH:
            raise NotRedis(f"{count} items, {depth} levels deep")
        items: list[Reply] = []
        for index in range(count):
            if index == 2 and items[0] in _MESSAGES:
                end = data.find(b"\r\n", at)
                if end >= 0 and _length(data[at + 1 : end]) > self._max_payload_bytes:
                    # The payload is last, so the rest of it can be skipped without knowing more.
                    return [*items, None], end + 2 + _length(data[at + 1 : end]) + 2
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
        raise NotRedis("a piece that does not end where it should")
    return data[at:end], end + 2


def _length(line: bytes) -> int:
    if line == b"-1":
        return -1
    if not line.isdigit() or len(line) > 18:
        raise NotRedis(f"a length of {line[:32]!r}")
    return int(line)


def _number(line: bytes) -> int:
    digits = line[1:] if line[:1] == b"-" else line
    if not digits.isdigit() or len(digits) > 20:
        raise NotRedis(f"a number {line[:32]!r}")
    return int(line)
