"""Limits repeated log lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar, final

T = TypeVar("T")

LOG_SECONDS: Final = 60.0


@final
class LogLimit:
    """Admits `lines` log lines a minute."""

    def __init__(self, lines: int = 1, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._clock = clock
        self._window_ends = 0.0
        self._written = 0
        self._count = 0

    def admits(self, count: int = 1) -> int:
        """Add `count` events. Return the number to report. If 0, do not log."""
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


def first_time(event: T, logged: set[T], limit: int) -> bool:
    """Add `event` to `logged`. Return whether `event` was added."""
    if event in logged or len(logged) >= limit:
        return False
    logged.add(event)
    return True
