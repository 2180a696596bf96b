"""Logs which line of the application blocks the event loop (`--watch-loop`)."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from logging import getLogger
from types import FrameType
from typing import Final, NamedTuple

from uvicorn.escape import escaped

logger = getLogger("uvicorn.error")

# The time between two looks, as a part of the limit. A block begins between two looks, in their middle on average. So
# every block of 1.3 times the limit is logged, and none of less than 0.7 times the limit. More looks would cost more
# than 0.1 % of a core: one takes 80 microseconds, because the caches of the CPU are cold.
_PAUSE: Final = 0.6
_LEAST_PAUSE_SECONDS: Final = 0.01
_MOST_PAUSE_SECONDS: Final = 1.0

# A block that has not ended is logged after this time, or after five times the limit if that is longer.
_ENDLESS_SECONDS: Final = 10.0
_ENDLESS_LIMITS: Final = 5

#: The watch ends after as many lines.
MOST_PLACES: Final = 100

_OWN_FOLDER: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")
_LIBRARY_FOLDER: Final = os.path.join(os.path.dirname(os.__file__), "")
_INSTALLED: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

# Modules that run while a debugger has stopped the application.
_DEBUGGERS: Final = (f"{os.sep}bdb.py", f"{os.sep}pydevd.py")

# Origins of code.
_APPLICATION, _INSTALLED_PACKAGE, _LIBRARY, _DEBUGGER = range(4)


class Place(NamedTuple):
    """A line of code, and the handler that runs this line."""

    handler: str
    function: str
    file: str
    line: int

    def __str__(self) -> str:
        by = "" if self.handler == self.function else f", called by {escaped(self.handler)}"
        return f"{escaped(self.file)}:{self.line} in {escaped(self.function)}{by}"


@asynccontextmanager
async def watching(seconds: float) -> AsyncIterator[None]:
    """Run a `LoopWatch` during the context. If `seconds` is 0, do nothing."""
    if not seconds:
        yield
        return
    watch = LoopWatch(seconds)
    watch.start()
    try:
        yield
    finally:
        watch.stop()


# The watching thread posts a call to the event loop, and measures the time until this call runs.
class LoopWatch:
    """Logs each line of code that blocks the event loop for `seconds`."""

    def __init__(self, seconds: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._pause = min(max(seconds * _PAUSE, _LEAST_PAUSE_SECONDS), _MOST_PAUSE_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._depth = 0
        self._bottom: FrameType | None = None
        self._stopped = False
        self._logged: set[Place] = set()
        # Found by the thread itself: the id of a thread that has ended must not be looked up. macOS has no such clock.
        self._cpu_clock = None if sys.platform == "darwin" else time.pthread_getcpuclockid(self._thread_id)
        # At the last look: the time, and the CPU time of the event loop's thread.
        self._looked = self._cpu = 0.0
        # Whether a call is posted, the estimated beginning of the block, and the time at which the call ran or 0.
        self._posted = False
        self._began = self._called = 0.0
        # The seconds for which looks have seen each place since then.
        self._seen: dict[Place, float] = {}

    def start(self) -> None:
        """Start the watching thread in the next iteration of the event loop."""
        self._loop.call_soon(self._start)

    def stop(self) -> None:
        """Stop the watching thread without waiting for its end."""
        self._stopped = True
        self._bottom = None

    def _start(self) -> None:
        self.begin(sys._getframe(1))
        threading.Thread(target=self._watch, name="uvicorn-loop-watch", daemon=True).start()

    def begin(self, caller: FrameType) -> None:
        """Remember the event loop's stack. `caller` is the innermost frame."""
        frames = _frames_of(caller)
        self._depth, self._bottom = len(frames), frames[-1]
        self._looked, self._cpu = self._monotonic(), self._cpu_seconds()

    def _watch(self) -> None:
        # OSError if the event loop's thread has ended.
        with suppress(OSError):
            # An Event or a lock, which `stop` could set, would cost half as much again.
            time.sleep(self._pause)
            while not self._stopped and self.look():
                time.sleep(self._pause)

    def look(self) -> bool:
        """Look at the event loop once. Return whether to look again."""
        now, cpu = self._monotonic(), self._cpu_seconds()
        passed, used = now - self._looked, cpu - self._cpu
        self._looked, self._cpu = now, cpu
        if not used and not self._posted:
            # The event loop still waits for events.
            return True
        if self._called:
            blocked = self._called - self._began
            if blocked >= self._seconds:
                self._log(blocked)
            self._posted, self._called = False, 0.0
        frames = self._frames()
        origins = origins_of(frames)
        if _DEBUGGER in origins:
            # A debugger may stop the application for any time.
            self._began, self._seen = now, {}
            return True
        place = place_in(frames, origins)
        if place is None:
            pass
        elif self._posted:
            self._seen[place] = self._seen.get(place, 0) + passed
            if now - self._began >= max(_ENDLESS_SECONDS, self._seconds * _ENDLESS_LIMITS):
                self._log(now - self._began, " so far")
        else:
            self._seen = {place: 0}
            late = passed - self._pause
            if late >= self._seconds and used >= self._seconds:
                # C code has held the interpreter's lock, so that this thread could not look. The event loop's thread
                # has used the CPU: no other thread has held the lock, and the process was not stopped.
                self._log(late)
            self._posted = True
            # In the middle between two looks. After a stop of the whole process, more than two pauses have passed.
            self._began = now - min(passed, 2 * self._pause) / 2
            with suppress(RuntimeError):
                # The event loop is closed.
                self._loop.call_soon_threadsafe(self._call)
        return len(self._logged) < MOST_PLACES

    def _cpu_seconds(self) -> float:
        return math.nan if self._cpu_clock is None else time.clock_gettime(self._cpu_clock)

    def _call(self) -> None:
        self._called = self._monotonic()

    def _log(self, seconds: float, until: str = "") -> None:
        place = max(self._seen, key=self._seen.__getitem__, default=None)
        if place is None or place in self._logged:
            return
        self._logged.add(place)
        logger.warning(
            "%s: blocked the event loop for about %.1f seconds%s; run such code in a thread (asyncio.to_thread)",
            place,
            seconds,
            until,
        )
        if len(self._logged) == MOST_PLACES:
            logger.warning("watch-loop: no further lines are reported, after %d different ones", MOST_PLACES)

    def _frames(self) -> list[FrameType]:
        frames = _frames_of(sys._current_frames().get(self._thread_id))
        # A greenlet has a stack of its own.
        if frames and frames[-1] is self._bottom:
            del frames[-self._depth :]
        return frames


def _frames_of(frame: FrameType | None) -> list[FrameType]:
    frames = []
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def origins_of(frames: list[FrameType]) -> list[int]:
    return [_origin(frame.f_code.co_filename) for frame in frames]


def place_in(frames: list[FrameType], origins: list[int]) -> Place | None:
    """Return the innermost line of the application, else of an installed package."""
    for origin in (_APPLICATION, _INSTALLED_PACKAGE):
        if origin in origins:
            innermost = frames[origins.index(origin)]
            handler = frames[-1 - origins[::-1].index(origin)]
            code = innermost.f_code
            return Place(handler.f_code.co_qualname, code.co_qualname, code.co_filename, innermost.f_lineno)
    return None


@lru_cache(maxsize=1024)
def _origin(file: str) -> int:
    if file.endswith(_DEBUGGERS):
        return _DEBUGGER
    if file.startswith((_OWN_FOLDER, "<frozen ")):
        return _LIBRARY
    if any(part in file for part in _INSTALLED):
        return _INSTALLED_PACKAGE
    return _LIBRARY if file.startswith(_LIBRARY_FOLDER) else _APPLICATION
