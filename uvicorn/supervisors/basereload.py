"""`BaseReload`, an alias of `ChangeReload`."""

from uvicorn.supervisors import ChangeReload as BaseReload

__all__ = ["BaseReload"]
