"""`HttpToolsProtocol`, for imports only."""

from uvicorn.protocols.placeholder import Placeholder, ProtocolPlaceholder


class HttpToolsProtocol(ProtocolPlaceholder):
    """A class for imports and annotations, without instances."""


class RequestResponseCycle(Placeholder):
    """A class for imports and annotations, without instances."""
