"""`WatchFilesReload`: `ChangeReload`, which uses watchfiles if it is installed and looks at the files otherwise."""

from uvicorn.supervisors import ChangeReload as WatchFilesReload

__all__ = ["WatchFilesReload"]
