"""`StatReload`, an alias of `ChangeReload`."""

from uvicorn.supervisors import ChangeReload as StatReload

__all__ = ["StatReload"]
