"""Ends a process that does not end by itself."""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from logging import getLogger
from time import monotonic
from typing import Final

from uvicorn.escape import escaped

logger = getLogger("uvicorn.error")

# The least time that threads have after the server has stopped.
LEAST_SECONDS: Final = 5.0

# The time for the last log line and `atexit` callbacks, which may block.
LAST_WORDS_SECONDS: Final = 5.0

# A worker that stops by itself ends within this time: the application's shutdown, its threads, `atexit` callbacks.
STOPPING_SECONDS: Final = 5.0 + LEAST_SECONDS + LAST_WORDS_SECONDS

# The time for the last log line, which blocks if nothing reads stderr.
_LOG_SECONDS: Final = 1.0

# The interval of checks after the deadline.
_POLL_SECONDS: Final = 1.0

# The most threads that are listed in the log.
_MOST_THREADS: Final = 20


class ProcessEnd:
    """Calls `leave(status)` if threads keep the process alive after the grace period."""

    def __init__(self, leave: Callable[[int], object] = os._exit) -> None:
        self.status = 0
        self._leave = leave
        self._lock = threading.Lock()
        self._deadline = 0.0
        self._is_over = threading.Event()
        self._ended_here = False
        self._main_has_returned = False
        self._last_words: threading.Thread | None = None

    def begin(self, status: int, seconds: float = 0.0) -> None:
        """Give threads at least `seconds` to end, then end the process with `status`."""
        self.status = status
        if self._deadline:
            return
        self._deadline = monotonic() + max(seconds, LEAST_SECONDS)
        # `atexit` callbacks run when Python has waited for all threads.
        atexit.register(self._threads_have_ended)
        # A thread, because the main thread may be blocked while Python waits for other threads.
        threading.Thread(target=self._watch, name="uvicorn-process-end", daemon=True).start()

    def main_returns(self, error: BaseException | None) -> None:
        """Start the grace period. Call this when the main thread ends."""
        self.begin(self.status if error is None else _status_of(error))
        self._main_has_returned = True

    def _watch(self) -> None:
        while not self._is_over.wait(max(self._deadline - monotonic(), _POLL_SECONDS)):
            if monotonic() >= self._deadline and self.look():
                return

    def look(self) -> bool:
        """If a thread still runs, call `leave` and return True."""
        threads = foreign_threads()
        if not threads and self._main_has_returned:
            # Python is exiting, and may still run code, such as a profiler that writes its report.
            return False
        with self._lock:
            if self._is_over.is_set():
                return False
            self._ended_here = True
        self._last_words = threading.Thread(target=self._say, args=(threads,), daemon=True)
        self._last_words.start()
        self._last_words.join(LAST_WORDS_SECONDS)
        self._leave(self.status)
        return True

    def _say(self, threads: Sequence[threading.Thread]) -> None:
        with suppress(Exception):
            logger.warning(
                "threads still run after the server has stopped; ending the process and these threads: %s",
                places(threads or [threading.main_thread()]),
            )
        with suppress(BaseException):
            atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()

    def _threads_have_ended(self) -> None:
        if threading.current_thread() is self._last_words:
            return
        with self._lock:
            if not self._ended_here:
                self._is_over.set()
                return
        # The last thread has just ended, but `look` is already ending the process.
        threading.Event().wait(2 * LAST_WORDS_SECONDS)


def foreign_threads() -> list[threading.Thread]:
    """Return the threads that Python waits for before it exits."""
    known = (threading.main_thread(), threading.current_thread())
    return [thread for thread in threading.enumerate() if not thread.daemon and thread not in known]


def places(threads: Sequence[threading.Thread]) -> str:
    """Return the name and the current line of each thread."""
    frames = sys._current_frames()
    listed = []
    for thread in threads[:_MOST_THREADS]:
        frame = frames.get(thread.ident or 0)
        name = escaped(thread.name)
        if frame is None:
            listed.append(name)
        else:
            code = frame.f_code
            listed.append(f"{name} at {escaped(code.co_filename)}:{frame.f_lineno} in {escaped(code.co_name)}")
    if len(threads) > _MOST_THREADS:
        listed.append(f"and {len(threads) - _MOST_THREADS} more")
    return "; ".join(listed)


def _status_of(error: BaseException) -> int:
    # Python's own exit codes.
    if isinstance(error, KeyboardInterrupt):
        return 130
    if not isinstance(error, SystemExit):
        return 1
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


# Not PR_SET_PDEATHSIG, which follows the thread that forked, and gives no grace period.
class SupervisorWatch:
    """Kills a worker that outlives its supervisor by more than `grace` seconds."""

    def __init__(
        self,
        channel: socket.socket,
        grace: float,
        *,
        kill: Callable[[], object] = lambda: os.kill(os.getpid(), signal.SIGKILL),
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        #: Set by the event loop when it stops because the supervisor has died.
        self.noticed = threading.Event()
        self._channel = channel
        self._grace = grace
        self._kill = kill
        self._wait = wait
        self._finished = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="uvicorn-supervisor-watch", daemon=True)

    def start(self) -> None:
        """Start watching. Call this before importing the application."""
        # The import may block.
        self._thread.start()

    def finish(self) -> None:
        """Stop watching, and close the channel. Called when the event loop has ended."""
        self._finished.set()
        # `close` alone would not wake the thread. OSError if the supervisor has died.
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)
        self._woken.wait(_LOG_SECONDS)
        self._channel.close()

    def _watch(self) -> None:
        poll = select.poll()
        # The supervisor sends nothing after the configuration, so readable means closed.
        poll.register(self._channel.fileno(), select.POLLIN)
        poll.poll()
        self._woken.set()
        if not self._finished.is_set():
            self.supervisor_has_died()

    def supervisor_has_died(self) -> None:
        """Kill this process after the grace period."""
        never = threading.Event()
        self._wait(never, self._grace)
        if self.noticed.is_set():
            self._wait(never, STOPPING_SECONDS)
        log = threading.Thread(target=self._say, daemon=True)
        log.start()
        log.join(_LOG_SECONDS)
        self._kill()

    def _say(self) -> None:
        place = places([threading.main_thread()])
        logger.critical(
            "the supervisor has died, and this worker does not stop; killing the worker, which runs %s", place
        )
