"""A WSGI host that checks applications against PEP 3333, and records the response for the client."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_from_bytes
from wsgiref.util import FileWrapper

HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade")
)
_STATUS = re.compile(r"[2-5][0-9][0-9](?: [^\0-\x08\x0a-\x1f\x7f]*)?")
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[^\0-\x08\x0a-\x1f\x7f]*")

Head = tuple[str, list[tuple[str, str]]]


@dataclass(frozen=True)
class Request:
    """A client's request, with the host's part of the environ."""

    method: str = "GET"
    script_name: bytes = b""
    path_info: bytes = b"/"
    query: str = ""
    #: How the host shows the target as it was sent: not at all, or percent-encoded in one of three ways.
    raw: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    #: What the host puts into environ itself, of any type.
    own: tuple[tuple[str, object], ...] = ()
    content_bytes: int = 0
    #: What marks the end of the content: CONTENT_LENGTH ("length"), the input ("end"), or nothing, without content.
    ended_by: str = ""
    #: Most bytes that the input gives at a time.
    piece_bytes: int = 1000
    #: What happens before the content is whole, and after how many bytes: the input "ends" or "raises".
    breaks: tuple[str, int] | None = None
    #: The client leaves when it has had so many bytes of the response's content.
    leaves_after: int | None = None

    @property
    def content(self) -> bytes:
        """Lines of many different lengths, all distinct."""
        lines = b"\n".join(b"%d" % number * (number % 9) for number in range(self.content_bytes // 4 + 1))
        return (lines * 2)[: self.content_bytes].ljust(self.content_bytes, b".")

    def environ(self, strict: bool) -> dict[str, Any]:
        """Build a host's environ. A `strict` host reports truncated content, and ends the input after the content."""
        path = self.script_name + self.path_info
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": self.script_name.decode("latin-1"),
            "PATH_INFO": self.path_info.decode("latin-1"),
            "QUERY_STRING": self.query,
            "SERVER_NAME": "example.org",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BufferedReader(_Input(self, strict), 1000),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            **dict(self.fields),
            **dict(self.own),
        }
        if self.raw:
            target = _RAW[self.raw](path) + ("?" + self.query if self.query else "")
            environ["RAW_URI" if self.raw == "all" else "REQUEST_URI"] = target
        if self.ended_by == "length":
            environ["CONTENT_LENGTH"] = str(self.content_bytes)
        elif self.ended_by == "end":
            environ["wsgi.input_terminated"] = True
            environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        return environ


_RAW: dict[str, Callable[[bytes], str]] = {
    "all": lambda path: "/" + "".join(f"%{octet:02X}" for octet in path[1:]),
    "lower": lambda path: "/" + "".join(f"%{octet:02x}" for octet in path[1:]),
    "needed": lambda path: quote_from_bytes(path, safe="/!$&'()*+,;=:@~"),
}


class _Input(io.RawIOBase):
    """The `wsgi.input` of a request."""

    def __init__(self, request: Request, strict: bool) -> None:
        self._content = request.content
        self._piece_bytes = request.piece_bytes
        self._breaks = request.breaks
        self._strict = strict
        self._at = 0
        if self._breaks:
            self._content = self._content[: self._breaks[1]]
        elif request.ended_by == "length" and not strict:
            # Hosts that hand the socket itself over go on with the next request (wsgiref).
            self._content += b"GET /next HTTP/1.1\r\n\r\n"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._content[self._at : self._at + min(len(buffer), self._piece_bytes)]
        if not piece and self._breaks:
            if self._breaks[0] == "raises":
                raise ValueError("whatever this host raises")
            if self._strict:
                raise OSError("the client went away")
        self._at += len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


@dataclass
class Received:
    """The response as the client received it."""

    status: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    content: bytes = b""
    #: The response has ended as responses end; otherwise the connection broke off, or the client `left`.
    complete: bool = False
    left: bool = False
    #: The application failed before its output: the host's own page, status 500.
    failed: bool = False
    #: More, or less, than content-length said.
    overran: bool = False
    fell_short: bool = False
    #: What the application did that PEP 3333 forbids.
    mistakes: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        return int(self.status[:3])

    @property
    def has_no_content(self) -> bool:
        return self.status[:3] in ("204", "304")


class StrictHost:
    """Serves one request."""

    def __init__(self, request: Request) -> None:
        self.received = Received()
        self._request = request
        self._head: Head | None = None
        self._head_sent = False
        self._declared: int | None = None

    def serve(self, app: Callable[..., Any], environ: dict[str, Any]) -> Received:
        """Call, iterate, close. An exception ends only this request."""
        received = self.received
        try:
            iterable = app(environ, self.start_response)
            try:
                self._iterate(iterable)
            finally:
                if hasattr(iterable, "close"):
                    self._close(iterable.close)
        except BaseException:
            if not self._head_sent and not self._client_has_left():
                received.failed = received.complete = True
                received.status = "500 Internal Server Error"
        received.left = self._client_has_left()
        return received

    def start_response(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        """PEP 3333, "The start_response() Callable"."""
        if exc_info is not None:
            if self._head_sent:
                raise exc_info[1].with_traceback(exc_info[2])
        elif self._head is not None:
            raise AssertionError("start_response was called twice")
        self._demand(type(status) is str and _STATUS.fullmatch(status), f"status {status!r}")
        self._demand(type(headers) is list, f"headers {headers!r}")
        for item in headers:
            self._demand(type(item) is tuple and len(item) == 2, f"header {item!r}")
            name, value = item
            self._demand(type(name) is str and _NAME.fullmatch(name), f"name {name!r}")
            self._demand(type(value) is str and _VALUE.fullmatch(value) and _is_latin_1(value), f"value {value!r}")
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        self._demand(len(lengths) < 2 and all(value.isdigit() for value in lengths), f"content-length {lengths}")
        self._declared = int(lengths[0]) if lengths else None
        self._head = (status, list(headers))
        return self._write

    def _iterate(self, iterable: Iterable[bytes]) -> None:
        received = self.received
        iterator = iter(iterable)
        while True:
            if self._client_has_left():
                return
            try:
                content = next(iterator)
            except StopIteration:
                break
            self._send(content)
            if received.overran:
                break
        self._send_head()
        received.fell_short = self._limit() is not None and len(received.content) < (self._limit() or 0)
        received.complete = not received.fell_short

    def _write(self, content: bytes) -> None:
        if self._client_has_left():
            raise BrokenPipeError("the client has left")
        self._send(content)
        if self.received.overran:
            raise AssertionError("write() past content-length")

    def _send(self, content: bytes) -> None:
        received = self.received
        self._demand(type(content) is bytes, f"content of type {type(content).__name__}")
        if not content:
            return
        self._send_head()
        if self._request.method == "HEAD" or received.has_no_content:
            return
        limit = self._limit()
        received.content += content
        if limit is not None and len(received.content) > limit:
            received.content = received.content[:limit]
            received.overran = True

    def _send_head(self) -> None:
        if not self._head_sent:
            if self._head is None:
                raise AssertionError("content came before start_response was called")
            self._head_sent = True
            self.received.status, self.received.headers = self._head

    def _limit(self) -> int | None:
        """Return the content-length to enforce, or None."""
        return None if self._request.method == "HEAD" or self.received.has_no_content else self._declared

    def _client_has_left(self) -> bool:
        leaves_after = self._request.leaves_after
        return leaves_after is not None and len(self.received.content) >= leaves_after

    def _close(self, close: Callable[[], object]) -> None:
        try:
            close()
        except BaseException:
            # All that was to be sent has been, or something else is being raised already.
            return

    def _demand(self, holds: object, what: str) -> None:
        if not holds:
            self.received.mistakes.append(what)
            raise AssertionError(what)


def _is_latin_1(text: str) -> bool:
    return all(ord(character) < 256 for character in text)
