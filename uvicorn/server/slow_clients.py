"""Find clients that are too slow. Sans-IO: called on each tick with the elapsed time and the byte counts."""

from __future__ import annotations

from typing import Final

#: What a client still sends that has had its answer is read and dropped (RFC 9112, section 9.6): honest clients read
#: the answer when they have sent everything, or notice it while they send. Dropping takes no longer than the first, or
#: once the server is stopping the third, and the client pauses for no longer than the second.
DROPPED_SECONDS: Final = 30.0
DROPPED_IDLE_SECONDS: Final = 5.0
DROPPED_STOPPING_SECONDS: Final = 1.0

# A slow start is forgiven: the rate counts from here on.
_RATE_AFTER_SECONDS: Final = 10.0


class MinimumRate:
    """Check how fast request content arrives, over the time in which the server waits for the client."""

    __slots__ = ("_idle", "_received", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._idle = 0.0
        self._received = 0

    def check(self, elapsed: float, received: int, idle_seconds: float, least_rate: int) -> str:
        """Return why the client is too slow, or an empty string. `received` is the count of bytes so far."""
        self._seconds += elapsed
        self._idle = 0.0 if received > self._received else self._idle + elapsed
        self._received = received
        if self._idle >= idle_seconds:
            return f"no request content for {idle_seconds:g} seconds"
        if self._seconds > _RATE_AFTER_SECONDS and received < least_rate * self._seconds:
            return f"request content slower than {least_rate} bytes per second"
        return ""


# The average that counts is one of at least this time: many a mobile client pauses for half of it.
_RESPONSE_RATE_SECONDS: Final = 60.0


class ResponseRate:
    """How fast a client takes a response, over the time in which some of it is unsent."""

    __slots__ = ("_bytes", "_seconds", "_taken")

    def __init__(self) -> None:
        self._taken: int | None = None
        self._seconds = 0.0
        self._bytes = 0

    def check(self, elapsed: float, taken: int, least_rate: int) -> bool:
        """Whether the client was too slow, on average of the last minute of such time. Called while bytes are unsent.

        `taken` is the count of bytes that the client has had; it does not matter what it begins with.
        """
        before, self._taken = self._taken, taken
        if before is None:
            return False
        self._seconds += elapsed
        self._bytes += taken - before
        if self._seconds < _RESPONSE_RATE_SECONDS:
            return False
        is_slow = self._bytes < least_rate * self._seconds
        # Each minute counts by itself: a fast first megabyte must not excuse a slow hour.
        self._seconds, self._bytes = 0.0, 0
        return is_slow

    def pause(self) -> None:
        """Nothing is unsent: until something is, neither time nor bytes count."""
        self._taken = None


class WriteTimeout:
    """Measure for how long a client has taken none of the unsent bytes."""

    __slots__ = ("_seconds", "_taken")

    def __init__(self) -> None:
        self._taken: int | None = None
        self._seconds = 0.0

    def check(self, elapsed: float, unsent: int, written: int) -> float:
        """Seconds without progress, given how many bytes are unsent, and how many were written since the first check.

        It does not matter what `written` begins with.
        """
        taken = written - unsent
        self._seconds = self._seconds + elapsed if taken == self._taken else 0.0
        self._taken = taken
        return self._seconds
