"""`--workers` when signals come at unusual moments, and when the system's resources are exhausted."""

from __future__ import annotations

import concurrent.futures
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, environment, running_server
from tests.e2e.test_workers import APP, answering, wait_until_ready, workers

# What is imported waits for the file `go`, if there is one called `wait`.
WAITING = """
import os
import sys
import time

if os.path.exists("wait"):
    print("waiting", os.getpid(), file=sys.stderr, flush=True)
    parent = os.getppid()
    while os.getppid() == parent and not os.path.exists("go"):
        time.sleep(0.01)
"""

# Startup holds up the event loop, as long as there is a supervisor, if there is a file called `wait`.
STUCK = """
import os
import sys
import time

class Stuck:
    async def startup(self):
        if os.path.exists("wait"):
            print("waiting", os.getpid(), file=sys.stderr, flush=True)
            parent = os.getppid()
            while os.getppid() == parent:
                time.sleep(0.01)

    async def __call__(self, message, channels):
        await app(message, channels)

stuck = Stuck()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(WAITING + APP + STUCK)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with running_server(folder, "app:app", "--workers", "2", "--no-access-log") as running:
        wait_until_ready(running, 2)
        yield running


def children(server: ServerProcess) -> set[int]:
    """Return the process ids of its workers, as the kernel lists them."""
    pid = server.process.pid
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def until(condition: Callable[[], bool]) -> None:
    """Poll until `condition` is true: the kernel does not notify us."""
    deadline = time.monotonic() + LONGEST_WAIT
    while not condition():
        assert time.monotonic() < deadline, "it has not come to that"
        os.sched_yield()


@contextmanager
def no_descriptors_left(pid: int) -> Iterator[None]:
    """Let a process open no further descriptor."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_D13_SIGTERM_to_the_process_group_finishes_requests_in_flight(folder: Path) -> None:
    """Send a signal to all processes, as systemd does, which does not know the supervisor."""
    with running_server(folder, "app:app", "--workers", "2") as server:
        wait_until_ready(server, 2)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.get, "/patient")
            server.wait_for_line("patient", "stdout")
            for pid in (*workers(server), server.process.pid):
                os.kill(pid, signal.SIGTERM)
            server.wait_for_line("Waiting for connections to close")
            (folder / "go").touch()
            assert answer.result()[0] == 200
        assert server.wait() == 0


def test_second_SIGHUP_replaces_the_workers_that_the_first_SIGHUP_started(server: ServerProcess, folder: Path) -> None:
    before = workers(server)
    (folder / "wait").touch()
    server.send_signal(signal.SIGHUP)
    server.wait_for_line("waiting")
    first = int(re.findall(r"waiting (\d+)", server.stderr)[0])
    server.send_signal(signal.SIGHUP)
    server.wait_for_line("waiting", count=2)
    (folder / "go").touch()
    server.wait_for_line("Finished server process", count=2)
    assert first not in workers(server)
    assert answering(server) not in before
    assert len(workers(server)) == 4


def test_second_SIGHUP_stops_a_new_worker_that_hangs_in_its_startup(folder: Path) -> None:
    with running_server(folder, "app:stuck", "--workers", "2", "--no-access-log") as server:
        wait_until_ready(server, 2)
        (folder / "wait").touch()
        server.send_signal(signal.SIGHUP)
        server.wait_for_line("waiting")
        (folder / "wait").unlink()
        server.send_signal(signal.SIGHUP)
        server.wait_for_line("Finished server process", count=2)
        assert answering(server) in workers(server)[2:]


def test_SIGHUP_before_the_first_worker_is_ready_restarts_the_worker(folder: Path) -> None:
    (folder / "wait").touch()
    with running_server(folder, "app:app", "--workers", "2", addresses=0) as server:
        server.wait_for_line("waiting")
        (folder / "wait").unlink()
        server.send_signal(signal.SIGHUP)
        wait_until_ready(server, 2)
        assert answering(server) in workers(server)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_workers_that_are_importing_logs_no_traceback(folder: Path, number: int) -> None:
    (folder / "wait").touch()
    with running_server(folder, "app:app", "--workers", "2", addresses=0) as server:
        server.wait_for_line("waiting")
        for pid in children(server):
            os.kill(pid, number)
        assert server.stop(number) == 0
        assert "Traceback" not in server.stderr


def test_signal_during_a_rolling_restart_stops_all_workers(server: ServerProcess, folder: Path) -> None:
    (folder / "wait").touch()
    server.send_signal(signal.SIGHUP)
    server.wait_for_line("waiting")
    assert server.stop(signal.SIGTERM) == 0


def test_SIGTTOU_removes_one_worker_while_a_worker_is_being_replaced(folder: Path) -> None:
    with running_server(folder, "app:app", "--workers", "2", "--limit-max-requests", "1") as server:
        wait_until_ready(server, 2)
        (folder / "wait").touch()
        answering(server)
        server.wait_for_line("waiting")
        server.send_signal(signal.SIGTTOU)
        server.wait_for_line("workers: 1")
        (folder / "go").touch()
        until(lambda: len(children(server)) == 1)
        assert server.stop() == 0
        assert "aborted" not in server.stderr


def test_worker_count_is_correct_after_SIGTTIN_SIGTTOU_and_SIGHUP(server: ServerProcess) -> None:
    for count in range(1, 5):
        server.send_signal(signal.SIGTTIN)
        server.wait_for_line("INFO    workers: 3", count=count)
        server.send_signal(signal.SIGTTOU)
        server.wait_for_line("INFO    workers: 2", count=count)
    server.send_signal(signal.SIGHUP)
    server.wait_for_line("Received SIGHUP, restarting processes.")
    server.send_signal(signal.SIGTTIN)
    before = set(workers(server))
    until(
        lambda: (
            len(children(server)) == 3 and not before & children(server) and children(server) <= set(workers(server))
        )
    )
    assert answering(server) in workers(server)


def test_supervisor_continues_when_a_new_worker_cannot_be_started(server: ServerProcess) -> None:
    killed, other = workers(server)
    with no_descriptors_left(server.process.pid):
        os.kill(killed, signal.SIGKILL)
        server.wait_for_line("cannot start a worker: Too many open files")
        assert answering(server) == other
    wait_until_ready(server, 3)


def test_failed_rolling_restart_can_be_repeated(server: ServerProcess) -> None:
    with no_descriptors_left(server.process.pid):
        server.send_signal(signal.SIGHUP)
        server.wait_for_line("cannot start a worker: Too many open files")
    server.send_signal(signal.SIGHUP)
    wait_until_ready(server, 4)
    server.wait_for_line("Finished server process", count=2)
    assert answering(server) in workers(server)[2:]


def test_server_ends_if_its_first_worker_cannot_be_started(folder: Path) -> None:
    (folder / "main.py").write_text(
        "import resource, uvicorn\n"
        "from uvicorn.server import supervisor\n"
        "config = uvicorn.Config('app:app', port=0, workers=2)\n"
        "import sys\n"
        "sys.executable = '/nowhere/python'\n"
        "uvicorn.run('app:app', port=0, workers=2)\n"
    )
    with running_server(folder, program=["main.py"], addresses=0) as server:
        assert server.wait() == 1
        assert server.stderr.count("cannot start a worker: No such file or directory") == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("count", ["1", "2"])
def test_workers_serve_without_standard_streams(folder: Path, closed: str, count: str) -> None:
    command = f'exec "$0" -m uvicorn app:app --uds app.sock --workers {count} {closed}'
    process = subprocess.Popen(
        ["sh", "-c", command, sys.executable],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LONGEST_WAIT)
            until(lambda: process.poll() is not None or client.connect_ex(str(folder / "app.sock")) == 0)
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        process.terminate()
        assert process.wait(LONGEST_WAIT) == 0
    finally:
        process.kill()
        process.wait()


def test_child_process_of_an_application_has_the_default_SIGINT_handler(folder: Path) -> None:
    (folder / "app.py").write_text(
        "import subprocess, sys\n"
        "ask = 'import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)'\n"
        "async def app(message, channels):\n"
        "    answer = subprocess.check_output([sys.executable, '-c', ask])\n"
        "    await channels['reply'].send({'status': 200, 'content': answer})\n"
    )
    with running_server(folder, "app:app", "--workers", "2") as server:
        assert server.get()[1] == "True\n"


def test_workers_inherit_the_standard_input_of_the_server(folder: Path) -> None:
    (folder / "app.py").write_text(
        "import os\n"
        "async def app(message, channels):\n"
        "    await channels['reply'].send({'status': 200, 'content': os.readlink('/proc/self/fd/0').encode()})\n"
    )
    with running_server(folder, "app:app", "--reload") as server:
        assert server.get()[1] == os.readlink(f"/proc/{server.process.pid}/fd/0")
