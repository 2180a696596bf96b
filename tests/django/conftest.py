"""One PostgreSQL server for the tests of a process, with the tables of the site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
from django.core.management import call_command
from django.db import connections

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


@pytest.fixture
def admin(postgres: Path) -> Iterator[Admin]:
    """A connection past Django, to look at the server and to disturb it."""
    with psycopg.connect(host=str(postgres), user=DATABASE, dbname=DATABASE, autocommit=True) as connection:
        yield connection


@pytest.fixture
def threads_of(postgres: Path) -> Iterator[Callable[..., DjangoThreads]]:
    """Makes `DjangoThreads`, whose threads and connections end with the test."""
    made: list[DjangoThreads] = []

    def make(app: Any, threads: int = 4, wait: float = 60.0) -> DjangoThreads:
        made.append(DjangoThreads(app, threads, wait=wait))
        return made[-1]

    yield make
    for each in made:
        for lane in each.lanes:
            lane.close()
            lane.join()
    connections.close_all()
    for alias in connections:
        if connections[alias].settings_dict["OPTIONS"].get("pool"):
            connections[alias].close_pool()
