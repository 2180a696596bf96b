"""No request finds state of another request on its thread, on its connection or in its database session.

Each test tries to make a request see the data of another request.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.core.signals import request_finished
from django.db import DatabaseError, connections, transaction
from django.db.models.signals import pre_save
from django.db.transaction import TransactionManagementError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.utils import translation

from tests.django.conftest import Admin
from tests.django.site import TENANTS, Client, Row, django_site, event, execute, found, get, local, run, scope_of, until
from tests.forks import exit_code_in_child
from uvicorn.django import DjangoThreads, release_thread
from uvicorn.django.lanes import Lane

Make = Callable[..., DjangoThreads]

USERS = [f"user{number}" for number in range(120)]


def leave_traces(user: str) -> None:
    """Store a user in a `threading.local`, on the connection and in the database session."""
    local.user = connections["kept"].tenant = user
    execute(f"SET app.tenant = '{user}'")


async def call(app: DjangoThreads, kind: str = "http", **keys: Any) -> None:
    await app(scope_of(type=kind, **keys), None, None)


def app_of(work: Callable[[], Any]) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await work()

    return app


async def test_request_sees_only_its_tenant_while_websocket_events_run(threads_of: Make) -> None:
    # All threads are taken before any request reads back what its middleware has left.
    together = asyncio.Barrier(4)

    async def view(request: HttpRequest) -> HttpResponse:
        await together.wait()
        return HttpResponse(" ".join(await sync_to_async(found)()))

    async def on_event(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await sync_to_async(leave_traces)("a websocket")

    site = threads_of(django_site(view, TENANTS))
    websockets = DjangoThreads(on_event)
    websockets.lanes = site.lanes
    events = asyncio.gather(*(event(websockets) for _ in USERS))
    answers = await asyncio.gather(*(get(site, user=user) for user in USERS))
    await events
    assert answers == [(200, user) for user in USERS]


async def test_120_concurrent_requests_release_their_own_advisory_locks(threads_of: Make) -> None:
    together = asyncio.Barrier(4)

    async def view(request: HttpRequest) -> HttpResponse:
        number = int(request.headers["user"])
        await run(f"SELECT pg_advisory_lock({number})")
        await together.wait()
        return HttpResponse(await run(f"SELECT pg_advisory_unlock({number})"))

    site = threads_of(django_site(view))
    answers = await asyncio.gather(*(get(site, user=str(number)) for number in range(120)))
    assert answers == [(200, "True")] * 120


async def test_concurrent_channels_requests_do_not_mix_up_users(threads_of: Make) -> None:
    together = asyncio.Barrier(4)
    seen: list[set[str]] = []

    async def app(message: Any, channels: Any) -> None:
        await sync_to_async(leave_traces)(message["path"])
        await together.wait()
        seen.append(await sync_to_async(found)() ^ {message["path"]})

    site = threads_of(app)
    await asyncio.gather(*(event(site, "http.request", path=user) for user in USERS))
    assert seen == [set()] * 120


async def test_nested_tasks_and_calls_see_the_user_of_their_request(threads_of: Make) -> None:
    together = asyncio.Barrier(4)

    async def read() -> set[str]:
        return await sync_to_async(lambda: async_to_sync(sync_to_async(found))())()

    async def view(request: HttpRequest) -> HttpResponse:
        await together.wait()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(read()) for _ in range(3)]
        gathered = await asyncio.gather(*(read() for _ in range(3)), asyncio.wait_for(read(), 60))
        return HttpResponse(" ".join(set().union(*gathered, *(task.result() for task in tasks))))

    site = threads_of(django_site(view, TENANTS))
    users = USERS[:40]
    assert await asyncio.gather(*(get(site, user=user) for user in users)) == [(200, user) for user in users]


async def test_nested_ThreadSensitiveContext_sees_the_user_of_its_request(threads_of: Make) -> None:
    together = asyncio.Barrier(4)

    async def view(request: HttpRequest) -> HttpResponse:
        await together.wait()
        async with ThreadSensitiveContext():
            return HttpResponse(" ".join(await sync_to_async(found)()))

    site = threads_of(django_site(view, TENANTS))
    users = USERS[:20]
    assert await asyncio.gather(*(get(site, user=user) for user in users)) == [(200, user) for user in users]


async def test_task_of_an_ended_request_uses_no_thread_of_an_open_request(threads_of: Make) -> None:
    ended = asyncio.Event()
    tasks: list[asyncio.Task[int]] = []

    async def late() -> int:
        await ended.wait()
        return await sync_to_async(threading.get_ident)()

    async def begin() -> None:
        await sync_to_async(leave_traces)("an earlier request")
        tasks.append(asyncio.create_task(late()))

    site = threads_of(app_of(begin), threads=1)
    await call(site)
    of_requests: list[int] = []

    async def hold() -> None:
        of_requests.append(await sync_to_async(threading.get_ident)())
        ended.set()
        assert await tasks[0] != of_requests[0]

    following = threads_of(app_of(hold))
    following.lanes = site.lanes
    await call(following)
    assert of_requests


async def test_call_in_the_context_of_an_ended_request_gets_a_separate_thread(threads_of: Make) -> None:
    kept: list[contextvars.Context] = []

    async def keep() -> None:
        await sync_to_async(leave_traces)("an earlier request")
        kept.append(contextvars.copy_context())

    site = threads_of(app_of(keep), threads=1)
    await call(site)

    async def use() -> None:
        own = await sync_to_async(threading.get_ident)()
        other = sync_to_async(threading.get_ident)
        assert await asyncio.create_task(other(), context=kept[0]) != own

    following = threads_of(app_of(use))
    following.lanes = site.lanes
    await call(following)


async def test_language_that_a_request_activates_is_not_active_in_the_next_request(threads_of: Make) -> None:
    languages: list[str | None] = []

    async def activate() -> None:
        languages.append(await sync_to_async(translation.get_language)())
        await sync_to_async(translation.activate)("de")
        languages.append(await sync_to_async(translation.get_language)())

    site = threads_of(app_of(activate), threads=1)
    # Each in a task of its own, as under a server.
    for _ in range(2):
        await asyncio.create_task(call(site))
    assert languages == ["en-us", "de"] * 2


async def test_request_restores_the_context_variables_of_its_caller(threads_of: Make) -> None:
    before = set(contextvars.copy_context())
    await call(threads_of(app_of(lambda: run("SELECT 1"))))
    from asgiref.sync import SyncToAsync

    assert SyncToAsync.thread_sensitive_context.get(None) is None
    assert before <= set(contextvars.copy_context())


# Requests that end in the middle of something


async def slow_query(admin: Admin, task: asyncio.Task[Any]) -> None:
    """Wait until the task's query runs in the database."""

    def runs() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active'"
        row = admin.execute(query).fetchone()
        return bool(row and row[0])

    await until(runs)


def end_queries(admin: Admin) -> None:
    admin.execute("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'")


async def test_cancelled_request_keeps_its_thread_until_its_query_ends(threads_of: Make, admin: Admin) -> None:
    site = threads_of(app_of(lambda: run("SELECT pg_sleep(60)")), threads=1)
    task = asyncio.create_task(call(site))
    await slow_query(admin, task)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert site.lanes.requests.leases == 1
    following = threads_of(app_of(lambda: run("SELECT 1")))
    following.lanes = site.lanes
    waiting = asyncio.create_task(call(following))
    end_queries(admin)
    await waiting


async def test_cancelled_request_leaves_no_open_transaction(threads_of: Make, admin: Admin) -> None:
    entered = asyncio.Event()

    async def stay() -> None:
        await sync_to_async(transaction.atomic("kept").__enter__)()
        await Row.objects.using("kept").acreate(number=1000)
        entered.set()
        await asyncio.Event().wait()

    site = threads_of(app_of(stay), threads=1)
    task = asyncio.create_task(call(site))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    async def look() -> None:
        assert not await sync_to_async(lambda: connections["kept"].in_atomic_block)()
        assert not await Row.objects.using("kept").filter(number=1000).aexists()

    following = threads_of(app_of(look))
    following.lanes = site.lanes
    await call(following)


@pytest.mark.parametrize("releases", [False, True], ids=["ended", "released"])
async def test_task_that_outlives_its_request_cannot_commit_half_a_transaction(
    releases: bool, threads_of: Make
) -> None:
    ended = asyncio.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def late(atomic: Any) -> None:
        await ended.wait()
        await Row.objects.using("kept").acreate(number=1001)
        await sync_to_async(atomic.__exit__)(None, None, None)

    async def begin() -> None:
        atomic = transaction.atomic("kept")
        await sync_to_async(atomic.__enter__)()
        await Row.objects.using("kept").acreate(number=1000)
        tasks.append(asyncio.create_task(late(atomic)))
        if releases:
            release_thread()
            await until(lambda: not site.lanes.requests.leases)

    site = threads_of(app_of(begin))
    await call(site)
    await until(lambda: not site.lanes.requests.leases)
    ended.set()
    with pytest.raises(TransactionManagementError, match="the transaction outlived its handler"):
        await tasks[0]
    assert not await sync_to_async(Row.objects.filter(number__gte=1000).exists)()


async def test_failed_transaction_does_not_affect_the_next_request(threads_of: Make) -> None:
    async def fail() -> None:
        await sync_to_async(transaction.atomic("kept").__enter__)()
        await run("SELECT no_such_column")

    site = threads_of(app_of(fail), threads=1)
    with pytest.raises(DatabaseError):
        await call(site)
    following = threads_of(app_of(lambda: run("SELECT 1")))
    following.lanes = site.lanes
    await call(following)


async def test_unread_rows_of_one_request_do_not_reach_the_next_request(threads_of: Make) -> None:
    async def abandon() -> None:
        async for _ in Row.objects.using("kept").aiterator(chunk_size=2):
            break

    async def read() -> None:
        rows = Row.objects.using("kept").filter(number__lt=5).order_by("number").aiterator(chunk_size=2)
        assert [row.number async for row in rows] == [0, 1, 2, 3, 4]

    site, following = threads_of(app_of(abandon), threads=1), threads_of(app_of(read))
    following.lanes = site.lanes
    for _ in range(3):
        await call(site)
        await call(following)


@pytest.mark.parametrize("kind", ["websocket", "http"])
async def test_row_iteration_stays_on_one_thread_during_concurrent_requests(
    kind: str, threads_of: Make, admin: Admin
) -> None:
    """CONN_MAX_AGE is 0, so giving the connection back would close it with its unread rows."""

    async def read() -> None:
        numbers = []
        async for row in Row.objects.order_by("number").aiterator(chunk_size=2):
            numbers.append(row.number)
            await run("SELECT 1", "default")
        assert numbers == list(range(23))

    site = threads_of(app_of(read), threads=3)
    await asyncio.gather(*(call(site, kind) for _ in range(9)))


async def test_streaming_response_releases_its_thread_when_the_client_disconnects(threads_of: Make) -> None:
    client: list[Client] = []

    async def rows() -> AsyncIterator[str]:
        async for row in Row.objects.using("kept").aiterator(chunk_size=2):
            yield f"{row.number}\n"
            client[0].leave()

    async def view(request: HttpRequest) -> StreamingHttpResponse:
        return StreamingHttpResponse(rows())

    site = threads_of(django_site(view, TENANTS), threads=1)
    site.lanes = site.lanes._replace(requests=Lane(1, wait=0))
    client.append(Client(site, user="reader"))
    await client[0].ask()
    await until(lambda: not site.lanes.requests.leases)
    site.lanes.requests.close()
    site.lanes.requests.join()


async def test_database_call_reconnects_after_the_application_closes_connections(threads_of: Make) -> None:
    async def close() -> None:
        await sync_to_async(leave_traces)("x")
        await sync_to_async(connections.close_all)()
        assert await run("SELECT current_setting('app.tenant', true)") in (None, "")

    site = threads_of(app_of(close), threads=1)
    await call(site)
    await call(site)


async def test_release_thread_rolls_back_the_open_transaction_of_a_request(threads_of: Make) -> None:
    async def stream() -> None:
        await sync_to_async(transaction.atomic("kept").__enter__)()
        release_thread()
        await until(lambda: not site.lanes.requests.leases)

    async def look() -> None:
        assert not await sync_to_async(lambda: connections["kept"].in_atomic_block)()

    site = threads_of(app_of(stream), threads=1)
    following = threads_of(app_of(look))
    following.lanes = site.lanes
    await call(site)
    await call(following)


# Threads, processes and event loops


async def test_SystemExit_in_a_call_does_not_end_its_thread(threads_of: Make) -> None:
    async def leave() -> None:
        with pytest.raises(SystemExit):
            await sync_to_async(sys.exit)(3)

    site = threads_of(app_of(leave), threads=1)
    await call(site)
    await call(site)
    assert site.lanes.requests.alive == 1


async def test_forked_child_opens_new_database_connections(threads_of: Make, postgres: Any) -> None:
    def fork() -> int:
        process = execute("SELECT pg_backend_pid()")

        def child() -> None:
            # As a child does that is to use the database.
            for connection in connections.all(initialized_only=True):
                connection.connection = None
            assert execute("SELECT pg_backend_pid()") != process

        return exit_code_in_child(child)

    async def work() -> None:
        assert await sync_to_async(fork)() == 0
        assert await run("SELECT 5") == 5

    await call(threads_of(app_of(work)))


@pytest.mark.parametrize(("returns", "code"), [(True, 1), (False, 7)], ids=["returns", "exits"])
async def test_forked_child_exits_although_its_parent_has_database_connections(
    returns: bool, code: int, threads_of: Make, postgres: Any
) -> None:
    """Otherwise the child would close the parent's connections at the end of the call, and then wait for ever."""

    def fork() -> int:
        execute("SELECT 5", "default")
        child = os.fork()
        if child == 0 and not returns:
            sys.exit(code)
        return child

    async def work() -> None:
        child = await sync_to_async(fork)()
        status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status[1]) == code

    await call(threads_of(app_of(work)), "websocket")


async def test_two_event_loops_share_the_threads_of_one_application(threads_of: Make) -> None:
    seen: list[set[str]] = []

    async def app(message: Any, channels: Any) -> None:
        await sync_to_async(leave_traces)(message["path"])
        await asyncio.sleep(0)
        seen.append(await sync_to_async(found)() ^ {message["path"]})

    site = threads_of(app)

    async def ask() -> None:
        await asyncio.gather(*(event(site, "http.request", path=user) for user in USERS[:40]))

    await asyncio.gather(ask(), asyncio.to_thread(asyncio.run, ask()))
    assert seen == [set()] * 80


async def test_async_to_sync_runs_an_inner_application_on_the_calling_thread(threads_of: Make) -> None:
    """`async_to_sync` gives the inner application the caller's thread, as tests with transactions need it."""
    threads: list[int] = []

    async def inner_work() -> None:
        threads.append(await sync_to_async(threading.get_ident)())

    inner = threads_of(app_of(inner_work))

    async def outer_work() -> None:
        def plain() -> None:
            threads.append(threading.get_ident())
            async_to_sync(inner)(scope_of(), None, None)

        await sync_to_async(plain)()

    await call(threads_of(app_of(outer_work)))
    assert threads[0] == threads[1]


async def test_nested_request_is_refused_if_the_outer_request_holds_the_only_thread(
    threads_of: Make,
) -> None:
    depth: list[int] = []
    sent: list[dict[str, Any]] = []

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await sync_to_async(int)("5")
        depth.append(1)
        if len(depth) == 1:
            await site(scope_of(), None, send)

    site = threads_of(app, threads=1, wait=0)
    await site(scope_of(), None, send)
    assert sent[0]["status"] == 503


async def test_forked_process_starts_without_leased_threads(threads_of: Make) -> None:
    site = threads_of(app_of(lambda: sync_to_async(int)("5")), threads=1)
    await call(site)
    await until(lambda: not site.lanes.requests.leases)

    def child() -> None:
        assert site.lanes.requests.alive == site.lanes.requests.leases == 0
        asyncio.run(site.startup())
        asyncio.run(call(site))

    # Another thread has a lock when the process forks.
    with site.lanes.requests._lock:
        assert exit_code_in_child(child) == 0


def trace_left_by(user: str) -> Callable[..., Any]:
    """Return a handler of events that leaves `user` on its thread."""

    async def on_event(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await sync_to_async(leave_traces)(user)

    return on_event


class Backend(ModelBackend):
    """Stores the user of the request for the calls that follow."""

    def get_user(self, user_id: int) -> Any:
        user = super().get_user(user_id)
        leave_traces(f"user{user_id}")
        return user


async def test_view_gets_the_logged_in_user_behind_LoginRequiredMiddleware(threads_of: Make) -> None:
    def session_of_a_new_user() -> tuple[str, int]:
        user = User.objects.create(username=f"new{User.objects.count()}")
        session = SessionStore()
        session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(user.pk), f"{__name__}.Backend"
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
        session.save()
        return session.session_key, user.pk

    async def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse(" ".join(await sync_to_async(found)()))

    with override_settings(AUTHENTICATION_BACKENDS=[f"{__name__}.Backend"]):
        site = threads_of(django_site(view, "django.contrib.auth.middleware.LoginRequiredMiddleware"), threads=2)
        sessions = [await sync_to_async(session_of_a_new_user)() for _ in range(3)]
        for key, pk in sessions * 3:
            assert await get(site, cookie=f"sessionid={key}") == (200, f"user{pk}")


@pytest.mark.parametrize("what", ["the session is saved", "the request is finished"])
async def test_signal_receivers_see_no_thread_state_of_an_earlier_event(what: str, threads_of: Make) -> None:
    seen: list[Any] = []

    def receive(**named: Any) -> None:
        seen.append(getattr(local, "user", None))

    async def view(request: HttpRequest) -> HttpResponse:
        if what == "the session is saved":
            request.session["cart"] = 1
        return HttpResponse("ok")

    site = threads_of(django_site(view), threads=1)
    websocket = DjangoThreads(trace_left_by("a websocket"))
    websocket.lanes = site.lanes
    signal = pre_save if what == "the session is saved" else request_finished
    signal.connect(receive)
    try:
        await event(websocket)
        assert await get(site) == (200, "ok")
    finally:
        signal.disconnect(receive)
    assert seen == [None]
