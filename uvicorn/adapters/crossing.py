"""Exceptions that an adapter raises from the application to its caller."""

from __future__ import annotations

from uvicorn.errors import ApplicationError, ResponseAborted
from uvicorn.interfaces.handlers import log_failure


def crossing(error: BaseException) -> Exception:
    """Return `error`, as the cause of an ApplicationError if its class has another meaning for hosts."""
    if isinstance(error, Exception) and not isinstance(error, (OSError, StopIteration)):
        return error
    return ApplicationError.of(error)


def log_uncaught(where: str, error: Exception) -> None:
    """Log an exception that the caller does not receive, unless it is for an aborted response, already logged."""
    if not isinstance(error, ResponseAborted):
        log_failure(where, error)
