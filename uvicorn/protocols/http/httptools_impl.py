"""`HttpToolsProtocol`, by name only."""

from uvicorn.protocols.placeholder import Placeholder, ProtocolPlaceholder


class HttpToolsProtocol(ProtocolPlaceholder):
    """By name only."""


class RequestResponseCycle(Placeholder):
    """By name only."""
