"""`Multiprocess`, for programs that import it from the module where the public `uvicorn` release has it."""

from uvicorn.supervisors import Multiprocess

__all__ = ["Multiprocess"]
