"""Coroutines that use Django's databases: their waits, their connections, and a restart of the database. DJANGO."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from typing import Final

from .clients import wait_until
from .measuring import Figure, case
from .servers import CaseFailed, Workshop

# The server that the tests start.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.django.postgres import postgres_server

_ROOT: Final = Path(__file__).resolve().parents[1]
_THREADS: Final = 4
_WSGI_THREADS: Final = 16


async def _get(port: int, path: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.startswith(b"HTTP/1.1 200 ")


async def _failures(port: int, paths: list[str], at_a_time: int) -> int:
    left = iter(paths)

    async def client() -> int:
        return sum([not await _get(port, path) for path in left])

    return sum(await asyncio.gather(*(client() for _ in range(at_a_time))))


def _figures(workshop: Workshop, app: str, folder: Path, checks: bool) -> list[Figure]:
    import psycopg

    others = "FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    os.environ.update(PG_FOLDER=str(folder), PG_CHECKS=str(int(checks)))
    name = f"{app}, checked" if checks else app
    with (
        psycopg.connect(host=str(folder), user="postgres", dbname="postgres", autocommit=True) as admin,
        workshop.server(app, "--app-dir", str(_ROOT), module="faults.django_site") as server,
    ):
        # Lost connections are what is tried.
        server.tracebacks_allowed = 100

        def connections() -> int:
            row = admin.execute(f"SELECT count(*) {others}").fetchone()
            return int(row[0]) if row else 0

        figures = []
        asyncio.run(_failures(server.port, ["/quick"] * 20, 10))
        began = time.monotonic()
        failures = asyncio.run(_failures(server.port, ["/slow"] * 10, 10))
        seconds = time.monotonic() - began
        if not checks:
            figures.append(Figure(f"{name}: 10 x 0.2 s of SQL", seconds, "s", 0.75, bar_may_be_met=True))
            failures += asyncio.run(_failures(server.port, ["/quick", "/sync"] * 1000, 120))
            figures.append(Figure(f"{name}: failed of 2,010", failures, "", 0, bar_may_be_met=True))
            most = 2 * _THREADS + _WSGI_THREADS
            figures.append(Figure(f"{name}: connections", connections(), "", most, bar_may_be_met=True))
        lost = connections()
        admin.execute(f"SELECT pg_terminate_backend(pid) {others}")
        if not wait_until(lambda: not connections(), 10):
            raise CaseFailed("the database has not ended its connections")
        failures = asyncio.run(_failures(server.port, ["/quick", "/sync"] * 100, 20))
        bar = 0 if checks else lost
        figures.append(Figure(f"{name}: failed of 200 after a restart", failures, "", bar, bar_may_be_met=True))
        return figures


@case("DJANGO", "coroutines of a Django site use PostgreSQL, which loses all connections", 240)
def django_databases(workshop: Workshop) -> list[Figure]:
    with postgres_server() as folder:
        return [
            figure
            for app in ("bare", "django_asgi")
            for checks in (False, True)
            for figure in _figures(workshop, app, folder, checks)
        ]
