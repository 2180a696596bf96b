"""`WSProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WSProtocol(ProtocolPlaceholder):
    pass
