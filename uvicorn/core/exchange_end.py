"""Response states, and callbacks for the end of an exchange."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any, Final, Protocol, Self

from uvicorn.core.waiters import Waiters

logger = logging.getLogger("uvicorn.app")


class ExchangeState(IntEnum):
    """The state of a response. See the table in `uvicorn.core.exchange`."""

    WAITING = 0
    STREAMING = 1
    COMPLETE = 2
    CLOSED = 3


_COMPLETE: Final = ExchangeState.COMPLETE


class EndListener(Protocol):
    """A listener for the end of an exchange."""

    def on_end(self, exchange: Any) -> object:
        """Handle the end of `exchange`. Must not raise."""


class ExchangeEnd:
    """The callbacks for the end of an exchange. Base class of `HTTPExchange`."""

    __slots__ = ("_close_callbacks", "_watchers", "end_listeners", "half_closed", "state")

    state: ExchangeState
    #: Whether the client has closed its side of the connection; it may still read.
    half_closed: bool
    #: A listener for the end, or a list of callbacks. While this is None, an interface may set it to its own call.
    end_listeners: EndListener | list[Callable[[Any], object]] | None
    _close_callbacks: list[Callable[[], object]] | None
    _watchers: Waiters | None

    def on_end(self, callback: Callable[[Self], object]) -> None:
        """Call `callback(exchange)` once, at the end of the exchange."""
        if self.state >= _COMPLETE:
            callback(self)
        elif self.end_listeners is None:
            self.end_listeners = [callback]
        elif isinstance(self.end_listeners, list):
            self.end_listeners.append(callback)
        else:
            self.end_listeners = [self.end_listeners.on_end, callback]

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call `callback()` once, when the exchange ends or the client half-closes the connection."""
        if self.state >= _COMPLETE or self.half_closed:
            callback()
        elif self._close_callbacks is None:
            self._close_callbacks = [callback]
            self.on_end(ExchangeEnd._call_close_callbacks)
        else:
            self._close_callbacks.append(callback)

    async def wait_disconnect(self) -> None:
        """Wait until the exchange ends, or the client half-closes the connection."""
        if self.state < _COMPLETE and not self.half_closed:
            if self._watchers is None:
                self._watchers = Waiters()
                self.on_close(self._watchers.wake)
            await self._watchers.wait(self._watchers.add())

    def _call_close_callbacks(self) -> None:
        callbacks, self._close_callbacks = self._close_callbacks, None
        run_callbacks(self, callbacks or ())


def run_callbacks(owner: object, callbacks: Iterable[Callable[[], object]]) -> None:
    """Call all `callbacks`. Exceptions are logged."""
    for callback in callbacks:
        try:
            callback()
        except Exception:
            logger.exception("%s: exception in an on_close callback", owner)
