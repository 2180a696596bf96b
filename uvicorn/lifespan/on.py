"""`LifespanOn`, for imports only. `Config.lifespan_class` makes the lifespan of an application."""

from uvicorn.protocols.placeholder import Placeholder


class LifespanOn(Placeholder):
    pass
