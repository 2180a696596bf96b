"""`BaseReload`, another name of `ChangeReload`, for imports only."""

from uvicorn.supervisors import ChangeReload as BaseReload

__all__ = ["BaseReload"]
