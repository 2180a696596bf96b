"""What a WebSocket codec calls with what it has read."""

from __future__ import annotations

from typing import Final, Protocol


class WebSocketSink(Protocol):
    """What the codec calls. A call may pause or stop the codec; it must not feed it."""

    def on_text(self, text: str) -> None:
        """A whole text message."""

    def on_bytes(self, data: bytes) -> None:
        """A whole binary message."""

    def on_ping(self, data: bytes) -> None:
        """To be answered by a pong with the same data; answering the last of several will do (section 5.5.3)."""

    def on_pong(self, data: bytes) -> None:
        """The answer to a ping, or not."""

    def on_close(self, code: int, reason: str) -> None:
        """The client closes; 1005 if it does not say why. Nothing is called after it."""

    def on_busy(self) -> None:
        """Many frames have been read in a row, and there may be more: a chance to pause, and let others have a turn."""


class Nobody:
    """The sink of a codec that has been stopped."""

    def on_text(self, text: str) -> None:
        """Never called."""

    def on_bytes(self, data: bytes) -> None:
        """Never called."""

    def on_ping(self, data: bytes) -> None:
        """Never called."""

    def on_pong(self, data: bytes) -> None:
        """Never called."""

    def on_close(self, code: int, reason: str) -> None:
        """Never called."""

    def on_busy(self) -> None:
        """Never called."""


NOBODY: Final = Nobody()
