"""`AutoWebSocketsProtocol`, for imports only."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol as AutoWebSocketsProtocol

__all__ = ["AutoWebSocketsProtocol"]
