"""Checks a response's fields and content-length before another server sends the response."""

from __future__ import annotations

from typing import Final, final

from uvicorn import fields
from uvicorn.errors import LocalProtocolError
from uvicorn.interfaces.environ import parse_length
from uvicorn.interfaces.wsgi_response import decode_response
from uvicorn.types import Headers

#: Fields that are not passed to a host: the host owns the connection.
HOP_BY_HOP: Final = frozenset(name.decode() for name in fields.HOP_BY_HOP)


@final
class ResponseChecks:
    """Checks one response. `start` checks the beginning, and `count` checks later content."""

    __slots__ = ("_declared", "_empty", "_sent")

    def start(
        self,
        method: str,
        status: int,
        reason: bytes,
        headers: Headers,
        content: bytes,
        more_content: bool,
        phrase: str = "",
    ) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return the status line, fields and content to send. Raises LocalProtocolError."""
        empty = method == "HEAD" or status in (204, 304)
        line, fields = decode_response(status, reason, headers, phrase)
        by_name = dict(fields)
        if not HOP_BY_HOP.isdisjoint(by_name):
            fields = [field for field in fields if field[0] not in HOP_BY_HOP]
        declared: int | None = None
        if "content-length" in by_name:
            lengths = [value for name, value in fields if name == "content-length"]
            declared = parse_length(lengths[0])
            if declared is None or len(lengths) > 1:
                raise LocalProtocolError(f"content-length: expected one field of digits, got {lengths!r:.80}")
            if status == 204:
                fields = [field for field in fields if field[0] != "content-length"]
        elif not more_content and (content or not empty) and status not in (204, 304):
            fields.append(("content-length", str(len(content))))
        self._empty, self._declared, self._sent = empty, declared, 0
        return line, fields, self.count(content, more_content)

    def count(self, content: bytes, more_content: bool) -> bytes:
        """Count and return the content to send. Raises LocalProtocolError."""
        if self._empty:
            return b""
        self._sent += len(content)
        declared = self._declared
        if declared is not None and (self._sent > declared or (self._sent < declared and not more_content)):
            raise LocalProtocolError(f"content-length is {declared} but the app sent {self._sent} bytes")
        return content


def encode_fields(fields: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
