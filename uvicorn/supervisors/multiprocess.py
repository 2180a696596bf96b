"""`Multiprocess` under the public `uvicorn` release's module name."""

from uvicorn.supervisors import Multiprocess

__all__ = ["Multiprocess"]
