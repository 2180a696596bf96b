"""`FlowControl`, which can be imported, but not called."""

from typing import Final

from uvicorn.protocols.placeholder import Placeholder

CLOSE_HEADER: Final = (b"connection", b"close")
HIGH_WATER_LIMIT: Final = 65536


class FlowControl(Placeholder): ...
