"""A cache of one frame."""

# In a module of its own, so that a server without WebSockets does not load the codec.

from __future__ import annotations


class FrameCache:
    """The last message and its uncompressed frame."""

    __slots__ = ("frame", "message")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.message: object = None
        self.frame = b""
