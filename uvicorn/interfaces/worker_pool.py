"""Threads that run blocking applications, off the event loop.

One worker is awake and takes every job for as long as it makes headway: handing jobs from thread to thread costs more
than a short job itself. Another one is woken when jobs wait and none has been taken for a moment, which is what a
blocked worker looks like; then that one goes on, and so forth until all are awake.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar, final

T = TypeVar("T")

# A job waits this long, at most twice, behind a blocked one while another worker could take it.
_HEADWAY_SECONDS: Final = 0.001


class PoolFull(Exception):
    """As many jobs wait as the pool takes."""


@final
class WorkerPool(Executor):
    """An executor of long-lived threads, which are started when they are first needed.

    `post` is the short way in, for the thread of an event loop; `submit` is every executor's, for any thread.
    """

    def __init__(self, threads: int = 16, queue: int = 1000) -> None:
        """At most `threads` jobs run at a time, and at most `queue` wait."""
        if threads < 1:
            raise ValueError(f"threads: expected at least 1, got {threads}")
        self.threads = threads
        self.queue = queue
        self._lock = threading.Lock()
        self._renew()

    def _renew(self) -> None:
        self._process = os.getpid()
        self._jobs: deque[Callable[[], object]] = deque()
        # Each idle worker waits to acquire a lock of its own, and is woken by its release.
        self._idle: list[threading.Lock] = []
        self._workers: list[threading.Thread] = []
        self._awake = 0
        self._taken = 0
        self._taken_before = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return len(self._jobs)

    def post(self, job: Callable[[], object]) -> None:
        """Have `job` run by a worker; what it raises is lost. PoolFull if too many wait."""
        if self._process != os.getpid():
            # Threads do not survive a fork, and the lock may have been held by one of them.
            self._lock = threading.Lock()
            self._renew()
        with self._lock:
            if len(self._jobs) >= self.queue and self._awake >= self.threads:
                raise PoolFull
            if self._closed:
                raise RuntimeError("the worker pool has been shut down")
            self._jobs.append(job)
            if self._awake == 0:
                self._wake_one()
                return
        if self._timer is None and self._awake < self.threads:
            self._taken_before = self._taken
            self._timer = asyncio.get_running_loop().call_later(_HEADWAY_SECONDS, self._check_headway)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """`Executor.submit`; wakes a worker for each job, since there may be no event loop to watch over headway."""
        future: Future[T] = Future()

        def job() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    result = fn(*args, **kwargs)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(result)

        with self._lock:
            if self._closed:
                raise RuntimeError("the worker pool has been shut down")
            self._jobs.append(job)
            self._wake_one()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more jobs, and end the workers when they have done those that are waiting."""
        with self._lock:
            self._closed = True
            if cancel_futures:
                self._jobs.clear()
            for wakeup in self._idle:
                wakeup.release()
            self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait:
            for worker in self._workers:
                worker.join()

    def _check_headway(self) -> None:
        """If nothing has been taken since the last look although jobs wait, wake one more worker."""
        self._timer = None
        if not self._jobs:
            return
        with self._lock:
            if self._taken == self._taken_before:
                self._wake_one()
            more = self._awake < self.threads and not self._closed
        if more:
            self._taken_before = self._taken
            self._timer = asyncio.get_running_loop().call_later(_HEADWAY_SECONDS, self._check_headway)

    def _wake_one(self) -> None:
        """Wake an idle worker, or start one; the lock is held."""
        if self._idle:
            self._awake += 1
            self._idle.pop().release()
        elif len(self._workers) < self.threads:
            self._awake += 1
            worker = threading.Thread(
                # Daemons: an application that blocks for ever must not keep the process from ending.
                target=self._work,
                name=f"uvicorn-worker-{len(self._workers) + 1}",
                daemon=True,
            )
            self._workers.append(worker)
            worker.start()

    def _work(self) -> None:
        wakeup = threading.Lock()
        wakeup.acquire()
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                with self._lock:
                    if self._jobs:
                        continue
                    self._awake -= 1
                    if self._closed:
                        return
                    self._idle.append(wakeup)
                wakeup.acquire()
                continue
            self._taken += 1
            job()
            # Not kept until the next job comes, which may be long after.
            del job
