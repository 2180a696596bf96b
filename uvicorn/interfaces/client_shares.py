"""`--threads-per-client`: a client's requests above its share of the threads wait, and let those of others pass."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import final

from uvicorn import forks
from uvicorn.concurrency.worker_pool import Job, PoolFull


@final
class SharedJob:
    """A job that takes a thread of its client's share, from when it is posted until it ends."""

    __slots__ = ("_job", "_shares", "client", "post")

    def __init__(self, job: Job, client: str, shares: ClientShares, post: Callable[[SharedJob], bool]) -> None:
        """`post` is called from any thread when a job that was held back has its turn; false if its loop has gone."""
        self._job = job
        self._shares = shares
        self.client = client
        self.post = post

    def run(self) -> None:
        """Called by a worker."""
        try:
            self._job.run()
        finally:
            self.give_back()

    def cancel(self) -> None:
        """Called instead if there will be no worker for it."""
        try:
            self._job.cancel()
        finally:
            self.give_back()

    def refuse(self) -> None:
        """Called instead of either if it was held back to the end."""
        self._job.cancel()

    def give_back(self) -> None:
        """Let the next job of the client take this one's place."""
        self._shares.give_back(self)

    def forget(self) -> None:
        """Do not post this job any more, if it is held back: its client has gone."""
        self._shares.forget(self)


@final
class ClientShares:
    """How many threads each client has taken, and the jobs that wait for one of its own; for any thread."""

    def __init__(self, most: int, queue: int) -> None:
        """At most `most` jobs of a client are posted at a time, and at most `queue` more of it are held back."""
        self._most = most
        self._queue = queue
        self._renew()

    def _renew(self) -> None:
        """Begin with no jobs: those of a parent process are not this one's."""
        self._forks = forks.forks
        self._lock = threading.Lock()
        self._taken: dict[str, int] = {}
        # In the order in which they came; those whose clients leave are taken out of the middle.
        self._waiting: dict[str, OrderedDict[SharedJob, None]] = {}

    @property
    def clients(self) -> int:
        """Clients that have a thread, or wait for one."""
        return len(self._taken.keys() | self._waiting.keys())

    def take(self, job: SharedJob) -> bool:
        """Whether `job` may be posted now; otherwise it is held back. PoolFull if too many of its client are."""
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
        """A job has ended: post the next one of its client, which takes its place."""
        while (following := self._next(job.client)) is not None:
            if following.post(following):
                return

    def _next(self, client: str) -> SharedJob | None:
        """The job that takes the place of one that has ended; None, and one place less is taken, if none waits."""
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
        """Do not post `job` any more, if it is held back."""
        with self._lock:
            self._waiting.get(job.client, OrderedDict()).pop(job, None)
            self._tidy(job.client)

    def take_back(self) -> list[SharedJob]:
        """Every job that is held back; none of them will be posted."""
        with self._lock:
            jobs = [job for waiting in self._waiting.values() for job in waiting]
            self._waiting.clear()
        return jobs

    def _tidy(self, client: str) -> None:
        """Keep nothing of a client of which nothing waits."""
        if client in self._waiting and not self._waiting[client]:
            del self._waiting[client]
