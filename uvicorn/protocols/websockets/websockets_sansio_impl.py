"""`WebSocketsSansIOProtocol`, which can be imported, but not called."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class WebSocketsSansIOProtocol(ProtocolPlaceholder): ...
