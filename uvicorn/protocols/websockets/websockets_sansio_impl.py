"""`WebSocketsSansIOProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WebSocketsSansIOProtocol(ProtocolPlaceholder):
    """A class for imports and annotations, without instances."""
