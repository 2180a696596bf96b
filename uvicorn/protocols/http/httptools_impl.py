"""`HttpToolsProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder
from uvicorn.protocols.placeholder import RequestResponseCycle as RequestResponseCycle


class HttpToolsProtocol(ProtocolPlaceholder):
    pass
