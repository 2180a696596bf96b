"""A client that sends given bytes, and returns the response unchanged."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.waits import LONGEST_WAIT


@dataclass
class Answer:
    """A response. `complete` is false if it was truncated."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    content: bytes
    complete: bool

    def values(self, name: str) -> list[str]:
        """Return the values of all fields called `name`."""
        return [value for field, value in self.fields if field == name]


def head_of(method: str, target: str | bytes, fields: Sequence[tuple[str, str]] = (), version: str = "1.1") -> bytes:
    """Return a request head, with the same host for every port."""
    octets = target.encode("latin-1") if isinstance(target, str) else target
    lines = [(name, value) for name, value in (("Host", "example.test"), *fields, ("Connection", "close"))]
    return b"%s %s HTTP/%s\r\n%s\r\n" % (
        method.encode(),
        octets,
        version.encode(),
        "".join(f"{name}: {value}\r\n" for name, value in lines).encode("latin-1"),
    )


def connect(port: int) -> socket.socket:
    """Connect to a port of this machine."""
    return socket.create_connection(("127.0.0.1", port), LONGEST_WAIT)


def answer_to(port: int, method: str, head: bytes, pieces: Iterable[bytes] = ()) -> Answer:
    """Send a request on a new connection, and read the response to its end."""
    with connect(port) as connection:
        try:
            connection.sendall(head)
            for piece in pieces:
                connection.sendall(piece)
        except (BrokenPipeError, ConnectionResetError):
            # The server need not read everything before it answers.
            pass
        return read_answer(connection, method)


def read_answer(connection: socket.socket, method: str = "GET") -> Answer:
    """Read a response from a connection."""
    response = http.client.HTTPResponse(connection, method=method)
    with response:
        response.begin()
        content, complete = bytearray(), True
        try:
            while piece := response.read1():
                content += piece
            # Of a known length, `read1` does not say that it is short.
            complete = not response.length
        except (http.client.IncompleteRead, ConnectionResetError):
            complete = False
        fields = [(name.lower(), value) for name, value in response.getheaders()]
        return Answer(response.status, response.reason, fields, bytes(content), complete)


def ask(
    port: int,
    target: str | bytes = "/",
    *,
    method: str = "GET",
    fields: Sequence[tuple[str, str]] = (),
    content: bytes | None = None,
    chunks: Sequence[bytes] | None = None,
    version: str = "1.1",
) -> Answer:
    """Send a request with `content` as a whole, or in `chunks`."""
    if chunks is not None:
        head = head_of(method, target, (*fields, ("Transfer-Encoding", "chunked")), version)
        return answer_to(port, method, head, [*(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks), b"0\r\n\r\n"])
    if content is not None:
        fields = (*fields, ("Content-Length", str(len(content))))
    head = head_of(method, target, fields, version)
    return answer_to(port, method, head, [content] if content else [])
