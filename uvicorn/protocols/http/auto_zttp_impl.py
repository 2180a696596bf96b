"""`AutoZttpProtocol`, by name only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class AutoZttpProtocol(ProtocolPlaceholder):
    """By name only."""
