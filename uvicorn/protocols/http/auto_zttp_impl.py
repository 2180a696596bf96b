"""`AutoZttpProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder


class AutoZttpProtocol(ProtocolPlaceholder):
    pass
