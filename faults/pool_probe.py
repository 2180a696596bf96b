"""How long jobs wait in a worker pool while another worker is idle. Prints milliseconds as JSON.

In a process of its own, without a socket: what a network adds would hide it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable

from uvicorn.concurrency.worker_pool import WorkerPool
from uvicorn.server.loops import loop_factory

THREADS = 8
QUICK_JOBS = 200
BURST_JOBS = 32
BURST_SECONDS = 0.0005


class Job:
    """A job that records its wait, then runs a function."""

    def __init__(self, work: Callable[[], object], on_started: Callable[[float], object]) -> None:
        self._work = work
        self._on_started = on_started
        self._posted = time.perf_counter()

    def run(self) -> None:
        """Run on a worker."""
        self._on_started((time.perf_counter() - self._posted) * 1000)
        self._work()

    def cancel(self) -> None:
        """Called instead of `run` if the pool is shut down first."""


async def _wait_of(pool: WorkerPool, work: Callable[[], object]) -> float:
    loop = asyncio.get_running_loop()
    started: asyncio.Future[float] = loop.create_future()
    pool.post(Job(work, lambda wait: loop.call_soon_threadsafe(started.set_result, wait)))
    return await started


async def behind_blocked(blocked: int) -> list[float]:
    """Return the waits of quick jobs, one after another, while some workers are blocked."""
    pool = WorkerPool(THREADS)
    release = threading.Event()
    for _ in range(blocked):
        await _wait_of(pool, release.wait)
    waits = []
    for _ in range(QUICK_JOBS):
        waits.append(await _wait_of(pool, lambda: None))
        await asyncio.sleep(0.0005)
    release.set()
    pool.shutdown()
    return waits


async def behind_newly_blocked() -> list[float]:
    """Return the waits of quick jobs, each submitted directly after one that blocks."""
    waits = []
    for _ in range(50):
        pool = WorkerPool(THREADS)
        release = threading.Event()
        first = asyncio.create_task(_wait_of(pool, release.wait))
        await asyncio.sleep(0)
        waits.append(await _wait_of(pool, lambda: None))
        await first
        release.set()
        pool.shutdown()
    return waits


async def burst() -> float:
    """Return the longest wait of jobs that are submitted at once and each block for a moment."""
    pool = WorkerPool(THREADS)
    longest = []
    for _ in range(20):
        waits = await asyncio.gather(*(_wait_of(pool, lambda: time.sleep(BURST_SECONDS)) for _ in range(BURST_JOBS)))
        longest.append(max(waits))
        await asyncio.sleep(0.05)
    pool.shutdown()
    return sorted(longest)[len(longest) // 2]


async def main() -> None:
    """Print the waits for each number of blocked workers, from none to all but one, and of the other two tests."""
    by_blocked = [await behind_blocked(count) for count in range(THREADS)]
    print(json.dumps([by_blocked, await behind_newly_blocked(), await burst()]))


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory(sys.argv[1])) as runner:
        runner.run(main())
