"""One PostgreSQL server for the tests of a process, with the tables of the site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

import psycopg
import pytest
from asgiref.sync import SyncToAsync
from django.core.management import call_command
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

from tests.django.postgres import DATABASE, postgres_server
from tests.django.site import Row
from uvicorn.django import DjangoThreads

Admin: TypeAlias = "psycopg.Connection[tuple[Any, ...]]"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Path]:
    with postgres_server() as folder:
        for alias in connections:
            connections.settings[alias]["HOST"] = str(folder)
        call_command("migrate", run_syncdb=True, verbosity=0)
        with connections["default"].schema_editor() as editor:
            editor.create_model(Row)
        Row.objects.bulk_create(Row(number=number) for number in range(23))
        connections.close_all()
        yield folder


@pytest.fixture(autouse=True)
def _no_connection_is_left() -> Iterator[None]:
    yield
    connections.close_all()
    # That of the thread of coroutines outside of DjangoThreads, which nothing else closes.
    SyncToAsync.single_thread_executor.submit(connections.close_all).result()
    # By their names: to ask a wrapper for its pool makes one.
    for alias in tuple(DatabaseWrapper._connection_pools):
        connections[alias].close_pool()


CLIENTS: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


def clients(admin: Admin) -> int:
    """Return the number of connections besides `admin`'s own."""
    row = admin.execute(CLIENTS).fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def admin(postgres: Path) -> Iterator[Admin]:
    """A connection without Django, to inspect and disturb the server."""
    with psycopg.connect(host=str(postgres), user=DATABASE, dbname=DATABASE, autocommit=True) as connection:
        # Those of earlier tests end on their side.
        while clients(connection):
            pass
        yield connection


@pytest.fixture
def threads_of(postgres: Path) -> Iterator[Callable[..., DjangoThreads]]:
    """Return a function that makes `DjangoThreads`. All threads and connections end with the test."""
    made: list[DjangoThreads] = []

    def make(app: Any, threads: int = 4, wait: float = 60.0) -> DjangoThreads:
        made.append(DjangoThreads(app, threads, wait=wait))
        return made[-1]

    yield make
    for each in made:
        for lane in each.lanes:
            lane.close()
            lane.join()
