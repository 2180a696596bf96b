"""Frame cache, in a file of its own so that a server without WebSockets does not load the codec."""

from __future__ import annotations


class FrameCache:
    """The last message and its frame, for connections that are sent the same object next, as in a chat's loop.

    Holds only frames that may be sent on any connection: unmasked and uncompressed.
    """

    __slots__ = ("frame", "message")

    def __init__(self) -> None:
        self.message: object = None
        self.frame = b""

    def forget(self) -> None:
        """Free the message, which may be long."""
        self.message = None
        self.frame = b""
