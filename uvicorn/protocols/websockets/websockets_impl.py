"""`WebSocketProtocol`, by name only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WebSocketProtocol(ProtocolPlaceholder):
    """By name only."""
