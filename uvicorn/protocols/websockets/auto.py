"""`AutoWebSocketsProtocol`, which can be imported, but not called."""

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol as AutoWebSocketsProtocol

__all__ = ["AutoWebSocketsProtocol"]
