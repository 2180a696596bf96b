"""`WSProtocol`, by name only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WSProtocol(ProtocolPlaceholder):
    """By name only."""
