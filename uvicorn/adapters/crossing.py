"""Exceptions of an application that an adapter raises to its caller."""

from __future__ import annotations

from uvicorn.errors import ApplicationError, ResponseAborted
from uvicorn.interfaces.handlers import log_failure


def crossing(error: BaseException) -> Exception:
    """Return `error`. If hosts would misread `error`, return an ApplicationError whose cause is `error`."""
    if isinstance(error, Exception) and not isinstance(error, (OSError, StopIteration)):
        return error
    return ApplicationError.of(error)


def log_uncaught(where: str, error: Exception) -> None:
    """Log an exception that cannot be raised to the caller. A ResponseAborted has already been logged."""
    if not isinstance(error, ResponseAborted):
        log_failure(where, error)
