"""Messages that nobody takes: one log line when that begins, a count each minute, and one line when it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import final

from uvicorn.broadcast.log_limit import LOG_SECONDS
from uvicorn.errors import BroadcastUnavailable
from uvicorn.escape import escaped

logger = logging.getLogger("uvicorn.broadcast")


@final
class Outage:
    """Of one sender. Errors that it has counted are `reported`: servers write no traceback for each of them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When it began, and whether that has been logged; one that follows on another at once is only counted.
        self._since: float | None = None
        self._is_logged = False
        self._next_line = 0.0
        self._counted = 0
        self._total = 0
        self._error = ""

    def __bool__(self) -> bool:
        """Whether the last message was not taken."""
        return self._since is not None

    def failed(self, error: BroadcastUnavailable) -> None:
        """A message was not taken."""
        error.reported = True
        now = self._clock()
        if self._since is None:
            self._since, self._total = now, 0
            self._is_logged = False
        self._total += 1
        self._counted += 1
        self._error = str(error)
        if now >= self._next_line:
            if self._is_logged:
                self.count()
            else:
                logger.warning("messages to groups are not taken: %s", escaped(error))
                self._is_logged = True
                self._counted -= 1
                self._next_line = now + LOG_SECONDS

    def count(self) -> None:
        """A minute has passed: say how many there were, if any."""
        if self._counted:
            logger.warning(
                "messages to groups are still not taken: %d since the last such line: %s", self._counted, self._error
            )
            self._counted = 0
            self._next_line = self._clock() + LOG_SECONDS

    def succeeded(self) -> None:
        """A message was taken."""
        since, self._since = self._since, None
        if since is not None and self._is_logged:
            self._counted = 0
            logger.warning(
                "messages to groups are taken again after %.1f s; not taken: %d", self._clock() - since, self._total
            )
