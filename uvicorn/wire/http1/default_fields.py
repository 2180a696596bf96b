"""The fields that the server adds to each response."""

from __future__ import annotations

from email.utils import formatdate


class DefaultFields:
    """Lines for `server`, `date` and the configured fields."""

    def __init__(self, server: bytes = b"uvicorn", send_date: bool = True, more: bytes = b"") -> None:
        """`more` contains the configured lines. A `server` line in `more` replaces `server`."""
        self._send_date = send_date
        lines = more.splitlines(keepends=True)
        given = b"".join(line for line in lines if line.startswith(b"server: "))
        self._more = more = b"".join(line for line in lines if not line.startswith(b"server: "))
        self.server = given or (b"server: " + server + b"\r\n" if server else b"")
        self.date = b""
        self.block = self.server + more

    def update(self, unix_seconds: float) -> None:
        if self._send_date:
            self.date = b"date: " + formatdate(unix_seconds, usegmt=True).encode() + b"\r\n"
            self.block = self.server + self.date + self._more

    def without(self, name: bytes, block: bytes) -> bytes:
        """Return `block` without the default field `name`."""
        line = self.server if name == b"server" else self.date
        return block.replace(line, b"") if line else block
