"""`WatchFilesReload`, an alias of `ChangeReload`."""

from uvicorn.supervisors import ChangeReload as WatchFilesReload

__all__ = ["WatchFilesReload"]
