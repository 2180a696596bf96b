"""Which thread makes a call, how long the thread is kept, and its state for the next owner."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction

from tests.django.conftest import Admin
from tests.django.site import execute, until
from tests.forks import exit_code_in_child
from tests.helpers import settle
from uvicorn.django.cleaning import in_transaction
from uvicorn.django.lanes import Lane, Lanes, Lease, RequestRefused, ThreadsBusy, once


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    made = Lanes(Lane(2, wait=0), Lane(2, wait=0))
    yield made
    for lane in made:
        lane.close()
        lane.join()


def thread() -> int:
    return threading.get_ident()


def submitted(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Return the function that asgiref submits for a call."""
    return partial(lambda *all_arguments: all_arguments[-1](), "loop", partial(function, *arguments))


class Blocker:
    """A call that keeps the thread of its lease until it is released."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._begun = threading.Event()
        self._released = threading.Event()
        self.future = lease.submit(self._block)
        self._begun.wait()

    def _block(self) -> None:
        self._begun.set()
        self._released.wait()

    def release(self) -> None:
        self._lease.end()
        self._released.set()


def test_no_thread_is_started_before_it_is_needed(lanes: Lanes) -> None:
    Lease(lanes, is_request=True).end()
    assert lanes.requests.alive == lanes.calls.alive == 0


def test_concurrent_requests_use_one_thread_each(lanes: Lanes) -> None:
    one, other = Lease(lanes, is_request=True), Lease(lanes, is_request=True)
    threads = [lease.submit(thread).result() for lease in (one, other, one, other)]
    one.end()
    other.end()
    assert threads[:2] == threads[2:] and threads[0] != threads[1]


def test_most_recently_used_thread_is_leased_first(lanes: Lanes) -> None:
    threads = set()
    for _ in range(5):
        lease = Lease(lanes, is_request=True)
        threads.add(lease.submit(thread).result())
        lease.end()
        wait_until_idle(lanes.requests)
    assert len(threads) == 1


def test_websocket_event_frees_its_thread_after_each_call(lanes: Lanes) -> None:
    lease = Lease(lanes, is_request=False)
    lease.submit(thread).result()
    wait_until_idle(lanes.calls)
    assert lanes.calls.alive == 1


def test_call_that_follows_the_end_of_a_request_gets_a_different_thread(lanes: Lanes) -> None:
    lease = Lease(lanes, is_request=True)
    of_the_request = lease.submit(thread).result()
    lease.end()
    wait_until_idle(lanes.requests)
    assert lease.submit(thread).result() != of_the_request
    wait_until_idle(lanes.calls)


def test_thread_stays_in_use_while_a_call_outlives_its_request(lanes: Lanes) -> None:
    lease = Lease(lanes, is_request=True)
    blocker = Blocker(lease)
    lease.end()
    assert lanes.requests.leases == 1
    blocker.release()
    blocker.future.result()
    wait_until_idle(lanes.requests)


def test_thread_continues_after_a_call_raises_an_exception(lanes: Lanes) -> None:
    lease = Lease(lanes, is_request=True)
    assert isinstance(lease.submit(int, "x").exception(), ValueError)
    assert lease.submit(int, "5").result() == 5
    lease.end()


def test_call_from_an_event_loop_on_a_leased_thread_uses_a_second_thread(lanes: Lanes) -> None:
    lease = Lease(lanes, is_request=True)

    def run_a_loop() -> int:
        async def call() -> int:
            return await asyncio.get_running_loop().run_in_executor(lease, thread)

        return asyncio.run(call())

    assert lease.submit(run_a_loop).result() != lease.submit(thread).result()
    lease.end()


async def test_StopIteration_in_a_call_becomes_RuntimeError(lanes: Lanes) -> None:
    lease = Lease(lanes, is_request=True)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await asyncio.wrap_future(lease.submit(next, iter(())))
    lease.end()


def take_all(lanes: Lanes, is_request: bool) -> list[Blocker]:
    return [Blocker(Lease(lanes, is_request=is_request)) for _ in range(lanes.requests.threads)]


@pytest.mark.parametrize(("is_request", "error"), [(True, RequestRefused), (False, ThreadsBusy)])
async def test_call_is_refused_if_no_thread_becomes_free_in_time(
    lanes: Lanes, is_request: bool, error: type[BaseException]
) -> None:
    blockers = take_all(lanes, is_request)
    lease = Lease(lanes, is_request=is_request)
    with pytest.raises(error, match="2 threads were busy for 0 s"):
        await asyncio.wrap_future(lease.submit(thread))
    lease.end()
    for blocker in blockers:
        blocker.release()


async def test_thread_pool_counts_running_and_refused_calls(lanes: Lanes) -> None:
    blockers = take_all(lanes, True)
    lease = Lease(lanes, is_request=True)
    with pytest.raises(RequestRefused):
        await asyncio.wrap_future(lease.submit(thread))
    assert (lanes.requests.running, lanes.requests.waiting, lanes.requests.refused) == (2, 0, 1)
    lease.end()
    for blocker in blockers:
        blocker.release()
    wait_until_idle(lanes.requests)
    assert lanes.requests.running == 0


async def test_second_call_of_a_refused_request_is_refused_at_once(lanes: Lanes) -> None:
    blockers = take_all(lanes, True)
    lease = Lease(lanes, is_request=True)
    with pytest.raises(RequestRefused):
        await asyncio.wrap_future(lease.submit(thread))
    assert isinstance(lease.submit(thread).exception(), RequestRefused)
    lease.end()
    for blocker in blockers:
        blocker.release()


async def test_requests_cannot_take_the_threads_of_websocket_events(lanes: Lanes) -> None:
    blockers = take_all(lanes, True)
    assert await asyncio.wrap_future(Lease(lanes, is_request=False).submit(int, "5")) == 5
    for blocker in blockers:
        blocker.release()


async def test_cancelled_call_does_not_run_when_a_thread_becomes_free() -> None:
    lane = Lane(1, wait=60)
    called: list[str] = []
    blocker = Blocker(Lease(Lanes(lane, lane), is_request=True))
    waiting = Lease(Lanes(lane, lane), is_request=True)
    future = waiting.submit(called.append, "called")
    assert future.cancel()
    waiting.end()
    blocker.release()
    lane.close()
    lane.join()
    assert not called


async def test_call_is_not_refused_while_its_request_holds_a_thread() -> None:
    lane = Lane(1, wait=0)
    blocker = Blocker(Lease(Lanes(lane, lane), is_request=True))
    lease = Lease(Lanes(lane, lane), is_request=True)
    begun, released = threading.Event(), threading.Event()
    first = lease.submit(lambda: (begun.set(), released.wait()))
    second = lease.submit(int, "5")
    blocker.release()
    begun.wait()
    # The timers run out.
    await settle()
    released.set()
    await asyncio.wrap_future(first)
    assert await asyncio.wrap_future(second) == 5
    lease.end()
    lane.close()


@pytest.mark.parametrize("is_request", [True, False])
@pytest.mark.parametrize("cancels", [True, False])
async def test_refused_calls_leave_no_lease_behind(lanes: Lanes, is_request: bool, cancels: bool) -> None:
    blockers = take_all(lanes, is_request)
    for _ in range(3):
        lease = Lease(lanes, is_request=is_request)
        first, second = lease.submit(thread), lease.submit(thread)
        if cancels:
            assert second.cancel()
        await until(first.done)
        await until(second.done)
        lease.end()
    await until(lambda: lanes.requests.leases + lanes.calls.leases == 2)
    for blocker in blockers:
        blocker.release()
    await until(lambda: not lanes.requests.leases + lanes.calls.leases)
    assert await asyncio.wrap_future(lease.submit(int, "5")) == 5


async def test_event_with_two_refused_calls_gets_a_thread_when_one_is_free(lanes: Lanes) -> None:
    blockers = take_all(lanes, False)
    lease = Lease(lanes, is_request=False)
    for _ in range(2):
        with pytest.raises(ThreadsBusy):
            await asyncio.wrap_future(lease.submit(thread))
    for blocker in blockers:
        blocker.release()
    await until(lambda: not lanes.requests.leases + lanes.calls.leases)
    assert await asyncio.wrap_future(lease.submit(int, "5")) == 5


def test_closed_thread_pool_continues_to_run_calls(lanes: Lanes) -> None:
    """Tasks may run after the shutdown, and a program may serve an application twice."""
    lane = lanes.calls
    for _ in range(3):
        assert once(lanes).submit(int, "5").result() == 5
        wait_until_idle(lane)
        lane.close()
        lane.join()
    lane.open()
    assert once(lanes).submit(int, "5").result() == 5
    wait_until_idle(lane)
    assert lane.alive == 1


def test_forked_process_starts_new_threads(lanes: Lanes) -> None:
    once(lanes).submit(thread).result()
    assert exit_code_in_child(lambda: once(lanes).submit(int, "5").result()) == 0


# What is open on a thread when a call has ended


def test_event_keeps_its_thread_while_a_transaction_is_open(lanes: Lanes, admin: Admin) -> None:
    lease = Lease(lanes, is_request=False)
    atomic = transaction.atomic(using="kept")
    first = lease.submit(lambda: (atomic.__enter__(), thread())[1]).result()
    assert lease.submit(thread).result() == first and lanes.calls.leases == 1
    lease.submit(atomic.__exit__, None, None, None).result()
    wait_until_idle(lanes.calls)
    lease.end()


def test_iterator_keeps_one_thread_for_calls_of_next_until_it_ends(lanes: Lanes) -> None:
    def generate() -> Iterator[int]:
        yield thread()
        yield thread()

    lease = Lease(lanes, is_request=False)
    iterator = generate()
    first = lease.submit(submitted(next, iterator)).result()
    assert lease.submit(submitted(next, iterator)).result() == first
    assert lanes.calls.leases == 1
    assert lease.submit(submitted(next, iterator, 0)).result() == 0
    wait_until_idle(lanes.calls)


def test_lease_of_a_thread_ends_when_its_unfinished_iterator_is_freed(lanes: Lanes) -> None:
    lease = Lease(lanes, is_request=False)
    iterator = (number for number in range(9))
    lease.submit(submitted(next, iterator)).result()
    assert lanes.calls.leases == 1
    del iterator
    wait_until_idle(lanes.calls)


async def test_finally_block_of_a_freed_iterator_ends_before_the_thread_is_reused() -> None:
    lane = Lane(1, wait=60)
    closing, happened = threading.Event(), list[str]()

    def generate() -> Iterator[int]:
        try:
            yield 1
        finally:
            # Others have all the time in the world.
            closing.wait(0.1)
            happened.append("closed")

    lease = Lease(Lanes(lane, lane), is_request=False)
    iterator = generate()
    await asyncio.wrap_future(lease.submit(submitted(next, iterator)))
    following = Lease(Lanes(lane, lane), is_request=True).submit(happened.append, "next owner")
    following.add_done_callback(lambda _: closing.set())
    del iterator
    await asyncio.wrap_future(following)
    assert happened == ["closed", "next owner"]
    lane.close()


@pytest.mark.parametrize("error", [ValueError, SystemExit])
def test_later_call_succeeds_if_an_earlier_connection_fails_to_close(
    lanes: Lanes, admin: Admin, error: type[BaseException]
) -> None:
    def leave() -> None:
        execute("SELECT 5")
        connection: Any = connections["kept"]
        close = connection.close

        def fail() -> None:
            close()
            raise error

        connection.close_if_unusable_or_obsolete = connection.close = fail

    once(lanes).submit(leave).result()
    wait_until_idle(lanes.calls)
    assert once(lanes).submit(execute, "SELECT 5").result(timeout=10) == 5


@pytest.mark.parametrize("alias", ["kept", "pooled"])
@pytest.mark.parametrize("begins", ["", "BEGIN"])
def test_unread_rows_of_an_ended_request_do_not_reach_the_next_request(
    alias: str, begins: str, lanes: Lanes, admin: Admin
) -> None:
    def rows() -> Iterator[Any]:
        if begins:
            execute(begins, alias)
        with connections[alias].chunked_cursor() as cursor:
            cursor.execute("SELECT generate_series(1, 9)")
            while True:
                yield cursor.fetchone()

    lease = Lease(lanes, is_request=True)
    iterator = rows()
    assert lease.submit(submitted(next, iterator)).result() == (1,)
    lease.end()
    wait_until_idle(lanes.requests)
    # It has not been collected; its connection is closed, and the thread free.
    assert lanes.requests.alive == 1
    assert isinstance(once(lanes).submit(submitted(next, iterator)).exception(), DatabaseError)


def test_database_connection_closes_if_another_thread_frees_an_iterator(lanes: Lanes, admin: Admin) -> None:
    """The iterator's `finally` may be using the connection at that time."""
    lease = Lease(lanes, is_request=False)
    iterator = (execute("SELECT pg_backend_pid()") for _ in range(9))
    process = lease.submit(submitted(next, iterator)).result()
    del iterator
    wait_until_idle(lanes.calls)
    assert lanes.calls.alive == 1
    assert lease.submit(execute, "SELECT pg_backend_pid()").result() != process
    lease.end()


def test_database_connection_stays_open_if_the_same_thread_frees_an_iterator(lanes: Lanes, admin: Admin) -> None:
    lease = Lease(lanes, is_request=False)
    iterators = [(execute("SELECT pg_backend_pid()") for _ in range(9))]
    process = lease.submit(submitted(next, iterators[0])).result()
    lease.submit(iterators.clear).result()
    wait_until_idle(lanes.calls)
    assert lease.submit(execute, "SELECT pg_backend_pid()").result() == process
    lease.end()


def test_thread_is_kept_while_a_second_thread_closes_the_iterator(lanes: Lanes) -> None:
    begun, released = threading.Event(), threading.Event()

    def generate() -> Generator[int, None, None]:
        try:
            yield 1
        finally:
            begun.set()
            released.wait()

    lease = Lease(lanes, is_request=False)
    iterator = generate()
    lease.submit(submitted(next, iterator)).result()
    closer = threading.Thread(target=iterator.close)
    closer.start()
    begun.wait()
    # It looks whether it is needed.
    lease.submit(thread).result()
    lease.submit(thread).result()
    assert lanes.calls.leases == 1
    released.set()
    closer.join()
    del iterator, closer
    wait_until_idle(lanes.calls)


def test_transaction_that_a_request_leaves_open_is_rolled_back(
    lanes: Lanes, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    lease = Lease(lanes, is_request=True)
    lease.submit(transaction.atomic(using="kept").__enter__).result()
    lease.submit(execute, "CREATE TABLE of_an_open_transaction (number int)").result()
    lease.end()
    wait_until_idle(lanes.requests)
    following = Lease(lanes, is_request=True)
    assert following.submit(execute, "SELECT to_regclass('of_an_open_transaction')").result() is None
    assert following.submit(lambda: connections["kept"].in_atomic_block).result() is False
    following.end()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[None]:
    settings = {**connections.settings["kept"], "ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path / "rows"}
    connections.settings["sqlite"] = settings
    yield
    del connections.settings["sqlite"]


@pytest.mark.parametrize("alias", ["kept", "pooled", "sqlite"])
@pytest.mark.parametrize("is_request", [True, False])
def test_raw_sql_transaction_that_stays_open_is_rolled_back(
    alias: str, is_request: bool, sqlite: None, lanes: Lanes, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    lease, lane = Lease(lanes, is_request=is_request), lanes.requests if is_request else lanes.calls
    first = lease.submit(lambda: (execute("BEGIN", alias), thread())[1]).result()
    assert lease.submit(lambda: (execute("CREATE TABLE left_open (number int)", alias), thread())[1]).result() == first
    lease.end()
    wait_until_idle(lane)
    following = once(Lanes(lane, lane))
    with pytest.raises(DatabaseError):
        following.submit(execute, "SELECT * FROM left_open", alias).result()
    assert [record.levelno for record in caplog.records if record.name == "uvicorn.app"] == [logging.WARNING]


@pytest.mark.parametrize("alias", ["kept", "pooled", "sqlite"])
def test_no_warning_is_logged_for_a_transaction_committed_by_raw_sql(
    alias: str, sqlite: None, lanes: Lanes, admin: Admin, caplog: pytest.LogCaptureFixture
) -> None:
    lease = Lease(lanes, is_request=False)
    for sql in ("BEGIN", "SELECT 5", "COMMIT"):
        lease.submit(execute, sql, alias).result()
    wait_until_idle(lanes.calls)
    assert not caplog.records
    lease.end()


def test_failed_raw_sql_transaction_does_not_affect_the_next_request(lanes: Lanes, admin: Admin) -> None:
    lease = Lease(lanes, is_request=True)
    lease.submit(execute, "BEGIN").result()
    assert isinstance(lease.submit(execute, "SELECT no_such_column").exception(), DatabaseError)
    lease.end()
    wait_until_idle(lanes.requests)
    assert once(lanes._replace(calls=lanes.requests)).submit(execute, "SELECT 5").result() == 5


def test_in_transaction_is_false_if_the_connection_state_cannot_be_read() -> None:
    class Broken:
        @property
        def info(self) -> Any:
            raise RuntimeError("closed")

    assert not in_transaction(SimpleNamespace(connection=Broken(), in_atomic_block=False, autocommit=True))


def test_transaction_begun_with_autocommit_off_is_rolled_back(lanes: Lanes, admin: Admin) -> None:
    lease = Lease(lanes, is_request=True)
    lease.submit(transaction.set_autocommit, False, "kept").result()
    lease.submit(execute, "CREATE TABLE of_an_open_transaction (number int)").result()
    lease.end()
    wait_until_idle(lanes.requests)
    following = once(lanes)
    assert following.submit(execute, "SELECT to_regclass('of_an_open_transaction')").result() is None


def test_transaction_that_a_single_call_leaves_open_is_rolled_back(lanes: Lanes, admin: Admin) -> None:
    once(lanes).submit(transaction.atomic(using="kept").__enter__).result()
    wait_until_idle(lanes.calls)
    assert once(lanes).submit(lambda: connections["kept"].in_atomic_block).result() is False


def test_connection_with_conn_max_age_0_is_closed_when_the_request_ends(lanes: Lanes, admin: Admin) -> None:
    lease = Lease(lanes, is_request=True)
    process = lease.submit(execute, "SELECT pg_backend_pid()", "default").result()
    assert lease.submit(execute, "SELECT pg_backend_pid()", "default").result() == process
    lease.end()
    wait_until_idle(lanes.requests)
    assert lanes.requests.alive == 1
    following = Lease(lanes, is_request=True)
    assert following.submit(lambda: connections["default"].connection).result() is None
    following.end()


def test_ending_threads_close_their_database_connections(admin: Admin) -> None:
    lane = Lane(1, wait=60)
    lease = Lease(Lanes(lane, lane), is_request=True)
    process = lease.submit(execute, "SELECT pg_backend_pid()", "kept").result()
    lease.end()
    lane.close()
    lane.join()
    while admin.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [process]).fetchone() != (0,):
        pass


def wait_until_idle(lane: Lane) -> None:
    """Wait until no lease has a thread, because a thread still works after it has set the outcome of a call."""
    while lane.leases:
        os.sched_yield()
