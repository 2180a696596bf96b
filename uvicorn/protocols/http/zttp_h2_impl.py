"""`ZttpH2Protocol`, by name only."""

from uvicorn.protocols.placeholder import Placeholder, ProtocolPlaceholder


class ZttpH2Protocol(ProtocolPlaceholder):
    """By name only."""


class RequestResponseCycle(Placeholder):
    """By name only."""
