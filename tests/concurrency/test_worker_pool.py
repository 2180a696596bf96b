from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from tests.forks import exit_code_in_child
from tests.helpers import until
from uvicorn.concurrency.worker_pool import PoolFull, WorkerPool


class Calling:
    """A job that calls a function, and records whether it was cancelled instead."""

    def __init__(self, function: Callable[[], object]) -> None:
        self.run = function
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


async def test_pool_runs_non_blocking_jobs_on_one_worker() -> None:
    pool = WorkerPool(threads=8)
    threads: set[int] = set()
    done: list[int] = []
    for number in range(100):
        pool.post(Calling(lambda number=number: (threads.add(threading.get_ident()), done.append(number))))  # type: ignore[misc]
    await until(lambda: len(done) == 100)
    assert done == list(range(100))
    pool.shutdown()


async def test_job_runs_on_a_new_worker_while_the_first_worker_is_blocked() -> None:
    pool = WorkerPool(threads=2)
    release, done = threading.Event(), threading.Event()
    pool.post(Calling(release.wait))
    pool.post(Calling(done.set))
    await until(done.is_set)
    release.set()
    pool.shutdown()


async def test_job_runs_on_a_new_worker_if_the_idle_worker_becomes_blocked() -> None:
    pool = WorkerPool(threads=2)
    begun, release, done = threading.Event(), threading.Event(), threading.Event()
    # The first worker has been started, and is idle.
    pool.post(Calling(begun.set))
    await until(lambda: begun.is_set() and pool._awake == 0)
    pool.post(Calling(release.wait))
    pool.post(Calling(done.set))
    await until(done.is_set)
    release.set()
    pool.shutdown()


async def test_pool_of_4_threads_runs_4_jobs_at_the_same_time() -> None:
    pool = WorkerPool(threads=4)
    together = threading.Barrier(4)
    done: list[int] = []
    for _ in range(4):
        pool.post(Calling(lambda: done.append(together.wait(30))))
    await until(lambda: len(done) == 4)
    pool.shutdown()


async def test_pool_with_a_full_queue_raises_pool_full() -> None:
    pool = WorkerPool(threads=1, queue=2)
    begun, release = threading.Event(), threading.Event()
    pool.post(Calling(lambda: (begun.set(), release.wait())))
    await until(begun.is_set)
    pool.post(Calling(lambda: None))
    pool.post(Calling(lambda: None))
    assert len(pool._jobs) == 2
    with pytest.raises(PoolFull):
        pool.post(Calling(lambda: None))
    release.set()
    pool.shutdown()


def test_pool_returns_a_future_for_a_submitted_function() -> None:
    with WorkerPool(threads=2) as pool:
        assert pool.submit(pow, 2, 10).result(30) == 1024
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result(30)
        assert list(pool.map(abs, [-1, 2])) == [1, 2]


def test_pool_rejects_jobs_after_shutdown() -> None:
    pool = WorkerPool(threads=1)
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(abs, 1)
    with pytest.raises(RuntimeError):
        pool.post(Calling(lambda: None))


def test_pool_of_zero_threads_raises_value_error() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        WorkerPool(threads=0)


def test_C12_forked_process_starts_new_worker_threads() -> None:
    pool = WorkerPool(threads=1)
    pool.submit(abs, 1).result(30)

    def in_child() -> None:
        done = threading.Event()
        asyncio.run(post(pool, done))
        assert done.wait(30)

    assert exit_code_in_child(in_child) == 0
    pool.shutdown()


async def post(pool: WorkerPool, done: threading.Event) -> None:
    pool.post(Calling(done.set))


def test_C12_forked_process_can_submit_a_job_to_the_pool() -> None:
    pool = WorkerPool(threads=1)
    pool.submit(abs, 1).result(30)

    def in_child() -> None:
        assert pool.submit(abs, -2).result(30) == 2

    assert exit_code_in_child(in_child) == 0
    pool.shutdown()


def test_C12_pool_shutdown_in_a_forked_child_does_not_stop_the_parent_pool() -> None:
    pool = WorkerPool(threads=1)
    pool.submit(abs, 1).result(30)

    def in_child() -> None:
        pool.shutdown()
        assert pool.alive == 0

    assert exit_code_in_child(in_child) == 0
    assert pool.submit(abs, -1).result(30) == 1
    pool.shutdown()


async def test_pool_of_4_threads_and_2_queue_places_rejects_the_7th_job() -> None:
    pool = WorkerPool(threads=4, queue=2)
    release = threading.Event()
    for _ in range(6):
        pool.post(Calling(release.wait))
    with pytest.raises(PoolFull):
        pool.post(Calling(release.wait))
    release.set()
    pool.shutdown()


async def test_job_that_raises_does_not_end_its_worker_thread(caplog: pytest.LogCaptureFixture) -> None:
    pool = WorkerPool(threads=1)
    done = threading.Event()

    def fail() -> None:
        raise SystemExit(3)

    pool.post(Calling(fail))
    pool.post(Calling(done.set))
    await until(done.is_set)
    assert "worker pool: a job raised an exception; the worker continues" in caplog.text
    pool.shutdown()


async def test_pool_shutdown_may_cancel_queued_jobs() -> None:
    pool = WorkerPool(threads=1)
    begun, release = threading.Event(), threading.Event()
    pool.post(Calling(lambda: (begun.set(), release.wait())))
    await until(begun.is_set)
    waiting = Calling(lambda: None)
    pool.post(waiting)
    submitted = pool.submit(abs, 1)
    pool.shutdown(wait=False, cancel_futures=True)
    assert waiting.cancelled.is_set()
    assert submitted.cancelled()
    release.set()
    pool.shutdown()


async def test_pool_shutdown_runs_a_job_that_is_queued_behind_a_blocked_one() -> None:
    pool = WorkerPool(threads=2)
    begun, release, done = threading.Event(), threading.Event(), threading.Event()
    pool.post(Calling(lambda: (begun.set(), release.wait())))
    await until(begun.is_set)
    pool.post(Calling(done.set))
    pool.shutdown(wait=False)
    # Blocks the loop, which would otherwise wake the second worker.
    assert done.wait(30)
    release.set()
    pool.shutdown()


def test_pool_does_not_run_a_cancelled_future() -> None:
    pool = WorkerPool(threads=1)
    release, ran = threading.Event(), threading.Event()
    pool.submit(release.wait)
    cancelled = pool.submit(ran.set)
    assert cancelled.cancel()
    release.set()
    pool.shutdown()
    assert not ran.is_set()


def test_pool_starts_a_second_worker_for_a_job_of_another_event_loop() -> None:
    pool = WorkerPool(threads=2)
    release = threading.Event()

    async def block_and_leave() -> None:
        # Three: when the loop ends, a timer is left that will never fire.
        for _ in range(3):
            pool.post(Calling(release.wait))

    async def go_on() -> None:
        done = threading.Event()
        pool.post(Calling(done.set))
        await until(lambda: pool.alive == 2)
        release.set()
        await until(done.is_set)

    asyncio.run(block_and_leave())
    asyncio.run(go_on())
    pool.shutdown()


class Refusing(threading.Thread):
    """A thread in a process that has as many as it may."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


async def test_pool_that_cannot_start_a_thread_raises_pool_full(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = WorkerPool(threads=2)
    monkeypatch.setattr(threading, "Thread", Refusing)
    with pytest.raises(PoolFull):
        pool.post(Calling(lambda: None))
    with pytest.raises(RuntimeError, match="no thread"):
        pool.submit(abs, 1)
    assert len(pool._jobs) == 0
    monkeypatch.undo()
    assert pool.submit(abs, -1).result(30) == 1
    pool.shutdown()


@pytest.mark.any_loop
@pytest.mark.parametrize("way", ["post", "submit", "shutdown"])
async def test_C12_pool_in_a_forked_process_starts_without_threads(way: str) -> None:
    pool = WorkerPool(threads=1)
    pool.submit(abs, 1).result(30)
    [worker] = pool._workers
    # What a child sees, and a test in a child could not report.
    pool._forks = -1
    ways: dict[str, Callable[[], object]] = {
        "post": lambda: pool.post(Calling(int)),
        "submit": lambda: pool.submit(int),
        "shutdown": pool.shutdown,
    }
    ways[way]()
    assert worker not in pool._workers
    pool.shutdown()


@pytest.mark.parametrize(("computed", "alive"), [(1000, 1), (0, 2)], ids=["computes", "blocks in each job"])
async def test_pool_starts_no_second_worker_while_the_first_makes_progress(computed: float, alive: int) -> None:
    pool = WorkerPool(threads=2)
    begun, release = threading.Event(), threading.Event()
    pool.post(Calling(lambda: begun.set() or release.wait()))
    await until(begun.is_set)
    pool.post(Calling(int))
    # As if the worker had taken another job since the second one was posted, and had had so many seconds of a CPU.
    pool._taken += 1
    pool._used = time.process_time() - computed
    pool._looked_at -= 1
    pool._check_headway(asyncio.get_running_loop())
    assert pool.alive == alive
    release.set()
    pool.shutdown()


def test_removing_a_started_job_from_the_pool_queue_does_nothing() -> None:
    pool = WorkerPool(threads=1)
    pool._take_back(Calling(int), RuntimeError("the worker pool has been shut down"))
    assert len(pool._jobs) == 0


class Detaching:
    """A job that detaches its worker, then blocks until `release` is set."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool = pool
        self.thread: threading.Thread | None = None
        self.detached, self.release = threading.Event(), threading.Event()

    def run(self) -> None:
        self.thread = threading.current_thread()
        self.pool.detach(threading.get_ident())
        self.detached.set()
        self.release.wait()

    def cancel(self) -> None:
        raise AssertionError


async def test_detached_worker_occupies_no_thread_of_the_pool() -> None:
    pool = WorkerPool(threads=1)
    jobs = [Detaching(pool) for _ in range(3)]
    for job in jobs:
        pool.post(job)
        await until(job.detached.is_set)
    done = threading.Event()
    pool.post(Calling(done.set))
    await until(done.is_set)
    assert (pool.alive, pool.detached) == (1, 3)
    for job in jobs:
        job.release.set()
    pool.shutdown()


async def test_detached_worker_ends_after_its_job() -> None:
    pool = WorkerPool(threads=1)
    job = Detaching(pool)
    pool.post(job)
    await until(job.detached.is_set)
    job.release.set()
    await until(lambda: not pool.detached)
    assert job.thread is not None
    job.thread.join()
    assert pool.submit(threading.current_thread).result(30) is not job.thread
    pool.shutdown()


async def test_queued_job_runs_on_a_new_worker_after_the_first_is_detached() -> None:
    pool = WorkerPool(threads=1)
    begun, release, done = threading.Event(), threading.Event(), threading.Event()
    running: list[int] = []
    pool.post(Calling(lambda: (running.append(threading.get_ident()), begun.set(), release.wait())))
    await until(begun.is_set)
    pool.post(Calling(done.set))
    pool.detach(running[0])
    # Blocks the loop, which could otherwise wake a worker.
    assert done.wait(30)
    release.set()
    pool.shutdown()


async def test_detaching_an_idle_worker_changes_nothing() -> None:
    pool = WorkerPool(threads=1)
    worker = pool.submit(threading.get_ident).result(30)
    await until(lambda: not pool._awake)
    pool.detach(worker)
    assert (pool.alive, pool.detached) == (1, 0)
    assert pool.submit(threading.get_ident).result(30) == worker
    pool.shutdown()


async def test_detaching_a_thread_of_a_different_pool_changes_nothing() -> None:
    pool = WorkerPool(threads=1)
    pool.submit(int).result(30)
    pool.detach(threading.get_ident())
    assert (pool.alive, pool.detached) == (1, 0)
    pool.shutdown()


async def test_pool_shutdown_waits_for_detached_workers() -> None:
    pool = WorkerPool(threads=1)
    job = Detaching(pool)
    pool.post(job)
    await until(job.detached.is_set)
    waiting = threading.Thread(target=pool.shutdown)
    waiting.start()
    assert waiting.is_alive()
    job.release.set()
    waiting.join()
    assert job.thread is not None and not job.thread.is_alive()
