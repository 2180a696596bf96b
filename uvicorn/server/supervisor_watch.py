"""Ends a worker after its supervisor has died, even if the worker's event loop is blocked."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from logging import getLogger
from typing import Final

from uvicorn.server.process_end import LAST_WORDS_SECONDS, LEAST_SECONDS, places

logger = getLogger("uvicorn.error")

# A worker that stops by itself ends within this time: the application's shutdown, its threads, `atexit` callbacks.
STOPPING_SECONDS: Final = 5.0 + LEAST_SECONDS + LAST_WORDS_SECONDS

# The time for the last log line, which blocks if nothing reads stderr.
_LOG_SECONDS: Final = 1.0


# Not PR_SET_PDEATHSIG, which follows the thread that forked, and gives no grace period.
class SupervisorWatch:
    """Calls `kill()` if the process still runs `grace` seconds after the supervisor has closed `channel`."""

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
        """Start watching. Call this before importing the application, because the import may block."""
        self._thread.start()

    def finish(self) -> None:
        """Close the channel to the supervisor. Called when the event loop has ended."""
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
        """Give the event loop the grace period to stop, then kill the process."""
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
