"""`WebSocketsSansIOProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WebSocketsSansIOProtocol(ProtocolPlaceholder):
    pass
