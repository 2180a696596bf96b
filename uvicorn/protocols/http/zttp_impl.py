"""`ZttpProtocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder
from uvicorn.protocols.placeholder import RequestResponseCycle as RequestResponseCycle


class ZttpProtocol(ProtocolPlaceholder):
    pass
