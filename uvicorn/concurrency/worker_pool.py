"""Threads that run blocking applications, off the event loop.

One worker is awake and takes every job for as long as it makes headway: handing jobs from thread to thread costs more
than a short job itself. Another one is woken when jobs wait and, for a moment, none has been taken or little has been
computed, which is what blocked workers look like; then that one goes on, and so forth until all are awake.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any, Final, Generic, Protocol, TypeVar, final

from uvicorn import forks

T = TypeVar("T")

logger = logging.getLogger("uvicorn.error")

# A job waits this long, at most twice, behind a blocked one while another worker could take it.
_HEADWAY_SECONDS: Final = 0.001

# Workers that take jobs but leave the process with less than this share of a CPU block for a moment in each.
_BUSY_SHARE: Final = 0.5


class PoolFull(Exception):
    """The queue of the pool is full."""


class Job(Protocol):
    """Work for one worker: either method is called, once."""

    def run(self) -> object:
        """Called by a worker."""

    def cancel(self) -> object:
        """Called instead if the pool is shut down first."""


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
        self._renew()

    def _renew(self) -> None:
        """Begin with no threads: a new pool, or one in a forked process, to which its parent's have not come along."""
        self._forks = forks.forks
        # The old one may have been held by a thread of the parent.
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()
        # Each idle worker waits to acquire a lock of its own, and is woken by its release.
        self._idle: list[threading.Lock] = []
        self._workers: list[threading.Thread] = []
        # Which workers have a job; each writes its own byte, so that none has to lock for it.
        self._busy = bytearray(self.threads)
        self._awake = 0
        self._taken = 0
        self._taken_before = 0
        # When headway was looked after last, and the CPU time that the process had used by then.
        self._looked_at = 0.0
        self._used = 0.0
        # The loop that will wake the first worker, and the one that looks after headway.
        self._waker: asyncio.AbstractEventLoop | None = None
        self._watcher: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Jobs that no worker has taken yet."""
        return len(self._jobs)

    @property
    def alive(self) -> int:
        """Workers that have not ended."""
        return sum(worker.is_alive() for worker in self._workers)

    def post(self, job: Job) -> None:
        """Have `job` run by a worker. PoolFull if too many wait; RuntimeError after `shutdown`."""
        if self._forks != forks.forks:
            self._renew()
        jobs = self._jobs
        waiting = len(jobs)
        # A worker that was woken a moment ago has yet to take its job, which does not count as waiting.
        if waiting >= self.queue and waiting + sum(self._busy) >= self.queue + self.threads:
            raise PoolFull
        # Not under the lock: `shutdown`, and a worker that becomes idle, set their flag before they check the jobs.
        jobs.append(job)
        if self._closed:
            self._take_back(job, RuntimeError("the worker pool has been shut down"))
            return
        awake = self._awake
        if awake == self.threads:
            return
        if not self._workers:
            # At once, because it may fail; a started worker can always be woken.
            with self._lock:
                # Another loop's thread may have started all workers first.
                started = self._wake_one() or bool(self._workers)
            if not started:
                self._take_back(job, PoolFull("no thread can be started"))
            return
        loop = asyncio.get_running_loop()
        # Another loop may have stopped since.
        if awake:
            if self._watcher is not loop:
                self._watch(loop)
        elif self._waker is not loop:
            # After this turn of the loop, which may post more: a worker that wakes takes the interpreter from the loop.
            self._waker = loop
            loop.call_soon(self._wake_first, loop)

    def _take_back(self, job: Job, error: Exception) -> None:
        """Raise `error`, unless the job has been taken or cancelled in the meantime."""
        with suppress(ValueError):
            self._jobs.remove(job)
            raise error

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """`Executor.submit`; wakes a worker for each job, since there may be no event loop to watch over headway."""
        if self._forks != forks.forks:
            self._renew()
        job: _Submitted[T] = _Submitted(fn, args, kwargs)
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker pool has been shut down")
            self._jobs.append(job)
            if not self._wake_one() and self._awake == 0:
                self._jobs.pop()
                raise RuntimeError("no thread can be started")
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Reject new jobs, and end the workers after the queued jobs; with `cancel_futures` those are cancelled."""
        if self._forks != forks.forks:
            self._renew()
        cancelled: list[Job] = []
        with self._lock:
            self._closed = True
            # Workers take jobs without the lock.
            with suppress(IndexError):
                while cancel_futures:
                    cancelled.append(self._jobs.popleft())
            for _ in range(len(self._jobs)):
                # The headway check has stopped.
                self._wake_one()
            self._awake += len(self._idle)
            for wakeup in self._idle:
                wakeup.release()
            self._idle.clear()
        for job in cancelled:
            job.cancel()
        if wait:
            for worker in self._workers:
                worker.join()

    def _wake_first(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake a worker for what has been posted while none was awake."""
        self._waker = None
        with self._lock:
            if self._jobs and self._awake == 0:
                self._wake_one()
        if self._jobs and self._awake < self.threads and self._watcher is not loop:
            self._watch(loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watcher = loop
        self._taken_before = self._taken
        self._looked_at = time.perf_counter()
        self._used = time.process_time()
        loop.call_later(_HEADWAY_SECONDS, self._check_headway, loop)

    def _check_headway(self, loop: asyncio.AbstractEventLoop) -> None:
        """If jobs wait, and workers have made no headway since the last look, wake one more."""
        if self._watcher is not loop:
            return
        self._watcher = None
        if not self._jobs:
            return
        computed = time.process_time() - self._used
        blocking = computed < (time.perf_counter() - self._looked_at) * _BUSY_SHARE
        with self._lock:
            if blocking or self._taken == self._taken_before:
                self._wake_one()
            more = self._awake < self.threads and not self._closed
        if more:
            self._watch(loop)

    def _wake_one(self) -> bool:
        """Wake an idle worker, or start one, if there may be more; the lock is held."""
        if self._idle:
            self._awake += 1
            self._idle.pop().release()
            return True
        number = len(self._workers)
        if number == self.threads:
            return False
        worker = threading.Thread(
            # Daemons: an application that blocks for ever must not keep the process from ending.
            target=self._work,
            args=(number,),
            name=f"uvicorn-worker-{number + 1}",
            daemon=True,
        )
        try:
            worker.start()
        except RuntimeError as error:
            logger.warning("worker %d of %d: %s", number + 1, self.threads, error)
            return False
        self._awake += 1
        self._workers.append(worker)
        return True

    def _work(self, number: int) -> None:
        jobs, busy = self._jobs, self._busy
        wakeup = threading.Lock()
        wakeup.acquire()
        while True:
            try:
                job = jobs.popleft()
            except IndexError:
                with self._lock:
                    self._awake -= 1
                    if jobs:
                        self._awake += 1
                        continue
                    busy[number] = 0
                    if self._closed:
                        return
                    self._idle.append(wakeup)
                wakeup.acquire()
                continue
            busy[number] = 1
            self._taken += 1
            try:
                job.run()
            except BaseException:
                logger.exception("worker pool: a job raised; the worker continues")
            # Not kept until the next job comes, which may be long after.
            del job


@final
class _Submitted(Generic[T]):
    """A call with a future for its outcome."""

    def __init__(self, fn: Callable[..., T], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.future: Future[T] = Future()
        self._call = fn, args, kwargs

    def run(self) -> None:
        """Called by a worker."""
        if self.future.set_running_or_notify_cancel():
            fn, args, kwargs = self._call
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)

    def cancel(self) -> None:
        """Called instead if the pool is shut down first."""
        self.future.cancel()
        self.future.set_running_or_notify_cancel()
