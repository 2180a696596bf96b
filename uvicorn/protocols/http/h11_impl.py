"""`H11Protocol`, which can be imported, but not called."""

from uvicorn.protocols.placeholder import ProtocolPlaceholder
from uvicorn.protocols.placeholder import RequestResponseCycle as RequestResponseCycle


class H11Protocol(ProtocolPlaceholder): ...
