"""Passes exceptions through an adapter, from the application to the caller."""

from __future__ import annotations

from uvicorn.errors import ApplicationError, ResponseAborted
from uvicorn.interfaces.handlers import log_failure


def crossing(error: BaseException) -> Exception:
    """Return `error`, or an ApplicationError in place of an exception that servers treat specially."""
    if isinstance(error, Exception) and not isinstance(error, (OSError, StopIteration)):
        return error
    return ApplicationError.of(error)


def log_uncaught(where: str, error: Exception) -> None:
    """Log an exception that cannot be raised to the caller. ResponseAborted is ignored."""
    if not isinstance(error, ResponseAborted):
        log_failure(where, error)
