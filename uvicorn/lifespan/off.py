"""`LifespanOff`, which can be imported, but not called."""

from uvicorn.protocols.placeholder import Placeholder


class LifespanOff(Placeholder): ...
