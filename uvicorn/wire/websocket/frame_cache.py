"""What connections share, without what it takes to be one: a server that has no WebSockets loads none of that."""

from __future__ import annotations


class FrameCache:
    """The message that was framed last, for connections that are sent the same object next: a chat's loop over clients.

    Only frames that any connection may be sent are kept: neither masked nor compressed.
    """

    __slots__ = ("frame", "message")

    def __init__(self) -> None:
        self.message: object = None
        self.frame = b""

    def forget(self) -> None:
        """Let go of the message, which may be long."""
        self.message = None
        self.frame = b""
