"""A handler that blocks the event loop is named in the log, in workers, with `--reload` and under gunicorn."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.gunicorn_process import running_gunicorn
from tests.e2e.server_process import ServerProcess, running_server

APP = """
import time

def fetch():
    time.sleep(1)

async def recent(message, channels):
    fetch()
    await channels["reply"].send({"status": 200, "content": b"hello"})
"""

LINE = "app.py:5 in fetch, called by recent: blocked the event loop for about "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def check(server: ServerProcess, folder: Path) -> None:
    assert server.get() == (200, "hello")
    server.wait_for_line(f"{folder}/{LINE}")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize(
    "options", ["--reload", "--watch-loop 0.2", "--watch-loop 0.2 --workers 2"], ids=["reload", "single", "workers"]
)
def test_watch_loop_logs_file_and_line_of_a_blocking_handler(options: str, loop: str, folder: Path) -> None:
    with running_server(folder, "app:recent", "--loop", loop, *options.split()) as server:
        check(server, folder)


def test_blocking_handler_is_logged_when_gunicorn_runs_with_reload(folder: Path) -> None:
    with running_gunicorn(folder, "app:recent", "--reload") as server:
        check(server, folder)


def test_blocking_handler_is_logged_when_the_gunicorn_worker_sets_watch_loop(folder: Path) -> None:
    (folder / "workers.py").write_text(
        "from uvicorn.workers import UvicornWorker\n"
        "class Worker(UvicornWorker):\n    CONFIG_KWARGS = {'watch_loop': 0.2}\n"
    )
    with running_gunicorn(folder, "app:recent", worker_class="workers.Worker") as server:
        check(server, folder)
