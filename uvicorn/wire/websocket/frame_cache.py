"""A cache of one frame. A server without WebSockets loads this module, but not the codec."""

from __future__ import annotations


class FrameCache:
    """The last message object and its uncompressed frame. A message to many clients is encoded once."""

    __slots__ = ("frame", "message")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.message: object = None
        self.frame = b""
