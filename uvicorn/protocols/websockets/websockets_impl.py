"""`WebSocketProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WebSocketProtocol(ProtocolPlaceholder):
    pass
