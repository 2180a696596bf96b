"""Follows WebSocket frames by their headers, without decoding payloads (RFC 6455, section 5.2)."""

from __future__ import annotations

from typing import Final, final

from uvicorn.wire.websocket.encoder import CLOSE

# The largest head of a 101 response that is followed. Known libraries send less than 1 KiB.
_MOST_HEAD_BYTES: Final = 16384

_HEAD_END: Final = b"\r\n\r\n"
_SWITCHED: Final = b"HTTP/1.1 101"


@final
class FrameFollower:
    """Follows frames in one direction. With `has_head`, the stream begins with a 101 response."""

    __slots__ = ("_header", "_head", "_is_lost", "_left", "has_closed")

    def __init__(self, has_head: bool) -> None:
        # The incomplete head of the response; None after its end.
        self._head: bytearray | None = bytearray() if has_head else None
        # The first bytes of an incomplete header of a frame.
        self._header = b""
        # The bytes of the current payload that are still to come.
        self._left = 0
        # Whether the stream has other bytes than a 101 response and frames.
        self._is_lost = False
        #: Whether a close frame has begun. No frame may follow it.
        self.has_closed = False

    @property
    def is_between_frames(self) -> bool:
        """Whether a frame may be inserted now."""
        return self._head is None and not (self.has_closed or self._is_lost or self._header or self._left)

    def follow(self, data: bytes) -> None:
        """Advance past the next bytes of the stream."""
        if self._head is not None:
            data = self._follow_head(data)
        if self.has_closed or self._is_lost:
            return
        start = self._left
        if self._header:
            data = self._header + data
        end = len(data)
        # A header has two to fourteen bytes; its second byte determines how many.
        while start + 1 < end:
            second = data[start + 1]
            length = second & 0x7F
            payload_at = start + 2
            if length > 125:
                payload_at += 2 if length == 126 else 8
                length = int.from_bytes(data[start + 2 : payload_at])
            if second & 0x80:
                payload_at += 4
            if payload_at > end:
                break
            if data[start] & 0x0F == CLOSE:
                self.has_closed = True
                break
            if length >> 63:
                self._is_lost = True
                break
            start = payload_at + length
        self._header = data[start:]
        self._left = max(0, start - end)

    def _follow_head(self, data: bytes) -> bytes:
        head = self._head
        assert head is not None
        searched = max(0, len(head) - len(_HEAD_END) + 1)
        head += data
        end = head.find(_HEAD_END, searched)
        if head[: len(_SWITCHED)] != _SWITCHED[: len(head)] or (end < 0 and len(head) > _MOST_HEAD_BYTES):
            self._is_lost = True
        elif end < 0:
            return b""
        self._head = None
        return bytes(head[end + len(_HEAD_END) :])
