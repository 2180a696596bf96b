"""`DjangoThreads` around applications of each kind: transactions, rows, failures of the database, and overload."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from tests.django.conftest import Admin, clients
from tests.django.site import ALIASES, Client, Row, django_site, event, execute, get, run, scope_of, until
from uvicorn import Route, Router
from uvicorn.core.counts import Counts, Place
from uvicorn.core.endpoint import Endpoint
from uvicorn.django import DjangoThreads, ThreadsBusy, release_thread
from uvicorn.django.lanes import Lane, once
from uvicorn.errors import ConfigError, InterfaceError
from uvicorn.interfaces.detect import build_interface, detect_interface
from uvicorn.settings import Settings

Make = Callable[..., DjangoThreads]
Work = Callable[[], Awaitable[object]]
#: Does some work in an application of some kind below DjangoThreads, and returns what comes of it.
Do = Callable[[Work], Awaitable[Any]]


async def in_asgi(make: Make, work: Work) -> Any:
    outcome = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        outcome.append(await work())

    await make(app)(scope_of(), None, None)
    return outcome[0]


async def in_django(make: Make, work: Work) -> Any:
    outcome = []

    async def view(request: HttpRequest) -> HttpResponse:
        outcome.append(await work())
        return HttpResponse()

    await get(make(django_site(view)))
    return outcome[0]


async def in_channels(make: Make, work: Work, kind: str = "http.request") -> Any:
    outcome = []

    async def app(message: Any, channels: Any) -> None:
        outcome.append(await work())

    await event(make(app), kind)
    return outcome[0]


async def in_websocket_event(make: Make, work: Work) -> Any:
    return await in_channels(make, work, "websocket.receive")


async def in_task_that_outlives_its_request(make: Make, work: Work) -> Any:
    tasks: list[asyncio.Task[Any]] = []
    ended = asyncio.Event()

    async def late() -> Any:
        await ended.wait()
        return await work()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await run("SELECT 1")
        tasks.append(asyncio.create_task(late()))

    await make(app)(scope_of(), None, None)
    ended.set()
    return await tasks[0]


REQUESTS = [in_asgi, in_django, in_channels]
PLACES = [*REQUESTS, in_websocket_event, in_task_that_outlives_its_request]
#: Where a transaction may be open from one call to the next.
OWNERS = [*REQUESTS, in_websocket_event]


@pytest.fixture
def do(request: pytest.FixtureRequest, threads_of: Make) -> Do:
    return lambda work: request.param(threads_of, work)


@pytest.fixture(params=ALIASES)
def alias(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def places(*, owners_only: bool = False) -> pytest.MarkDecorator:
    chosen = OWNERS if owners_only else PLACES
    return pytest.mark.parametrize("do", chosen, indirect=True, ids=lambda place: place.__name__)


# As under Django alone


@pytest.mark.any_loop
@places()
async def test_asynchronous_iteration_reads_all_rows_in_chunks(do: Do, alias: str) -> None:
    async def work() -> list[int]:
        rows = Row.objects.using(alias).order_by("number").aiterator(chunk_size=5)
        return [row.number async for row in rows]

    assert await do(work) == list(range(23))


@pytest.mark.any_loop
@places()
async def test_nested_async_queryset_iterations_do_not_mix_up_rows(do: Do, alias: str) -> None:
    async def work() -> int:
        pairs = 0
        async for row in Row.objects.using(alias).filter(number__lt=7).aiterator(chunk_size=3):
            async for other in Row.objects.using(alias).filter(number__lt=row.number).aiterator(chunk_size=2):
                assert other.number < row.number
                pairs += 1
        return pairs

    assert await do(work) == 21


@pytest.mark.any_loop
@places(owners_only=True)
async def test_transaction_lasts_across_two_awaits(do: Do, alias: str) -> None:
    async def work() -> list[int]:
        counts = []
        atomic = transaction.atomic(using=alias)
        await sync_to_async(atomic.__enter__)()
        await Row.objects.using(alias).acreate(number=1000)
        await asyncio.sleep(0)
        counts.append(await Row.objects.using(alias).filter(number=1000).acount())
        await sync_to_async(transaction.set_rollback)(True, using=alias)
        await sync_to_async(atomic.__exit__)(None, None, None)
        counts.append(await Row.objects.using(alias).filter(number=1000).acount())
        return counts

    assert await do(work) == [1, 0]


@pytest.mark.any_loop
@places(owners_only=True)
async def test_savepoint_lasts_across_two_awaits(do: Do, alias: str) -> None:
    async def work() -> list[int]:
        rows = Row.objects.using(alias).filter(number__gte=1000)
        outer, inner = transaction.atomic(using=alias), transaction.atomic(using=alias)
        await sync_to_async(outer.__enter__)()
        await Row.objects.using(alias).acreate(number=1000)
        await sync_to_async(inner.__enter__)()
        await Row.objects.using(alias).acreate(number=1001)
        await sync_to_async(inner.__exit__)(ValueError, ValueError(), None)
        numbers = [row.number async for row in rows]
        await sync_to_async(outer.__exit__)(ValueError, ValueError(), None)
        return [*numbers, await rows.all().acount()]

    assert await do(work) == [1000, 0]


@pytest.mark.any_loop
@places(owners_only=True)
async def test_locked_rows_stay_locked_across_an_await(do: Do, alias: str, admin: Admin) -> None:
    async def work() -> list[int]:
        locked = []
        free = "SELECT number FROM site_row WHERE number < 3 ORDER BY number FOR UPDATE SKIP LOCKED"
        atomic = transaction.atomic(using=alias)
        await sync_to_async(atomic.__enter__)()
        await Row.objects.using(alias).select_for_update().aget(number=1)
        locked.append(len(admin.execute(free).fetchall()))
        await sync_to_async(atomic.__exit__)(None, None, None)
        locked.append(len(admin.execute(free).fetchall()))
        return locked

    assert await do(work) == [2, 3]


@pytest.mark.any_loop
@places()
async def test_concurrent_queries_in_a_gather_return_the_right_results(do: Do, alias: str) -> None:
    async def work() -> list[int]:
        return await asyncio.gather(*(run(f"SELECT {number}", alias) for number in range(20)))

    assert await do(work) == list(range(20))


@pytest.mark.any_loop
@places()
async def test_nested_sync_and_async_calls_use_one_database_connection(do: Do) -> None:
    async def work() -> bool:
        def outer() -> bool:
            process = execute("SELECT pg_backend_pid()")
            return bool(async_to_sync(run)("SELECT pg_backend_pid()") == process)

        return await sync_to_async(outer)()

    assert await do(work)


# Which threads and connections are used


@pytest.mark.parametrize("place", REQUESTS)
async def test_calls_of_one_request_share_a_database_connection(place: Any, threads_of: Make, admin: Admin) -> None:
    async def work() -> set[int]:
        return {await run("SELECT pg_backend_pid()", "default") for _ in range(5)}

    assert len(await place(threads_of, work)) == 1


@pytest.mark.parametrize("alias", ["kept", "checked"])
@pytest.mark.parametrize("place", ["asgi", "django"])
async def test_concurrent_queries_open_at_most_two_connections_per_thread(
    alias: str, place: str, threads_of: Make, admin: Admin
) -> None:
    most = 0

    async def work() -> None:
        nonlocal most
        await run("SELECT 1", alias)
        most = max(most, clients(admin))

    async def view(request: HttpRequest) -> HttpResponse:
        await work()
        return HttpResponse()

    site = threads_of(django_site(view) if place == "django" else app_of(work))
    events = DjangoThreads(on_event(work))
    events.lanes = site.lanes
    requests = (get(site) if place == "django" else call(site) for _ in range(120))
    await asyncio.gather(*requests, *(event(events) for _ in range(120)))
    assert 0 < most <= 8
    assert (site.lanes.requests.alive, site.lanes.calls.alive) == (4, 4)


def app_of(work: Callable[[], Awaitable[object]]) -> Callable[..., Awaitable[None]]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await work()

    return app


def on_event(work: Callable[[], Awaitable[object]]) -> Callable[..., Awaitable[None]]:
    async def app(message: Any, channels: Any) -> None:
        await work()

    return app


async def call(app: DjangoThreads, kind: str = "http") -> None:
    await app(scope_of(type=kind), None, None)


@pytest.mark.parametrize("kind", ["channels", "asgi"])
async def test_open_websocket_holds_no_thread_and_no_connection(kind: str, threads_of: Make, admin: Admin) -> None:
    called, leave = asyncio.Event(), asyncio.Event()

    async def stay() -> None:
        await run("SELECT 1", "default")
        called.set()
        await leave.wait()

    site = threads_of(on_event(stay) if kind == "channels" else app_of(stay))
    socket = asyncio.create_task(
        event(site, "websocket.connect") if kind == "channels" else call(site, "websocket")  # type: ignore[arg-type]
    )
    await called.wait()
    await until(lambda: not site.lanes.calls.leases and not clients(admin))
    leave.set()
    await socket


async def test_released_thread_is_free_while_its_request_continues(threads_of: Make, admin: Admin) -> None:
    async def stream() -> None:
        await run("SELECT 1")
        release_thread()
        await until(lambda: not site.lanes.requests.leases)
        assert await run("SELECT 5") == 5

    site = threads_of(app_of(stream))
    await call(site)


async def test_releasing_the_thread_outside_of_a_request_does_nothing() -> None:
    release_thread()


# A restarted database


@pytest.mark.parametrize(("alias", "most"), [("default", 0), ("kept", 1), ("checked", 0), ("pooled", 1)])
@pytest.mark.parametrize("place", ["asgi", "django", "event"])
async def test_lost_database_connection_fails_at_most_one_call(
    alias: str, most: int, place: str, threads_of: Make, admin: Admin
) -> None:
    failures = 0

    async def work() -> None:
        nonlocal failures
        try:
            await run("SELECT 1", alias)
        except Exception:
            failures += 1

    async def view(request: HttpRequest) -> HttpResponse:
        await work()
        return HttpResponse()

    site = threads_of({"asgi": app_of(work), "django": django_site(view), "event": on_event(work)}[place])
    ask: Callable[[], Awaitable[object]] = {
        "asgi": lambda: call(site),
        "django": lambda: get(site),
        "event": lambda: event(site),
    }[place]
    await asyncio.gather(*(ask() for _ in range(40)))
    lost = [
        pid
        for (pid, _) in admin.execute(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    ]
    # A pool opens others in their place.
    rest = "SELECT count(*) FROM pg_stat_activity WHERE pid = ANY(%s)"
    await until(lambda: admin.execute(rest, [lost]).fetchone() == (0,))
    await asyncio.gather(*(ask() for _ in range(40)))
    assert failures <= most * len(lost)
    await asyncio.gather(*(ask() for _ in range(40)))
    assert failures <= most * len(lost)


# Overload


class Holding:
    """An application whose first request holds the only thread until it is released."""

    def __init__(self) -> None:
        self.holds = asyncio.Event()
        self.release = asyncio.Event()

    async def __call__(self) -> None:
        await sync_to_async(int)("5")
        if not self.holds.is_set():
            self.holds.set()
            await self.release.wait()


@pytest.mark.parametrize("interface", ["asgi", "channels"])
async def test_request_gets_503_if_no_thread_is_free(
    interface: str, threads_of: Make, caplog: pytest.LogCaptureFixture
) -> None:
    work = Holding()
    site = threads_of(app_of(work) if interface == "asgi" else on_event(work), threads=1, wait=0)
    await check_overload(site, work, caplog)


async def test_django_request_gets_503_if_no_thread_is_free(threads_of: Make, caplog: pytest.LogCaptureFixture) -> None:
    work = Holding()
    contents: list[Any] = []

    async def view(request: HttpRequest) -> HttpResponse:
        # Django 5.2 leaves that of a request that fails outside of its view to the garbage collector.
        contents.append(request._stream)
        await work()
        return HttpResponse("late")

    site = threads_of(django_site(view), threads=1, wait=0)
    # What Django does by itself follows on one another: its thread is free a moment later.
    site.lanes = site.lanes._replace(calls=Lane(1, wait=60))
    await check_overload(site, work, caplog)
    site.lanes.calls.close()
    for content in contents:
        content.close()


async def check_overload(site: DjangoThreads, work: Holding, caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> int:
        if detect_interface(site) == "channels":
            reply = await event(site, "http.request")
            return int(reply.messages[0]["status"]) if reply.messages else 0
        return (await get_or_nothing(site))[0]

    holder = asyncio.create_task(ask())
    await work.holds.wait()
    assert await ask() == 503
    assert await ask() == 503
    work.release.set()
    assert await holder != 503
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1 and "1 requests answered with 503" in warnings[0]


async def get_or_nothing(app: Any) -> tuple[int, str]:
    client = Client(app)
    await app(client.scope, client.receive, client.send)
    return (client.events[0]["status"], "") if client.events else (0, "")


@pytest.mark.parametrize("interface", ["asgi", "channels"])
async def test_handshake_gets_503_if_no_thread_is_free(interface: str, threads_of: Make) -> None:
    work = Holding()
    site = threads_of(app_of(work) if interface == "asgi" else on_event(work), threads=1, wait=0)
    sent: list[dict[str, Any]] = []

    async def send(event: dict[str, Any]) -> None:
        sent.append(event)

    release = await hold_calls(site)
    if interface == "asgi":
        scope = scope_of(type="websocket", extensions={"websocket.http.response": {}})
        await site(scope, None, send)
    else:
        sent += (await event(site, "websocket.connect")).messages
    release()
    assert sent[0]["status"] == 503


async def hold_calls(site: DjangoThreads) -> Callable[[], None]:
    """Occupy the only thread for calls. Call the result to give the thread back."""
    begun, release = threading.Event(), threading.Event()
    once(site.lanes).submit(lambda: (begun.set(), release.wait()))
    begun.wait()
    return release.set


async def test_event_raises_ThreadsBusy_if_no_thread_is_free(threads_of: Make) -> None:
    site = threads_of(on_event(lambda: run("SELECT 1")), threads=1, wait=0)
    release = await hold_calls(site)
    with pytest.raises(ThreadsBusy):
        await event(site, "websocket.receive")
    release()


async def test_request_in_a_task_group_gets_503_if_no_thread_is_free(threads_of: Make) -> None:
    work = Holding()

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(work())

    site = threads_of(app_of(grouped), threads=1, wait=0)
    holder = asyncio.create_task(get_or_nothing(site))
    await work.holds.wait()
    assert (await get_or_nothing(site))[0] == 503
    work.release.set()
    await holder


async def test_started_response_raises_ThreadsBusy_if_no_thread_is_free(threads_of: Make) -> None:
    work = Holding()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await work()

    site = threads_of(app, threads=1, wait=0)
    holder = asyncio.create_task(get_or_nothing(site))
    await work.holds.wait()
    with pytest.raises(ThreadsBusy):
        await get_or_nothing(site)
    work.release.set()
    await holder


# What it is to servers


async def hello(message: Any, channels: Any) -> None: ...


async def hello_asgi(scope: Any, receive: Any, send: Any) -> None: ...


@pytest.mark.parametrize(("app", "name"), [(hello, "channels"), (hello_asgi, "asgi3")])
def test_django_threads_keeps_the_interface_of_the_wrapped_application(app: Any, name: str) -> None:
    assert detect_interface(DjangoThreads(app)) == name
    assert build_interface(DjangoThreads(app), Settings()).name == name


def test_django_application_in_DjangoThreads_is_detected_as_asgi3() -> None:
    assert detect_interface(DjangoThreads(django_site(lambda request: None))) == "asgi3"  # type: ignore[arg-type,return-value]


def consumer(message: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> None: ...


@pytest.mark.parametrize(("app", "name"), [(consumer, "consumer"), (wsgi, "wsgi")])
def test_django_threads_rejects_wsgi_applications_and_plain_functions(app: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"got the interface {name}"):
        DjangoThreads(app)


def test_django_threads_rejects_an_object_that_is_not_callable() -> None:
    with pytest.raises(InterfaceError, match="not callable"):
        DjangoThreads("app")  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [0, True, "4"])
def test_django_threads_rejects_an_invalid_number_of_threads(threads: Any) -> None:
    with pytest.raises(ConfigError, match="threads: expected a number not below 1"):
        DjangoThreads(hello, threads)


@pytest.mark.parametrize("wait", [-1, "5", float("inf")])
def test_DjangoThreads_rejects_an_invalid_value_of_the_wait_argument(wait: Any) -> None:
    with pytest.raises(ConfigError, match="wait: expected seconds"):
        DjangoThreads(hello, wait=wait)


async def test_middleware_with_star_args_gets_3_asgi_or_2_channels_arguments(
    threads_of: Make,
) -> None:
    class Middleware:
        async def __call__(self, *arguments: Any) -> None:
            called.append(len(arguments))

    called: list[int] = []
    await call(threads_of(Middleware()))
    await event(threads_of(Middleware()))
    assert called == [3, 2]


async def test_django_threads_calls_startup_and_shutdown_of_its_application() -> None:
    called = []

    class App:
        wants_http_disconnect = True

        async def __call__(self, message: Any, channels: Any) -> None: ...

        async def startup(self) -> None:
            called.append("startup")

        async def shutdown(self) -> None:
            called.append("shutdown")

    site = DjangoThreads(App())
    await site.startup()
    await site.shutdown()
    assert called == ["startup", "shutdown"] and site.wants_http_disconnect


async def test_threads_of_an_application_end_at_its_shutdown() -> None:
    site = DjangoThreads(on_event(lambda: sync_to_async(int)("5")))
    await event(site)
    await event(site, "http.request")
    await site.startup()
    await site.shutdown()
    for lane in site.lanes:
        lane.join()
        assert lane.alive == 0
    await event(site)
    await until(lambda: not site.lanes.calls.alive)
    await site.startup()
    await event(site)
    await until(lambda: not site.lanes.calls.leases)
    assert site.lanes.calls.alive == 1
    await site.shutdown()


def test_metrics_report_the_django_threads_of_each_route() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        """An application that is never called."""

    counts = Counts()
    site = Router(Route("/api/*", DjangoThreads(app, threads=3)))
    build_interface(site, Settings()).counted_in(counts, Place(Endpoint()))
    assert {name: lane.threads for name, lane in counts.lanes.items()} == {"/api/*": 3}
