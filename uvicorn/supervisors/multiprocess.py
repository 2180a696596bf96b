"""`Multiprocess` under the public release's module name."""

from uvicorn.supervisors import Multiprocess

__all__ = ["Multiprocess"]
