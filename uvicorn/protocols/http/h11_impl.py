"""`H11Protocol`, by name only."""

from uvicorn.protocols.placeholder import Placeholder, ProtocolPlaceholder


class H11Protocol(ProtocolPlaceholder):
    """By name only."""


class RequestResponseCycle(Placeholder):
    """By name only."""
