"""Decides which share of keys gets a Shift's new application."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Final, final

from uvicorn.errors import ConfigError
from uvicorn.log_limit import LogLimit

logger = logging.getLogger("uvicorn.app")

_CALL_SECONDS: Final = 1.0
# A little more than `_CALL_SECONDS`: an event loop may call early by the resolution of its clock.
_PAUSE_SECONDS: Final = 1.05

_ALL: Final = 2**64


def check_weight(weight: Any, has_key: bool) -> float:
    """Return `weight`. Raises ConfigError unless it is 0 to 100, or without a key, 0 or 100."""
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight <= 100:
        raise ConfigError(f"weight: expected a number from 0 to 100, got {weight!r:.100}")
    if 0 < weight < 100 and not has_key:
        raise ConfigError(f"weight: {weight:g} percent needs a key, such as key=cookie('visitor')")
    return weight


def is_new(weight: float, name: str, key: str) -> bool:
    """Return whether requests with this key go to the new application."""
    # The same in every process and on every host. A higher weight moves no key back.
    digest = blake2b(f"{name}\0{key}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) < int(weight / 100 * _ALL)


@final
class WeightFunction:
    """Keeps the last weight that a function has returned."""

    def __init__(
        self, function: Callable[[], Any], has_key: bool, where: object, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`where` names the Shift in log lines."""
        self.weight: float = 0
        self._function = function
        self._has_key = has_key
        self._where = where
        self._clock = clock
        self._next_call = float("-inf")
        self._failures = LogLimit(clock=clock)
        self._running = threading.Lock()

    def refresh(self) -> None:
        """Call the function, at most once a second. Thread-safe. Never raises."""
        if not self._running.acquire(blocking=False):
            return
        try:
            now = self._clock()
            if now >= self._next_call:
                self._next_call = now + _CALL_SECONDS
                self.weight = check_weight(self._function(), self._has_key)
        # SystemExit too: the caller is a pool thread, where it would only end the refreshing.
        except BaseException as error:
            if self._failures.admits():
                logger.warning(
                    "%r: the weight function failed with %.200r; the weight stays %g", self._where, error, self.weight
                )
        finally:
            self._running.release()


# No task: a server without lifespan may close the event loop without a shutdown, or wait for all tasks.
@final
class Timer:
    """Refreshes a weight once a second on a pool thread."""

    def __init__(self, weight: WeightFunction) -> None:
        self._weight = weight
        self._loop = asyncio.get_running_loop()
        self._handle: asyncio.Handle = self._loop.call_soon(self._refresh)
        self._stopped = False

    def stop(self) -> None:
        self._stopped = True
        self._handle.cancel()

    def _refresh(self) -> None:
        self._loop.run_in_executor(None, self._weight.refresh).add_done_callback(self._refreshed)

    def _refreshed(self, future: object) -> None:
        if not self._stopped:
            self._handle = self._loop.call_later(_PAUSE_SECONDS, self._refresh)
