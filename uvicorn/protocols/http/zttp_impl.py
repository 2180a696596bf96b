"""`ZttpProtocol`, by name only."""

from uvicorn.protocols.placeholder import Placeholder, ProtocolPlaceholder


class ZttpProtocol(ProtocolPlaceholder):
    """By name only."""


class RequestResponseCycle(Placeholder):
    """By name only."""
