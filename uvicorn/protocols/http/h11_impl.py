"""`H11Protocol`, for imports only."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder
from uvicorn.protocols.placeholder import RequestResponseCycle as RequestResponseCycle


class H11Protocol(ProtocolPlaceholder):
    pass
