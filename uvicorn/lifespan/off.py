"""`LifespanOff`, by name only; `Config.lifespan_class` makes the lifespan of an application."""

from uvicorn.protocols.placeholder import Placeholder


class LifespanOff(Placeholder):
    """By name only."""
