"""Passes responses and exceptions through an adapter, from the application to the server around the adapter."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable

from uvicorn.concurrency.flow_control import FlowControl
from uvicorn.core.exchange import COMPLETE, HTTPExchange, HTTPGateway
from uvicorn.errors import ApplicationError, ResponseAborted
from uvicorn.interfaces.handlers import log_failure
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.app")


def crossing(error: BaseException) -> Exception:
    """Return `error`, or an ApplicationError in place of an exception that servers treat specially."""
    if isinstance(error, Exception) and not isinstance(error, (OSError, StopIteration)):
        return error
    return ApplicationError.of(error)


def log_uncaught(where: str, error: Exception) -> None:
    """Log an exception that cannot be raised to the caller. ResponseAborted is ignored."""
    if not isinstance(error, ResponseAborted):
        log_failure(where, error)


class AdapterGateway(HTTPGateway):
    """Base class of the gateways to another server, with flow control."""

    #: The server, for warnings.
    server = "the server around the adapter"
    exchange: HTTPExchange | None
    # Class attributes, because most requests never change them: storing one costs 50 ns.
    # The application's exception, until it is raised in the server.
    _failure: Exception | None = None
    # An error that is raised in both the server and the application. Only for the event loop's thread.
    _fault: weakref.ref[Exception] | None = None

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._backlog = FlowControl()

    @property
    def write_paused(self) -> bool:  # type: ignore[override]
        return self._backlog.above_high_water

    def pass_failure(self, exchange: HTTPExchange, error: BaseException) -> bool:
        """Unless the response has ended, make the adapter raise `error`. Return whether the adapter raises `error`."""
        if exchange.state >= COMPLETE:
            return self._fault is not None and self._fault() is error
        self._fail(crossing(error))
        return True

    def take_failure(self) -> Exception:
        """Return the failure and forget it. A caller that raises the failure must not store it in a variable."""
        # A variable in a frame of the traceback would be a reference cycle.
        failure, self._failure = self._failure, None
        assert failure is not None
        return failure

    def has_ended(self) -> bool:
        return self.exchange is None or self.exchange.state >= COMPLETE

    async def drain(self) -> None:
        await self._backlog.wait(self.has_ended)

    def last_send(self) -> Callable[[], object] | None:
        return self._backlog.last_send()

    def _fail(self, failure: Exception) -> None:
        """Make the adapter raise `failure` to the server."""
        raise NotImplementedError

    def _has_room(self, exchange: HTTPExchange, size: int) -> bool:
        """Return whether `size` more bytes may be queued, and abort the response if not."""
        shortage = self._backlog.shortage(size, self._settings)
        if shortage:
            logger.warning("%s: response aborted: %s reads too slowly, %s", exchange, self.server, shortage)
            exchange.break_off("too much unsent")
        return not shortage
