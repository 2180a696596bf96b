"""Runs several worker processes on the same sockets. Each worker is a new interpreter."""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from uvicorn.server import BROKEN_OFF
from uvicorn.server.listener import RUNNING, close_sockets, running_on
from uvicorn.server.process_end import LAST_WORDS_SECONDS, LEAST_SECONDS
from uvicorn.server.worker_handle import Worker, WorkerMetrics, describe_end, start_worker
from uvicorn.settings import Settings

logger = logging.getLogger("uvicorn.error")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD)

# The end of a worker counts as a crash unless it has been ready for this long.
_SETTLED_SECONDS: Final = 10.0

# After this many crashes in a row the supervisor stops. The pauses between them double, from half a second on.
_MOST_CRASHES: Final = 5
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 8.0

# Time to stop beyond a worker's own grace period before it is killed, and time between SIGABRT and SIGKILL.
_KILL_SECONDS: Final = 5.0
_ABORT_SECONDS: Final = 1.0

# Workers report once a second. A worker that has just become stuck may have been silent for this long.
_REPORT_SECONDS: Final = 1.0

# A supervisor that is this late was suspended, for example by Ctrl-Z, and so were its workers.
_LATE_SECONDS: Final = 3.0

# The exit codes of workers for errors that the user has to correct.
_NOT_STARTED: Final = (2, 3)


class Supervisor:
    """Keeps `count` worker processes running. Each process runs `command`."""

    #: The name of this process in the log.
    kind = "parent"
    #: The level of lines about stopping workers.
    level = logging.INFO

    def __init__(
        self,
        command: Sequence[str],
        payload: bytes,
        sockets: Sequence[socket.socket],
        count: int,
        settings: Settings,
        scheme: str = "http",
    ) -> None:
        self._command = list(command)
        self._payload = payload
        self._sockets = list(sockets)
        self._count = count
        self._scheme = scheme
        self._healthcheck_seconds = settings.healthcheck_seconds
        self._graceful_seconds = settings.graceful_seconds
        self._metrics = WorkerMetrics(settings.metrics)
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._wakeup, self._waking = socket.socketpair()
        self._to_replace: list[Worker] = []
        self._crashes = 0
        self._last_check = time.monotonic()
        self._not_before = 0.0
        self._announced = False
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Serve until a stop signal or a failure of the workers. Return the exit code."""
        self._log_start()
        self._waking.setblocking(False)
        self._wakeup.setblocking(False)
        self._selector.register(self._wakeup, selectors.EVENT_READ, None)
        # The wakeup descriptor reports the signals; the handlers only keep them from ending the process.
        previous: dict[int, Any] = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        wakeup = signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        try:
            self._metrics.open()
            while not self._stopping or self._workers:
                self._adjust_workers()
                for key, _ in self._selector.select(self._pause()):
                    if key.data is None:
                        self._take_signals()
                    else:
                        self._read_reports(key.data)
                self._reap()
                self._check_workers()
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in previous.items():
                signal.signal(number, handler)
            for worker in self._workers:
                worker.process.kill()
                worker.process.wait()
                worker.channel.close()
            close_sockets(self._sockets)
            self._metrics.close()
            self._selector.close()
            self._wakeup.close()
            self._waking.close()
        logger.info("Stopping %s process [%d]", self.kind, os.getpid())
        return self._status

    def wake(self) -> None:
        """Make `run` check the workers now. Thread-safe."""
        # OSError if it has ended, or if its socket is full of such calls.
        with suppress(OSError):
            self._waking.send(b"\0")

    def _log_start(self) -> None:
        logger.info("Started parent process [%d], workers: %d", os.getpid(), self._count)

    # Starting and stopping workers

    def _adjust_workers(self) -> None:
        if self._stopping:
            return
        running = [worker for worker in self._workers if not worker.stopped and worker.replaces is None]
        for worker in running[self._count :]:
            self._stop(worker)
        if time.monotonic() < self._not_before:
            return
        missing = self._count - len(running)
        if not self._announced:
            # One at first, so that an error in the startup is logged once.
            missing = min(missing, 1 - len(self._workers))
        for _ in range(missing):
            # A mistaken `--workers 10000` starts for a minute, and Ctrl-C must end it.
            signal_waits = any(key.data is None for key, _ in self._selector.select(0))
            if signal_waits or not self._start():
                break

    def _start(self, replaces: Worker | None = None) -> bool:
        try:
            worker = start_worker(self._command, self._payload, self._sockets, replaces)
        except OSError as error:
            logger.error("cannot start a worker: %s", error.strerror)
            if not self._announced:
                self._status = BROKEN_OFF
                self._stop_all()
            self._crashes += 1
            self._pause_before_next()
            return False
        self._workers.append(worker)
        self._selector.register(worker.channel, selectors.EVENT_READ, worker)
        return True

    def _read_reports(self, worker: Worker) -> None:
        lines = worker.received_lines()
        if lines is None:
            self._selector.unregister(worker.channel)
            worker.channel.close()
            # The worker's server has stopped; the process ends by itself, even if a thread of the application hangs.
            worker.deadline = max(
                worker.deadline or time.monotonic() + self._graceful_seconds + _KILL_SECONDS,
                time.monotonic() + LEAST_SECONDS + LAST_WORDS_SECONDS + _KILL_SECONDS,
            )
            return
        worker.last_report = time.monotonic()
        for word, rest in lines:
            if word == "metrics":
                self._metrics.update(worker, rest)
            elif word == "ready":
                self._is_ready(worker)
            elif word == "retiring" and not (worker.stopped or self._stopping or self._is_being_replaced(worker)):
                # Ignored during the pause after a failed successor: the worker asks again every second.
                if time.monotonic() >= self._not_before:
                    logger.info("worker %d asks to be replaced: %s", worker.process.pid, rest)
                    self._to_replace.append(worker)
                    self._replace_next()

    def _is_ready(self, worker: Worker) -> None:
        worker.ready = time.monotonic()
        logger.info("worker %d is ready", worker.process.pid)
        if not self._announced:
            self._announced = True
            for sock in self._sockets:
                logger.info(RUNNING, running_on(sock, self._scheme))
        old, worker.replaces = worker.replaces, None
        if old is not None:
            self._stop(old)
        self._replace_next()

    def _is_being_replaced(self, worker: Worker) -> bool:
        return worker in self._to_replace or any(other.replaces is worker for other in self._workers)

    def _replace_all(self) -> None:
        logger.info("Received SIGHUP, restarting processes.")
        for worker in self._workers:
            # It may have imported the old code.
            if not (worker.ready or worker.stopped):
                self._stop(worker)
        self._to_replace = [worker for worker in self._workers if not worker.stopped]
        self._replace_next()

    def _replace_next(self) -> None:
        if any(worker.replaces is not None for worker in self._workers):
            return
        while self._to_replace and not self._stopping:
            old = self._to_replace.pop(0)
            if old in self._workers and not old.stopped:
                if not self._start(replaces=old):
                    self._to_replace.clear()
                return

    def _stop(self, worker: Worker) -> None:
        if worker.stopped:
            return
        worker.stopped = time.monotonic()
        # A worker that is not ready has no requests in flight.
        worker.deadline = worker.stopped + _KILL_SECONDS + (self._graceful_seconds if worker.ready else 0)
        worker.process.send_signal(signal.SIGTERM)
        logger.log(self.level, "Terminated child process [%d]", worker.process.pid)
        logger.log(self.level, "Waiting for child process [%d]", worker.process.pid)
        worker.replaces = None
        for other in self._workers:
            if other.replaces is worker:
                other.replaces = None

    def _break_off(self, worker: Worker) -> None:
        worker.deadline = min(worker.deadline, time.monotonic() + _KILL_SECONDS)
        worker.process.send_signal(signal.SIGQUIT if worker.ready else signal.SIGKILL)

    def _reap(self) -> None:
        for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
            self._workers.remove(worker)
            self._metrics.end(worker)
            if worker.channel.fileno() >= 0:
                self._selector.unregister(worker.channel)
                worker.channel.close()
            self._has_ended(worker, worker.process.returncode)

    def _has_ended(self, worker: Worker, status: int) -> None:
        pid, how = worker.process.pid, describe_end(status)
        for other in self._workers:
            if other.replaces is worker:
                other.replaces = None
        if worker.stopped:
            if status and worker.ready:
                logger.warning("worker %d did not stop cleanly: it %s", pid, how)
                self._status = self._status or BROKEN_OFF * self._stopping
            return
        if worker.replaces is not None:
            logger.error("replacement worker %d %s; the old workers continue", pid, how)
            self._to_replace.clear()
            self._crashes += 1
            self._pause_before_next()
            return
        if not worker.ready and not self._announced:
            logger.error("the first worker %s; stopping the server", how)
            # SIGTERM was sent to the whole group, so the supervisor is about to receive it too.
            self._status = status if status in _NOT_STARTED else BROKEN_OFF * (status != -signal.SIGTERM)
            self._stop_all()
            return
        now = time.monotonic()
        self._crashes = 1 if worker.ready and now - worker.ready > _SETTLED_SECONDS else self._crashes + 1
        logger.error("Child process [%d] died: it %s; replacing it", pid, how)
        settled = any(other.ready and now - other.ready > _SETTLED_SECONDS for other in self._workers)
        if self._crashes >= _MOST_CRASHES and not settled:
            logger.critical("workers have ended %d times in a row; stopping, see above for the reason", self._crashes)
            self._status = BROKEN_OFF
            self._stop_all()
        elif self._crashes > 1:
            self._pause_before_next()

    def _pause_before_next(self) -> None:
        pause = min(_FIRST_PAUSE_SECONDS * 2 ** max(self._crashes - 2, 0), _LONGEST_PAUSE_SECONDS)
        self._not_before = time.monotonic() + pause

    # Signals and time

    def _take_signals(self) -> None:
        for number in self._wakeup.recv(4096):
            if number in (signal.SIGINT, signal.SIGTERM):
                if not self._stopping:
                    logger.log(self.level, "Received %s, exiting.", signal.Signals(number).name)
                self._stop_all()
            elif number == signal.SIGHUP and not self._stopping:
                self._replace_all()
            elif number in (signal.SIGTTIN, signal.SIGTTOU) and not self._stopping:
                self._change_count(1 if number == signal.SIGTTIN else -1)

    def _change_count(self, by: int) -> None:
        if self._count + by < 1:
            logger.info("Already reached one process, cannot decrease the number of processes anymore.")
            return
        if by > 0:
            logger.info("Received SIGTTIN, increasing the number of processes.")
        else:
            logger.info("Received SIGTTOU, decreasing number of processes.")
        self._count += by
        logger.info("workers: %d", self._count)

    def _stop_all(self) -> None:
        # The second signal.
        if self._stopping:
            for worker in self._workers:
                self._break_off(worker)
        else:
            self._stopping = True
            # First, so that clients do not wait in the queue of a socket that no process accepts from.
            close_sockets(self._sockets)
            self._sockets = []
            for worker in self._workers:
                self._stop(worker)

    def _check_workers(self) -> None:
        now = time.monotonic()
        passed, self._last_check = now - self._last_check, now
        for worker in self._workers:
            silent = now - worker.last_report
            if passed > _LATE_SECONDS:
                worker.last_report += passed
                worker.deadline += passed * bool(worker.deadline)
            elif worker.deadline and now > worker.deadline:
                logger.error("worker %d does not stop; killing it", worker.process.pid)
                worker.deadline = math.inf
                self._status = self._status or BROKEN_OFF * self._stopping
                worker.process.kill()
            elif worker.deadline or silent <= self._healthcheck_seconds + _REPORT_SECONDS:
                continue
            elif worker.ready:
                logger.error(
                    "worker %d has not reported for %.0f seconds; replacing it; its stack follows",
                    worker.process.pid,
                    silent,
                )
                worker.deadline = now + _ABORT_SECONDS
                worker.process.send_signal(signal.SIGABRT)
            elif not worker.slow_start_logged:
                # It may have much to load: the limit depends on the application.
                worker.slow_start_logged = True
                logger.warning("worker %d is still starting, after %.0f seconds", worker.process.pid, silent)

    def _pause(self) -> float:
        now = time.monotonic()
        dues = [worker.deadline - now for worker in self._workers if worker.deadline]
        if self._not_before > now and not self._stopping:
            dues.append(self._not_before - now)
        return max(0.01, min([1.0, *dues]))
