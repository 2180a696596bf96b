"""A cache of one frame. A server without WebSockets loads this module, but not the codec."""

from __future__ import annotations


class FrameCache:
    """The last message and its uncompressed frame. Used if an application sends the same object to many clients."""

    __slots__ = ("frame", "message")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.message: object = None
        self.frame = b""
