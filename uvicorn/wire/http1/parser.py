"""Parses HTTP/1.1 requests (RFC 9112). Any split of the stream gives the same result."""

from __future__ import annotations

import re
from typing import Final, Protocol, final

from uvicorn.errors import RemoteProtocolError
from uvicorn.settings import Limits
from uvicorn.wire.http1.chunked import ChunkedDecoder
from uvicorn.wire.http1.head import BARE_LINE_END, EMPTY_LINES, NO_METHOD, USUAL_HEAD, RequestHead, check_first_byte

_BARE_CR: Final = re.compile(rb"\r[^\n]")
_BARE_CR_OR_LF: Final = re.compile(rb"\r[^\n]|(?<!\r)\n")

# The largest head that an idle connection keeps to compare with the next. Browsers send 18 fields, and proxies add 5.
_MEMO_BYTES: Final = 1024
_MEMO_FIELDS: Final = 24

# The last two: before a head, after the CR of an empty line or after a complete one.
_HEAD, _LENGTH, _CHUNKED, _COMPLETE, _REFUSED, _AFTER_CR, _AFTER_EMPTY_LINE = range(7)


class RequestSink(Protocol):
    """The methods that the parser calls. No method may call the parser's `receive_data`."""

    def on_request(self) -> None:
        """Handle a complete head. Requests without content get no `on_message_complete`."""

    def on_content(self, content: bytes) -> None: ...

    def on_message_complete(self) -> None:
        """Handle the end of the current request's content."""


@final
class HTTP1RequestParser(RequestHead):
    """Parses the requests of one connection, one at a time."""

    # A subclass of RequestHead, because a separate object would cost each request another call.

    def __init__(self, sink: RequestSink, limits: Limits) -> None:
        super().__init__(limits)
        #: Unparsed input: part of a head, or pipelined requests.
        self.buffer = bytearray()
        self._sink = sink
        self._state = _HEAD
        self._left = 0
        self._chunked: ChunkedDecoder | None = None
        # Where the request line of a head that is still arriving ends; 0 until it has been checked.
        self._line_end = 0
        # The last head, if its request had no content. A client that repeats it saves the server 3 us.
        self._last_head: bytes | None = None
        # A head no longer than this cannot exceed either limit, so its parts need not be measured.
        self._small = min(limits.max_request_line_bytes, limits.max_header_bytes)

    @property
    def content_left(self) -> int:
        """The number of content bytes still to come, or -1 if the content is chunked."""
        return self._left if self._state != _CHUNKED else -1

    def receive_data(self, data: bytes) -> None:
        """Parse bytes up to the end of one request. Raises RemoteProtocolError."""
        try:
            if self._state != _HEAD:
                self._receive_content(data)
            elif self.buffer:
                self._receive_part_of_head(data)
            elif data == self._last_head:
                if self.pairs is None:
                    # Built once for all repetitions, which saves each one 0.2 us of 5.2.
                    self.pairs = list(zip(*self.fields, strict=True))
                self._state = _COMPLETE
                self._sink.on_request()
            elif (match := USUAL_HEAD.match(data)) is None:
                self._receive_part_of_head(data)
            elif (end := match.end()) == len(data):
                self._take_head(data, match, b"")
            else:
                self._take_head(data[:end], match, data[end:])
        except RemoteProtocolError:
            # Nothing after a rejected request is parsed as a request.
            self._state = _REFUSED
            self.buffer.clear()
            raise

    def next_message(self) -> None:
        """Parse the next request. The current request must be complete and answered."""
        if self._state == _REFUSED:
            return
        self._state = _HEAD
        if self._last_head is None:
            self._forget()
        if self.buffer:
            data = bytes(self.buffer)
            self.buffer.clear()
            self.receive_data(data)

    def detach(self) -> None:
        """Ignore all further bytes, and release the sink."""
        self.stop()
        self._sink = None  # type: ignore[assignment]  # Never called in this state.

    def stop(self) -> None:
        """Ignore all further bytes."""
        self._state = _REFUSED
        self.buffer.clear()

    # Head

    def _receive_part_of_head(self, data: bytes) -> None:
        buffer = self.buffer
        if self._state == _AFTER_CR:
            self._state = _HEAD
            data = b"\r" + data
        searched = max(0, len(buffer) - 3)
        buffer += data
        if buffer[:1] == b"\r":
            # One empty line before a request is a known mistake of old clients (RFC 9112, section 2.2).
            if len(buffer) == 1 and self._state == _HEAD:
                # Not kept in the buffer, where it would count as part of a request.
                self._state = _AFTER_CR
                buffer.clear()
                return
            if self._state == _AFTER_EMPTY_LINE or buffer[1] != 10:
                raise RemoteProtocolError(EMPTY_LINES if self._state == _AFTER_EMPTY_LINE else NO_METHOD)
            self._state = _AFTER_EMPTY_LINE
            del buffer[:2]
            searched = 0
        if not buffer:
            return
        end = buffer.find(b"\r\n\r\n", searched) + 4
        if end > 3:
            head, rest = bytes(buffer[:end]), bytes(buffer[end:])
            buffer.clear()
            self._line_end = 0
            self._take_head(head, USUAL_HEAD.fullmatch(head), rest)
        else:
            self._check_unfinished_head(buffer, searched)

    def _check_unfinished_head(self, head: bytes | bytearray, searched: int = 0) -> None:
        line_end = self._line_end
        if not line_end:
            check_first_byte(head)
            longest_line = self._limits.max_request_line_bytes
            line_end = head.find(b"\n", searched, longest_line + 2) + 1
            if not line_end:
                if _BARE_CR.search(head, searched, longest_line + 2):
                    raise RemoteProtocolError("malformed request line")
                if len(head) >= longest_line + 2:
                    raise RemoteProtocolError(f"request line over {longest_line} bytes", 414)
                return
            self._read_request_line(bytes(head[:line_end]))
            self._line_end = line_end
        longest = line_end + self._limits.max_header_bytes + 2
        if _BARE_CR_OR_LF.search(head, max(line_end - 1, searched), longest):
            raise RemoteProtocolError(BARE_LINE_END)
        if len(head) > longest:
            raise RemoteProtocolError(f"header section over {self._limits.max_header_bytes} bytes", 431)

    def _take_head(self, head: bytes, match: re.Match[bytes] | None, rest: bytes) -> None:
        if len(head) > self._small:
            self._check_unfinished_head(head)
            self._line_end = 0
        # A repetition of a usual head without content sets the same attributes.
        self._last_head = self.pairs = None
        if match is None:
            self._read_head(head)
        elif self._read_usual_head(match, head) and len(head) <= _MEMO_BYTES and len(self.fields[0]) <= _MEMO_FIELDS:
            self._last_head = head
        if not self.keep_alive:
            # llhttp accepts nothing after a head with `connection: close`.
            self._llhttp = None
        if self.content_length == 0:
            self._state = _COMPLETE
            if rest:
                self.buffer += rest
            self._sink.on_request()
            return

        self._sink.on_request()
        # llhttp now waits for the content, which it will not get.
        self._llhttp = None
        if self.content_length > 0:
            self._state = _LENGTH
            self._left = self.content_length
        else:
            self._state = _CHUNKED
            # Without the request line and the empty line.
            size = len(head) - head.find(b"\n") - 3
            self._chunked = ChunkedDecoder(self._limits, size, len(self.fields[0]), self._sink.on_content)
        if rest:
            self._receive_content(rest)

    # Content

    def _receive_content(self, data: bytes) -> None:
        if self._state == _LENGTH:
            if len(data) < self._left:
                self._left -= len(data)
                self._sink.on_content(data)
                return
            rest = data[self._left :]
            data = data[: self._left]
            self._left = 0
        elif self._state == _CHUNKED:
            assert self._chunked is not None
            self._chunked.decode(data)
            if not self._chunked.complete:
                return
            data = b""
            rest = self._chunked.rest
            self._chunked = None
        elif self._state == _COMPLETE:
            self.buffer += data
            return
        elif self._state != _REFUSED:
            self._receive_part_of_head(data)
            return
        else:
            return
        self._state = _COMPLETE
        self.buffer += rest
        if data:
            self._sink.on_content(data)
        self._sink.on_message_complete()
