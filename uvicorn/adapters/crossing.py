"""Exceptions of an application on their way to the caller of its adapter."""

from __future__ import annotations

import logging

from uvicorn.errors import ApplicationError, ResponseAborted

logger = logging.getLogger("uvicorn.app")


def crossing(error: BaseException) -> Exception:
    """The exception that the caller of an adapter receives for `error`: `error` itself if no host misreads it."""
    if isinstance(error, Exception) and not isinstance(error, (OSError, StopIteration)):
        return error
    return ApplicationError.of(error)


def log_uncaught(where: str, error: Exception) -> None:
    """Log an exception that its caller no longer receives; a response that was broken off has been logged."""
    if not isinstance(error, ResponseAborted):
        logger.error("%s: exception in the application", where, exc_info=error)
