"""The content of a request. OPEN content becomes WHOLE or BROKEN."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final, Protocol, final

from uvicorn.core.waiters import Waiters
from uvicorn.errors import ClientDisconnected, LocalProtocolError


class ContentState(IntEnum):
    OPEN = 0
    WHOLE = 1
    BROKEN = 2


# Unpacked for mypy, as in `exchange`.
OPEN, WHOLE, BROKEN = ContentState

# A piece of this size is not joined to the next pieces: the copy would cost more than a second receive.
_LARGE_BYTES: Final = 16384


class ContentTaker(Protocol):
    """Receives request content on the event loop's thread."""

    def take_content(self, content: bytes) -> int:
        """Take `content`. Return the number of bytes buffered above the high-water mark."""

    def end_content(self, whole: bool) -> None:
        """Handle the end of the content. If the content ended early, `whole` is false."""


@final
class RequestContent:
    """The buffer of a request's content. After `feed_eof`, `feed` drops content."""

    __slots__ = ("_pieces", "_receivers", "_taker", "asked", "buffered_bytes", "state")

    def __init__(self) -> None:
        self.state = OPEN
        self.asked = False
        #: Bytes that have arrived and were not taken; with a taker, the bytes above its high-water mark.
        self.buffered_bytes = 0
        self._pieces: list[bytes] | None = None
        self._receivers: Waiters | None = None
        self._taker: ContentTaker | None = None

    # For gateways

    def feed(self, content: bytes) -> None:
        """Pass `content` to the taker. Without a taker, buffer `content`."""
        if self.state is OPEN:
            if self._taker is not None:
                self.buffered_bytes = self._taker.take_content(content)
                return
            if self._pieces is None:
                self._pieces = [content]
            else:
                self._pieces.append(content)
            self.buffered_bytes += len(content)
            if self._receivers is not None:
                self._receivers.wake()
                # The end of the content, which often follows at once, need not wake them again.
                self._receivers = None

    def feed_eof(self) -> None:
        self._end(WHOLE)

    def break_off(self) -> None:
        """Mark the content as incomplete (BROKEN)."""
        self._end(BROKEN)

    def _end(self, state: ContentState) -> None:
        if self.state is OPEN:
            self.state = state
            if self._taker is not None:
                taker, self._taker = self._taker, None
                taker.end_content(state is WHOLE)
            if self._receivers is not None:
                self._receivers.wake()

    # For the exchange

    def take(self) -> tuple[bytes, bool] | None:
        """Return `(content, more_follows)`, or None if the caller must wait. Raises ClientDisconnected."""
        pieces = self._pieces
        if pieces is None:
            if self.state is OPEN:
                return None
            if self.state is BROKEN:
                raise ClientDisconnected("the client disconnected before its request was complete")
            return b"", False
        content = pieces[0]
        if len(pieces) > 1:
            if len(content) >= _LARGE_BYTES:
                del pieces[0]
                self.buffered_bytes -= len(content)
                return content, True
            content = b"".join(pieces)
        self._pieces = None
        self.buffered_bytes = 0
        return content, self.state is not WHOLE

    def take_whole(self) -> bytes | None:
        if self.state is not WHOLE:
            return None
        content = b"".join(self._pieces or ())
        self._pieces = None
        self.buffered_bytes = 0
        return content

    def receivers(self) -> Waiters:
        if self._receivers is None:
            self._receivers = Waiters()
        return self._receivers

    def pass_to(self, taker: ContentTaker) -> None:
        """Pass buffered and later content to `taker`."""
        pieces, self._pieces = self._pieces, None
        for piece in pieces or ():
            self.buffered_bytes = taker.take_content(piece)
        if self.state is OPEN:
            self._taker = taker
        else:
            taker.end_content(self.state is WHOLE)


NO_CONTENT: Final = RequestContent()
NO_CONTENT.feed_eof()
NO_CONTENT.asked = True


def as_bytes(content: Any) -> bytes:
    if isinstance(content, (bytes, bytearray, memoryview)):
        return bytes(content)
    raise not_bytes(content)


def not_bytes(content: object) -> LocalProtocolError:
    return LocalProtocolError(f"content: expected bytes, got {type(content).__name__} {content!r:.100}")
