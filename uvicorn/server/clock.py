"""The server's time: one tick a second, on which everything that waits is looked at.

A timer for each request would cost more than the request's own dispatch; deadlines of seconds do not need one.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

TICK_SECONDS: Final = 1.0

# For so long it is remembered that a tick came late.
_LAG_SECONDS: Final = 10.0


class Clock:
    """`now` is monotonic seconds as of the last tick, `elapsed` what had passed since the one before.

    Deadlines are counted from `now`, which may be a tick old; so they are kept a tick late rather than early.
    """

    def __init__(self) -> None:
        self.now = self.monotonic()
        self.elapsed = 0.0
        # The longest time between two ticks, of late.
        self._longest = TICK_SECONDS
        self._longest_until = self.now
        self._ticked: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def on_tick(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called on each tick."""
        self._ticked.append(callback)

    def start(self) -> None:
        """Begin to tick on the running event loop."""
        self._schedule()

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_over(self, since: float, seconds: float) -> bool:
        """Whether `seconds` have passed for certain since `now` was `since`, which was as old as a tick can be."""
        return self.now - since >= seconds + self._longest

    def monotonic(self) -> float:
        """Seconds that only go forward. Tests move them by hand."""
        return time.monotonic()

    def unix_seconds(self) -> float:
        """The time of day."""
        return time.time()

    def jitter(self) -> float:
        """A random figure from 0 to 1, by which things that would fall due together are spread."""
        return random.random()

    def tick(self) -> None:
        """Read the time and call the callbacks."""
        now = self.monotonic()
        self.elapsed = now - self.now
        self.now = now
        if self.elapsed >= self._longest or now >= self._longest_until:
            # A busy loop ticks late, and what happened just before it did is younger than it seems.
            self._longest = max(self.elapsed, TICK_SECONDS)
            self._longest_until = now + _LAG_SECONDS
        for callback in self._ticked:
            callback()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick_and_schedule)

    def _tick_and_schedule(self) -> None:
        self._schedule()
        self.tick()
