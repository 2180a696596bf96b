"""Threads of the application that still run after the server has stopped, and killed supervisors."""

from __future__ import annotations

import concurrent.futures
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.gunicorn_process import running_gunicorn
from tests.e2e.server_process import ServerProcess, running_server
from tests.e2e.test_workers import wait_until_ready
from tests.e2e.test_workers_in_trouble import children, until

APP = """
import asyncio
import atexit
import concurrent.futures
import os
import sys
import threading
import time

atexit.register(print, "atexit has run", flush=True)
pool = concurrent.futures.ThreadPoolExecutor(1)

if os.path.exists("stuck import"):
    print("stuck", os.getpid(), flush=True)
    time.sleep(3600)

def sleeps():
    print("sleeping", flush=True)
    time.sleep(3600)

async def app(message, channels):
    if message["path"] == "/pool":
        pool.submit(sleeps)
    if message["path"] == "/idle":
        pool.submit(int).result()
    if message["path"] == "/thread":
        threading.Thread(target=sleeps, name="mine\\x1b").start()
    if message["path"] == "/loop":
        asyncio.get_running_loop().run_in_executor(None, sleeps)
    if message["path"] == "/hanging":
        print("hanging", flush=True)
        await asyncio.Event().wait()
    if message["path"] == "/stuck":
        print("stuck", os.getpid(), flush=True)
        time.sleep(3600)
    await channels["reply"].send({"status": 200, "content": b"hello"})
"""

WARNING = "threads still run after the server has stopped"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[ServerProcess]:
    with running_server(folder, "app:app", "--timeout-graceful-shutdown", "0.5", *arguments) as server:
        yield server


def test_server_logs_threads_that_outlive_its_shutdown(folder: Path) -> None:
    with serving(folder) as server:
        for path in ("/pool", "/thread", "/loop"):
            assert server.get(path)[0] == 200
        server.wait_for_line("sleeping", "stdout", count=3)
        assert_ends_and_names_threads(server, folder, 3)


def test_worker_process_logs_a_thread_that_outlives_the_shutdown(folder: Path) -> None:
    with serving(folder, "--workers", "2") as server:
        assert server.get("/thread")[0] == 200
        server.wait_for_line("sleeping", "stdout")
        assert_ends_and_names_threads(server, folder, 1)
        assert "killed" not in server.stderr


def assert_ends_and_names_threads(server: ServerProcess, folder: Path, count: int) -> None:
    assert server.stop() == 0
    assert server.stderr.count(WARNING) == 1
    assert server.stderr.count(f"{folder}/app.py:19 in sleeps") == count
    assert "atexit has run" in server.stdout


def test_server_exits_with_1_when_a_pool_thread_hangs_at_shutdown(folder: Path) -> None:
    with serving(folder) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        server.get("/pool")
        hanging = pool.submit(server.get, "/hanging")
        server.wait_for_line("hanging", "stdout")
        assert server.stop() == 1
        assert WARNING in server.stderr
        assert hanging.exception() is not None


def test_idle_thread_pool_does_not_delay_the_exit(folder: Path) -> None:
    with serving(folder) as server:
        server.get("/idle")
        assert server.stop() == 0
        assert WARNING not in server.stderr


def test_failed_startup_exits_with_3_although_an_application_thread_runs(folder: Path) -> None:
    (folder / "failing.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(3600,)).start()\n"
        "class App:\n"
        "    async def startup(self):\n"
        "        raise RuntimeError('no database')\n"
        "    async def __call__(self, message, channels):\n"
        "        pass\n"
        "app = App()\n"
    )
    with running_server(folder, "failing:app", addresses=0) as server:
        assert server.wait() == 3
        assert WARNING in server.stderr


def test_program_waits_for_a_running_thread_after_uvicorn_run_returns(folder: Path) -> None:
    (folder / "main.py").write_text(
        "import threading, time, uvicorn\n"
        "from uvicorn.server import process_end\n"
        "process_end.LEAST_SECONDS = process_end._POLL_SECONDS = 0.01\n"
        "def ends():\n"
        "    threading.main_thread().join()\n"
        "    time.sleep(0.5)\n"
        "    print('the thread has ended', flush=True)\n"
        "threading.Thread(target=ends).start()\n"
        "uvicorn.run('app:app', port=0, timeout_graceful_shutdown=0)\n"
    )
    with running_server(folder, program=["main.py"]) as server:
        assert server.stop() == 0
        assert "the thread has ended" in server.stdout
        assert WARNING not in server.stderr


@pytest.mark.parametrize("arguments", [("--workers", "2"), ("--reload",)])
def test_a_worker_with_a_blocked_loop_ends_after_its_supervisor_was_killed(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    with serving(folder, *arguments) as server, concurrent.futures.ThreadPoolExecutor(1) as pool:
        wait_until_ready(server, 2 if "2" in arguments else 1)
        pids = children(server)
        answer = pool.submit(server.get, "/stuck")
        server.wait_for_line("stuck", "stdout")
        try:
            server.send_signal(signal.SIGKILL)
            until(lambda: not any(map(is_alive, pids)))
        finally:
            for pid in filter(is_alive, pids):
                os.kill(pid, signal.SIGKILL)
        assert answer.exception() is not None
        server.wait()
        assert "the supervisor has died, and this worker does not stop; killing the worker" in server.stderr


def test_worker_blocked_in_an_import_ends_after_its_supervisor_was_killed(folder: Path) -> None:
    (folder / "stuck import").touch()
    with running_server(
        folder, "app:app", "--workers", "2", "--timeout-graceful-shutdown", "0.5", addresses=0
    ) as server:
        server.wait_for_line("stuck", "stdout")
        pids = children(server)
        try:
            server.send_signal(signal.SIGKILL)
            until(lambda: not any(map(is_alive, pids)))
        finally:
            for pid in filter(is_alive, pids):
                os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_gunicorn_worker_with_a_blocked_loop_ends_after_its_arbiter_was_killed(folder: Path) -> None:
    with (
        running_gunicorn(folder, "app:app", "--graceful-timeout", "1") as server,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        server.wait_for_workers(1)
        (pid,) = server.workers
        answer = pool.submit(server.get, "/stuck")
        server.wait_for_line("stuck", "stdout")
        try:
            server.send_signal(signal.SIGKILL)
            until(lambda: not is_alive(pid))
        finally:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)
        assert answer.exception() is not None
