"""`StatReload`, another name of `ChangeReload`, under the public release's module name."""

from uvicorn.supervisors import ChangeReload as StatReload

__all__ = ["StatReload"]
