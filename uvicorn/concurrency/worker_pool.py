"""Threads that run blocking applications, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar, final

from uvicorn import forks
from uvicorn.loop_calls import settle

T = TypeVar("T")

logger = logging.getLogger("uvicorn.error")

# Interval of the progress check: a job waits behind a blocked job for two intervals at most if a worker is idle.
_HEADWAY_SECONDS: Final = 0.001

# If workers take jobs while the process uses less than this share of a CPU, each job blocks for a moment.
_BUSY_SHARE: Final = 0.5


class PoolFull(Exception):
    """The queue of the pool is full, or no thread can be started."""


class Job(Protocol):
    """Work for one worker. If `post` accepts the job, either `run` or `cancel` is called once."""

    def run(self) -> object: ...

    def cancel(self) -> object: ...


@final
class WorkerPool(Executor):
    """An executor of long-lived threads, which are started on demand."""

    def __init__(self, threads: int = 16, queue: int = 1000) -> None:
        """Run at most `threads` jobs at a time, besides detached ones. `post` queues at most `queue` more."""
        if threads < 1:
            raise ValueError(f"threads: expected at least 1, got {threads}")
        self.threads = threads
        self.queue = queue
        #: The number of jobs refused by `post`.
        self.refused = 0
        self._renew()

    def _renew(self) -> None:
        self._forks = forks.forks
        # A new lock: a thread of the parent process may hold the old one.
        self._lock = threading.Lock()
        self._jobs: deque[Job] = deque()
        # Each idle worker waits for a lock of its own; releasing the lock wakes the worker.
        self._idle: list[threading.Lock] = []
        # The workers with their numbers, and the numbers of the workers that have not been started.
        self._workers: dict[threading.Thread, int] = {}
        self._unused = list(range(self.threads))[::-1]
        # The workers that have been detached and have not ended, by their identifiers.
        self._detached: dict[int, threading.Thread] = {}
        # A byte for each worker, 1 while it has a job. Workers write without the lock, each to its own byte.
        self._busy = bytearray(self.threads)
        self._awake = 0
        self._taken = 0
        self._taken_before = 0
        # Time of the last progress check, and the CPU time that the process had used by then.
        self._looked_at = 0.0
        self._used = 0.0
        # The event loop that will wake the first worker, and the event loop that checks the progress.
        self._waker: asyncio.AbstractEventLoop | None = None
        self._watcher: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def alive(self) -> int:
        """The number of workers, without detached workers."""
        # A copy in one step: while a tuple is made, other threads may change the set.
        return sum(worker.is_alive() for worker in self._workers.copy())

    @property
    def detached(self) -> int:
        """The number of detached workers that still run."""
        return len(self._detached)

    @property
    def running(self) -> int:
        """The number of workers that have a job."""
        return sum(self._busy)

    @property
    def waiting(self) -> int:
        """The number of jobs that no worker has taken."""
        return len(self._jobs)

    def post(self, job: Job) -> None:
        """Queue `job`, on the event loop's thread. Raises PoolFull, or RuntimeError after `shutdown`."""
        if self._forks != forks.forks:
            self._renew()
        jobs = self._jobs
        waiting = len(jobs)
        # A worker that was woken a moment ago has yet to take its job, which does not count as waiting.
        if waiting >= self.queue and waiting + sum(self._busy) >= self.queue + self.threads:
            self.refused += 1
            raise PoolFull
        # No lock is needed: `shutdown`, and a worker that becomes idle, set their flag before they check the jobs.
        jobs.append(job)
        if self._closed:
            self._take_back(job, RuntimeError("the worker pool has been shut down"))
            return
        awake = self._awake
        if awake == self.threads:
            return
        if not self._workers:
            # Start a worker now, because that may fail; waking one later cannot fail.
            with self._lock:
                # Another loop's thread may have started all workers first.
                started = self._wake_one() or bool(self._workers)
            if not started:
                self.refused += 1
                self._take_back(job, PoolFull("worker pool: no thread can be started"))
            return
        loop = asyncio.get_running_loop()
        # A loop recorded earlier may have stopped, so only the running loop counts.
        if awake:
            if self._watcher is not loop:
                self._watch(loop)
        elif self._waker is not loop:
            # After this iteration of the loop, which may post more jobs: a woken worker takes the GIL from the loop.
            self._waker = loop
            loop.call_soon(self._wake_first, loop)

    def _take_back(self, job: Job, error: Exception) -> None:
        # A worker may have taken the job already.
        with suppress(ValueError):
            self._jobs.remove(job)
            raise error

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        if self._forks != forks.forks:
            self._renew()
        job = _Submitted(partial(fn, *args, **kwargs))
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker pool has been shut down")
            self._jobs.append(job)
            if not self._wake_one() and self._awake == 0:
                self._jobs.pop()
                raise RuntimeError("worker pool: no thread can be started")
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if self._forks != forks.forks:
            self._renew()
        cancelled: list[Job] = []
        with self._lock:
            self._closed = True
            # Workers take jobs without the lock, so the queue may become empty at any time.
            with suppress(IndexError):
                while cancel_futures:
                    cancelled.append(self._jobs.popleft())
            for _ in range(len(self._jobs)):
                # One worker for each job: the progress check has stopped.
                self._wake_one()
            self._awake += len(self._idle)
            for wakeup in self._idle:
                wakeup.release()
            self._idle.clear()
        for job in cancelled:
            job.cancel()
        if wait:
            for worker in (*self._workers, *self._detached.values()):
                worker.join()

    def detach(self, thread: int) -> None:
        """Detach the worker with identifier `thread`. The worker ends after its job. Thread-safe."""
        with self._lock:
            worker = next((worker for worker in self._workers if worker.ident == thread), None)
            # An idle worker has ended its job meanwhile.
            if worker is None or not self._busy[self._workers[worker]]:
                return
            number = self._workers.pop(worker)
            worker.name += "-detached"
            self._detached[thread] = worker
            self._unused.append(number)
            self._busy[number] = 0
            self._awake -= 1
            if self._jobs:
                self._wake_one()

    def _wake_first(self, loop: asyncio.AbstractEventLoop) -> None:
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
        if self._watcher is not loop:
            return
        self._watcher = None
        if not self._jobs:
            return
        computed = time.process_time() - self._used
        blocking = computed < (time.perf_counter() - self._looked_at) * _BUSY_SHARE
        with self._lock:
            # While a worker makes progress, it takes all jobs: waking another takes longer than a short job.
            if blocking or self._taken == self._taken_before:
                self._wake_one()
            more = self._awake < self.threads and not self._closed
        if more:
            self._watch(loop)

    def _wake_one(self) -> bool:
        if self._idle:
            self._awake += 1
            self._idle.pop().release()
            return True
        if not self._unused:
            return False
        number = self._unused[-1]
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
            logger.warning("worker pool: thread %d of %d cannot be started: %s", number + 1, self.threads, error)
            return False
        self._awake += 1
        self._workers[worker] = self._unused.pop()
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
                    if self._has_left():
                        return
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
                logger.exception("worker pool: a job raised an exception; the worker continues")
            # Free the job now: the next one may come much later.
            del job
            if self._detached and self._has_left():
                return

    def _has_left(self) -> bool:
        return self._detached.pop(threading.get_ident(), None) is not None


@final
class _Submitted(Generic[T]):
    def __init__(self, call: Callable[[], T]) -> None:
        self.future: Future[T] = Future()
        self._call = call

    def run(self) -> None:
        settle(self.future, self._call)

    def cancel(self) -> None:
        self.future.cancel()
        self.future.set_running_or_notify_cancel()
