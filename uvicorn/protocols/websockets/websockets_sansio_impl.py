"""`WebSocketsSansIOProtocol`, by name only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WebSocketsSansIOProtocol(ProtocolPlaceholder):
    """By name only."""
