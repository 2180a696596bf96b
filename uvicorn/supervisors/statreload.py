"""`StatReload`, under the public release's module name: another name of `ChangeReload`."""

from uvicorn.supervisors import ChangeReload as StatReload

__all__ = ["StatReload"]
