"""`WebSocketProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WebSocketProtocol(ProtocolPlaceholder):
    """A class for imports and annotations, without instances."""
