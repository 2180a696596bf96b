"""No request finds another request's state in its database session, whatever the connection settings are."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.http import HttpRequest, StreamingHttpResponse
from django.test import override_settings

from tests.django.site import (
    ALIASES,
    TENANTS,
    Client,
    Row,
    django_site,
    execute,
    found,
    local,
    run,
    scope_of,
    until,
)
from uvicorn.django import DjangoThreads

Make = Callable[..., DjangoThreads]

USERS = [f"user{number}" for number in range(120)]


@pytest.fixture
def unlimited(postgres: Path) -> Iterator[None]:
    """A database whose connections are kept for ever."""
    connections.settings["unlimited"] = {**connections.settings["kept"], "CONN_MAX_AGE": None}
    yield
    del connections.settings["unlimited"]


def leave_traces(user: str, alias: str) -> None:
    local.user = connections[alias].tenant = user
    execute(f"SET app.tenant = '{user}'", alias)


def traces(alias: str) -> set[Any]:
    return {local.user, connections[alias].tenant, execute("SHOW app.tenant", alias)}


async def call(app: DjangoThreads, path: str) -> None:
    await app(scope_of(path), None, None)


async def wait_for_threads(site: DjangoThreads) -> None:
    await until(lambda: not site.lanes.requests.leases + site.lanes.calls.leases)


@pytest.mark.parametrize("alias", [*ALIASES, "unlimited"])
async def test_120_concurrent_requests_share_no_tenant_or_lock(alias: str, unlimited: None, threads_of: Make) -> None:
    together = asyncio.Barrier(4)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        user = scope["path"]
        lock = int(user.removeprefix("user"))
        await sync_to_async(leave_traces)(user, alias)
        await run(f"SELECT pg_advisory_lock({lock})", alias)
        await together.wait()
        assert await sync_to_async(traces)(alias) == {user}
        assert await run(f"SELECT pg_advisory_unlock({lock})", alias) is True

    site = threads_of(app)
    await asyncio.gather(*(call(site, user) for user in USERS))


class Router:
    """Reads from one database, and writes to another."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "checked"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "kept"


async def test_concurrent_requests_with_two_databases_see_only_their_own_tenant(threads_of: Make) -> None:
    together = asyncio.Barrier(4)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        user = scope["path"]
        number = 5000 + int(user.removeprefix("user"))
        for alias in ("kept", "checked"):
            await sync_to_async(leave_traces)(user, alias)
        await together.wait()
        await Row.objects.acreate(number=number)
        assert [row.number async for row in Row.objects.filter(number=number).aiterator(chunk_size=1)] == [number]
        await Row.objects.filter(number=number).adelete()
        for alias in ("kept", "checked"):
            assert await sync_to_async(traces)(alias) == {user}

    with override_settings(DATABASE_ROUTERS=[Router()]):
        site = threads_of(app)
        await asyncio.gather(*(call(site, user) for user in USERS))


@pytest.mark.parametrize("cancels_twice", [False, True])
async def test_cancelled_request_does_not_mix_up_tenants_of_other_requests(
    cancels_twice: bool, threads_of: Make
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        user = scope["path"]
        await sync_to_async(leave_traces)(user, "kept")
        atomic = transaction.atomic("kept")
        await sync_to_async(atomic.__enter__)()
        async for row in Row.objects.using("kept").aiterator(chunk_size=3):
            if row.number > 6:
                break
        await run("SELECT 1")
        await sync_to_async(atomic.__exit__)(None, None, None)
        assert await sync_to_async(traces)("kept") == {user}

    site = threads_of(app, threads=2)
    for steps in range(40):
        others = [asyncio.create_task(call(site, f"other{number}")) for number in range(3)]
        cancelled = asyncio.create_task(call(site, "cancelled"))
        for _ in range(steps):
            await asyncio.sleep(0)
        for _ in range(1 + cancels_twice):
            cancelled.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(*others)
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled
    await wait_for_threads(site)


async def test_failed_or_timed_out_requests_do_not_mix_up_tenants(
    threads_of: Make,
) -> None:
    dice = random.Random(5)

    async def abandon_rows() -> None:
        async for _ in Row.objects.using("kept").aiterator(chunk_size=2):
            if dice.random() < 0.2:
                break

    async def time_out() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(run("SELECT pg_sleep(0.002)"), dice.random() / 500)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        user = scope["path"]
        await sync_to_async(leave_traces)(user, "kept")
        for _ in range(dice.randrange(4)):
            await (abandon_rows() if dice.random() < 0.5 else time_out())
        assert await sync_to_async(traces)("kept") == {user}
        await run(dice.choice(["SELECT 1", "BEGIN", "SELECT no_such_column"]))

    site = threads_of(app, threads=3)
    tasks = [asyncio.create_task(call(site, f"user{number}")) for number in range(200)]
    for task in dice.sample(tasks, 60):
        asyncio.get_running_loop().call_later(dice.random() / 5, task.cancel)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [outcome for outcome in outcomes if isinstance(outcome, AssertionError)]


@pytest.mark.parametrize("leaves", [False, True])
async def test_response_streams_see_only_their_own_tenant_until_they_end(leaves: bool, threads_of: Make) -> None:
    clients: dict[str, Client] = {}
    seen: dict[str, set[str]] = {user: set() for user in USERS}

    async def view(request: HttpRequest) -> StreamingHttpResponse:
        user = request.headers["user"]

        async def chunks() -> AsyncIterator[str]:
            try:
                for _ in range(3):
                    seen[user].update(await sync_to_async(found)())
                    yield "chunk"
                    if leaves:
                        clients[user].leave()
                    await asyncio.sleep(0)
            finally:
                seen[user].update(await sync_to_async(found)())

        return StreamingHttpResponse(chunks())

    site = threads_of(django_site(view, TENANTS))
    clients.update((user, Client(site, user=user)) for user in USERS)
    await asyncio.gather(*(client.ask() for client in clients.values()))
    await wait_for_threads(site)
    assert seen == {user: {user} for user in USERS}
