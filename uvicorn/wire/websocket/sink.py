"""The receiver of a WebSocket codec's messages."""

from __future__ import annotations

from typing import Protocol


class WebSocketSink(Protocol):
    """The methods that the codec calls. A method may pause or stop the codec, but not feed it."""

    def on_text(self, text: str) -> None: ...

    def on_bytes(self, data: bytes) -> None: ...

    def on_ping(self, data: bytes) -> None:
        """Send a pong with the same data. One pong may answer several pings, with the last data (section 5.5.3)."""

    def on_pong(self, data: bytes) -> None: ...

    def on_close(self, code: int, reason: str) -> None:
        """Handle the client's close frame. For a frame without a code, `code` is 1005. No other call follows."""

    def on_busy(self) -> None:
        """Called after many frames in a row. Pause the codec if other connections should be served first."""
