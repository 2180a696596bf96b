"""`BaseReload`: `ChangeReload`, which uses watchfiles if it is installed and looks at the files otherwise."""

from uvicorn.supervisors import ChangeReload as BaseReload

__all__ = ["BaseReload"]
