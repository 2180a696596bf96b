"""`WSProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WSProtocol(ProtocolPlaceholder):
    """A class for imports and annotations, without instances."""
