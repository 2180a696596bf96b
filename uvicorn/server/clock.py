"""The server's clock. Once a second, all connections check their deadlines."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

# A timer for each request would cost more than calling the application, and deadlines of seconds do not need timers.
TICK_SECONDS: Final = 1.0

# Deadlines take a late tick into account for this long.
_LAG_SECONDS: Final = 10.0


class Clock:
    """Ticks once a second. A deadline may expire late, but never early."""

    def __init__(self) -> None:
        #: The monotonic time of the last tick, and the seconds between the last two ticks.
        self.now = self.monotonic()
        self.elapsed = 0.0
        # The longest recent time between two ticks.
        self._longest = TICK_SECONDS
        self._longest_until = self.now
        self._ticked: list[Callable[[], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def on_tick(self, callback: Callable[[], None]) -> None:
        """Call `callback()` at each later tick."""
        self._ticked.append(callback)

    def start(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick_and_schedule)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def is_over(self, since: float, seconds: float) -> bool:
        """Return whether an event is surely at least `seconds` ago. `since` was `now` at the event."""
        # The event may be up to a tick later than `since`.
        return self.now - since >= seconds + self._longest

    # Tests override these functions. Without a method around it, a call takes half the time.
    monotonic = staticmethod(time.monotonic)
    #: A random number from 0 to 1 spreads deadlines that would otherwise expire together.
    jitter = staticmethod(random.random)

    def unix_seconds(self) -> float:
        # Looked up at each call, because programs replace `time.time` in their tests.
        return time.time()

    def tick(self) -> None:
        """Read the time, then call the registered callbacks."""
        now = self.monotonic()
        self.elapsed = now - self.now
        self.now = now
        if self.elapsed >= self._longest or now >= self._longest_until:
            # Events between two ticks count from the first, so before a late tick they seem older than they are.
            self._longest = max(self.elapsed, TICK_SECONDS)
            self._longest_until = now + _LAG_SECONDS
        for callback in self._ticked:
            callback()

    def _tick_and_schedule(self) -> None:
        self.start()
        self.tick()
