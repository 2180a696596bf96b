"""`Multiprocess` at the import path of the public `uvicorn` release."""

from uvicorn.supervisors import Multiprocess

__all__ = ["Multiprocess"]
