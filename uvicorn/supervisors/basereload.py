"""`BaseReload`, another name of `ChangeReload`, under the public release's module name."""

from uvicorn.supervisors import ChangeReload as BaseReload

__all__ = ["BaseReload"]
