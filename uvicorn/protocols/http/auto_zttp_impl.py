"""`AutoZttpProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class AutoZttpProtocol(ProtocolPlaceholder):
    """A class for imports and annotations, without instances."""
