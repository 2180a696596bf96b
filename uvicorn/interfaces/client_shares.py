"""Limits the worker threads of each client (`--threads-per-client`)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import final

from uvicorn import forks
from uvicorn.concurrency.worker_pool import Job, PoolFull


@final
class SharedJob:
    """A job that counts toward its client's limit on threads."""

    __slots__ = ("_lock", "_shares", "client", "job", "post")

    def __init__(self, job: Job, client: str, shares: ClientShares, post: Callable[[SharedJob], bool]) -> None:
        #: The job itself. Cancel it directly if it was never posted.
        self.job = job
        self._shares = shares
        self.client = client
        #: Posts a job; returns False if the event loop is closed. Thread-safe.
        self.post = post
        # Acquired by the first `give_back`.
        self._lock = threading.Lock()

    def run(self) -> None:
        try:
            self.job.run()
        finally:
            self.give_back()

    def cancel(self) -> None:
        try:
            self.job.cancel()
        finally:
            self.give_back()

    def give_back(self) -> None:
        """Stop counting the job toward the client's limit. Further calls do nothing."""
        if self._lock.acquire(blocking=False):
            self._shares.give_back(self)


@final
class ClientShares:
    """Holds back a client's jobs above the client's limit. Thread-safe."""

    def __init__(self, most: int, queue: int) -> None:
        # For each client, the most jobs in the pool, and the most jobs that are held back.
        self._most = most
        self._queue = queue
        self._renew()

    def _renew(self) -> None:
        self._forks = forks.forks
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}
        # Jobs in the order of their arrival. OrderedDict: jobs of clients that leave are removed from the middle.
        self._waiting: dict[str, OrderedDict[SharedJob, None]] = {}

    def take(self, job: SharedJob) -> bool:
        """Return True if `job` may be posted now. Otherwise hold `job` back. Raises PoolFull."""
        if self._forks != forks.forks:
            self._renew()
        client = job.client
        with self._lock:
            taken = self._taken.get(client, 0)
            if taken < self._most:
                self._taken[client] = taken + 1
                return True
            waiting = self._waiting.setdefault(client, OrderedDict())
            if len(waiting) >= self._queue:
                raise PoolFull
            waiting[job] = None
            return False

    def give_back(self, job: SharedJob) -> None:
        """Post the client's next job in place of `job`."""
        while (following := self._next(job.client)) is not None:
            if following.post(following):
                return

    def _next(self, client: str) -> SharedJob | None:
        with self._lock:
            waiting = self._waiting.get(client)
            if waiting:
                following, _ = waiting.popitem(last=False)
                self._tidy(client)
                return following
            taken = self._taken.get(client, 0)
            if taken > 1:
                self._taken[client] = taken - 1
            else:
                self._taken.pop(client, None)
            return None

    def forget(self, job: SharedJob) -> None:
        """Remove `job` from the jobs that are held back."""
        with self._lock:
            self._waiting.get(job.client, OrderedDict()).pop(job, None)
            self._tidy(job.client)

    def take_back(self) -> list[SharedJob]:
        """Remove and return all jobs that are held back."""
        with self._lock:
            jobs = [job for waiting in self._waiting.values() for job in waiting]
            self._waiting.clear()
        return jobs

    def _tidy(self, client: str) -> None:
        if client in self._waiting and not self._waiting[client]:
            del self._waiting[client]
