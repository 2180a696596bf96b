"""`StatReload`, an alias of `ChangeReload`. The public release has a module of this name."""

from uvicorn.supervisors import ChangeReload as StatReload

__all__ = ["StatReload"]
