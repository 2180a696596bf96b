"""`LifespanOff`, which can be imported but not called. `Config.lifespan_class` makes the lifespan of an application."""

from uvicorn.protocols.placeholder import Placeholder


class LifespanOff(Placeholder):
    pass
