"""Detects slow clients from elapsed times and byte counts, without I/O."""

from __future__ import annotations

from typing import Final

# In a lingering close, input is dropped, because many clients read the response only after they have sent all content
# (RFC 9112, section 9.6).
#: Limits on the lingering close, on a pause of the client, and on the lingering close of a stopping server.
DROPPED_SECONDS: Final = 30.0
DROPPED_IDLE_SECONDS: Final = 5.0
DROPPED_STOPPING_SECONDS: Final = 1.0

# The minimum rate applies after this time, so that a client may start slowly.
_RATE_AFTER_SECONDS: Final = 10.0


class MinimumRate:
    """Measures how fast request content arrives while the server reads."""

    __slots__ = ("_idle", "_received", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._idle = 0.0
        self._received = 0

    def check(self, elapsed: float, received: int, idle_seconds: float, least_rate: int) -> str:
        """Return the reason to reject a slow client, or an empty string. `received` is the number of bytes so far."""
        self._seconds += elapsed
        self._idle = 0.0 if received > self._received else self._idle + elapsed
        self._received = received
        if self._idle >= idle_seconds:
            return f"no request content for {idle_seconds:g} seconds"
        if self._seconds > _RATE_AFTER_SECONDS and received < least_rate * self._seconds:
            return f"request content slower than {least_rate} bytes per second"
        return ""


# The rate is an average over this time: mobile clients may pause for half of it.
_RESPONSE_RATE_SECONDS: Final = 60.0


class ResponseRate:
    """Measures how fast a client reads a response while bytes are unsent."""

    __slots__ = ("_bytes", "_seconds", "_taken")

    def __init__(self) -> None:
        self._taken: int | None = None
        self._seconds = 0.0
        self._bytes = 0

    def check(self, elapsed: float, taken: int, least_rate: int) -> bool:
        """Return whether the client was too slow in the last minute. `taken` is the number of bytes read so far."""
        before, self._taken = self._taken, taken
        if before is None:
            return False
        self._seconds += elapsed
        self._bytes += taken - before
        if self._seconds < _RESPONSE_RATE_SECONDS:
            return False
        is_slow = self._bytes < least_rate * self._seconds
        # Each minute counts separately: a fast first minute must not make up for slow ones.
        self._seconds, self._bytes = 0.0, 0
        return is_slow

    def pause(self) -> None:
        """Stop the measurement until the next check, because there is nothing to send."""
        self._taken = None
