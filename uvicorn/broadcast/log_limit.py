"""Log lines that others can cause: so many a minute, and what of their text is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, final

LOG_SECONDS: Final = 60.0


@final
class LogLimit:
    """At most so many lines each minute; what happens in between is counted, for the next line."""

    def __init__(self, lines: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._clock = clock
        self._window_ends = 0.0
        self._written = 0
        self._count = 0

    def admits(self, count: int = 1) -> int:
        """Add `count` events; return how many a line would be about, or 0 if no line may be written now."""
        self._count += count
        now = self._clock()
        if now >= self._window_ends:
            self._window_ends = now + LOG_SECONDS
            self._written = 0
        if self._written >= self._lines:
            return 0
        self._written += 1
        counted, self._count = self._count, 0
        return counted


def shown(text: str, most: int = 500) -> str:
    """Text that may be somebody else's as a log line shows it: not too long, and without control characters."""
    short = text if len(text) <= most else f"{text[:most]}..."
    return short if short.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in short)
