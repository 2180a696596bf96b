"""Logs outages of the backend, with the number of failed messages."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import final

from uvicorn.errors import BroadcastUnavailable
from uvicorn.escape import escaped
from uvicorn.log_limit import LOG_SECONDS

logger = logging.getLogger("uvicorn.broadcast")


@final
class Outage:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The begin of the outage.
        self._since: float | None = None
        # Whether the begin has been logged. Within a minute of the last line, failures are only counted.
        self._is_logged = False
        self._next_line = 0.0
        self._counted = 0
        self._total = 0
        self._error = ""

    def __bool__(self) -> bool:
        return self._since is not None

    def failed(self, error: BroadcastUnavailable) -> None:
        # Servers then log no traceback for it.
        error.reported = True
        now = self._clock()
        if self._since is None:
            self._since, self._total, self._is_logged = now, 0, False
        self._total += 1
        self._counted += 1
        self._error = str(error)
        if now >= self._next_line:
            if self._is_logged:
                self.count()
            else:
                logger.warning("groups: publishing fails: %s", escaped(error))
                self._is_logged = True
                self._counted -= 1
                self._next_line = now + LOG_SECONDS

    def count(self) -> None:
        """If failures have not been logged yet, log their number."""
        if self._counted:
            logger.warning(
                "groups: publishing still fails; %d messages failed since the last log line: %s",
                self._counted,
                self._error,
            )
            self._counted = 0
            self._next_line = self._clock() + LOG_SECONDS

    def succeeded(self) -> None:
        since, self._since = self._since, None
        if since is not None and self._is_logged:
            self._counted = 0
            seconds = self._clock() - since
            logger.warning("groups: publishing works again after %.1f s; %d messages failed", seconds, self._total)
