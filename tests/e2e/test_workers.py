"""`--workers`: real processes that are killed, replaced, counted and stopped."""

from __future__ import annotations

import concurrent.futures
import http.client
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, run_command, running_server

APP = """
import asyncio
import os
import time

async def app(message, channels):
    if message["channel"] != "http.request":
        return
    if message["path"] == "/stuck":
        print("stuck", os.getpid(), flush=True)
        time.sleep(3600)
    if message["path"] == "/patient":
        print("patient", os.getpid(), flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.01)
    await channels["reply"].send({"status": 200, "content": str(os.getpid()).encode()})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with running_server(folder, "app:app", "--workers", "2", "--no-access-log") as running:
        wait_until_ready(running, 2)
        yield running


def wait_until_ready(server: ServerProcess, count: int) -> None:
    """Wait until `count` workers have become ready since the start."""
    server.wait_for_line(" is ready", count=count)


def workers(server: ServerProcess) -> list[int]:
    """Return the process ids of all workers that have been ready, in order."""
    return [int(pid) for pid in re.findall(r"worker (\d+) is ready", server.stderr)]


def answering(server: ServerProcess) -> int:
    return int(server.get("/")[1])


def test_several_workers_serve_requests(server: ServerProcess) -> None:
    assert answering(server) in workers(server)


def test_supervisor_logs_the_address_of_its_workers_once(server: ServerProcess) -> None:
    assert len(server.addresses) == 1


def test_WEB_CONCURRENCY_sets_the_number_of_workers(folder: Path) -> None:
    with running_server(folder, "app:app", env={"WEB_CONCURRENCY": "3"}) as server:
        wait_until_ready(server, 3)
        assert "workers: 3" in server.stderr


def test_supervisor_removes_the_unix_socket_of_its_workers_at_exit(folder: Path) -> None:
    with running_server(folder, "app:app", "--workers", "2", "--uds", "app.sock") as server:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LONGEST_WAIT)
            client.connect(str(folder / "app.sock"))
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
        assert server.stop() == 0
    assert not (folder / "app.sock").exists()


def test_uvicorn_run_with_workers_needs_no_main_guard(folder: Path) -> None:
    (folder / "main.py").write_text("import uvicorn\nuvicorn.run('app:app', port=0, workers=2)\n")
    with running_server(folder, program=["main.py"]) as server:
        wait_until_ready(server, 2)
        assert answering(server) in workers(server)
        assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_all_workers(server: ServerProcess, number: int) -> None:
    assert server.stop(number) == 0
    assert "Traceback" not in server.stderr


def test_ctrl_c_to_the_process_group_finishes_requests_in_flight(folder: Path) -> None:
    with running_server(folder, "app:app", "--workers", "2") as server:
        wait_until_ready(server, 2)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            answer = pool.submit(server.get, "/patient")
            server.wait_for_line("patient", "stdout")
            for pid in (server.process.pid, *workers(server)):
                os.kill(pid, signal.SIGINT)
            server.wait_for_line("Waiting for connections to close")
            (folder / "go").touch()
            assert answer.result()[0] == 200
        assert server.wait() == 0


def test_second_signal_to_the_supervisor_resets_requests_in_flight(server: ServerProcess) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.get, "/stuck")
        server.wait_for_line("stuck", "stdout")
        server.send_signal(signal.SIGTERM)
        server.wait_for_line("Received SIGTERM, exiting.")
        assert server.stop(signal.SIGTERM) == 1
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            answer.result()


def test_new_connections_are_refused_while_workers_finish_their_requests(server: ServerProcess, folder: Path) -> None:
    port = server.port
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.get, "/patient")
        server.wait_for_line("patient", "stdout")
        server.send_signal(signal.SIGTERM)
        server.wait_for_line("Shutting down", count=2)
        server.wait_for_line("Waiting for connections to close")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        (folder / "go").touch()
        assert answer.result()[0] == 200
    assert server.wait() == 0


def test_D14_killed_worker_is_replaced(server: ServerProcess) -> None:
    killed = workers(server)[0]
    os.kill(killed, signal.SIGKILL)
    wait_until_ready(server, 3)
    assert f"Child process [{killed}] died: it was killed by SIGKILL; replacing it" in server.stderr


def test_D14_requests_are_answered_after_a_worker_is_killed(server: ServerProcess) -> None:
    killed, other = workers(server)
    os.kill(killed, signal.SIGKILL)
    server.wait_for_line("was killed by SIGKILL")
    assert answering(server) in (other, *workers(server)[2:])


def test_D14_server_exits_after_repeated_worker_crashes(folder: Path) -> None:
    (folder / "crash.py").write_text(
        "import asyncio, os\n"
        "class App:\n"
        "    async def startup(self):\n"
        "        asyncio.get_running_loop().call_later(0.1, os._exit, 7)\n"
        "    async def __call__(self, message, channels): ...\n"
        "app = App()\n"
    )
    with running_server(folder, "crash:app", "--workers", "2") as server:
        assert server.wait() == 1
        assert "workers have ended 5 times in a row" in server.stderr


def test_stuck_worker_is_replaced_and_logs_its_stack(folder: Path) -> None:
    arguments = "--workers", "2", "--timeout-worker-healthcheck", "1", "--no-access-log"
    with running_server(folder, "app:app", *arguments) as server:
        wait_until_ready(server, 2)
        # On a busy machine, the supervisor may abort a worker before the worker has called the application.
        while "stuck" not in server.stdout and server.process.poll() is None:
            with pytest.raises((ConnectionError, http.client.HTTPException)):
                server.get("/stuck")
        stuck = server.stdout.split()[1]
        server.wait_for_line(f"Child process [{stuck}] died: it was killed by SIGABRT; replacing it")
        wait_until_ready(server, 3)
        # Line 10 is the `print` before the call that blocks.
        assert re.search(r'File ".*app.py", line 1[01] in app', server.stderr)


def test_workers_stop_when_their_supervisor_has_been_killed(server: ServerProcess) -> None:
    port = server.port
    server.process.kill()
    server.wait_for_line("the supervisor has died", count=2)
    server.wait()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_SIGTTIN_and_SIGTTOU_change_the_number_of_workers(server: ServerProcess) -> None:
    server.send_signal(signal.SIGTTIN)
    wait_until_ready(server, 3)
    assert "workers: 3" in server.stderr
    server.send_signal(signal.SIGTTOU)
    server.wait_for_line("INFO    workers: 2")
    server.wait_for_line("Finished server process")
    assert answering(server) in workers(server)[:2]


def test_last_worker_is_not_removed_by_SIGTTOU(folder: Path) -> None:
    with running_server(folder, "app:app", "--workers", "2") as server:
        wait_until_ready(server, 2)
        server.send_signal(signal.SIGTTOU)
        server.wait_for_line("INFO    workers: 1")
        server.send_signal(signal.SIGTTOU)
        server.wait_for_line("Already reached one process")


class Load(threading.Thread):
    """Requests one after another until `stop`; records the failures."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self.port = server.port
        self.served = 0
        self.failures: list[BaseException] = []
        self._stop_it = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._stop_it.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST_WAIT)
            try:
                for _ in range(3):
                    connection.request("GET", "/")
                    response = connection.getresponse()
                    assert response.status == 200
                    assert int(response.read())
                    self.served += 1
            except BaseException as error:
                self.failures.append(error)
            finally:
                connection.close()

    def finish(self) -> None:
        self._stop_it.set()
        self.join()


def test_SIGHUP_replaces_workers_one_by_one_and_loses_no_request(server: ServerProcess) -> None:
    before = workers(server)
    load = Load(server)
    try:
        server.send_signal(signal.SIGHUP)
        wait_until_ready(server, 4)
        server.wait_for_line("Finished server process", count=2)
        after = answering(server)
    finally:
        load.finish()
    assert load.failures == []
    assert load.served
    assert after not in before


def test_SIGHUP_keeps_the_old_workers_if_the_new_application_does_not_start(
    server: ServerProcess, folder: Path
) -> None:
    (folder / "app.py").write_text("syntax error")
    server.send_signal(signal.SIGHUP)
    server.wait_for_line("the old workers continue")
    assert answering(server) in workers(server)


@pytest.mark.parametrize(("source", "code"), [("syntax error", 2), ("import os\nos._exit(9)", 1)])
def test_application_import_error_is_logged_once_for_several_workers(folder: Path, source: str, code: int) -> None:
    (folder / "app.py").write_text(source)
    ended = run_command(folder, "app:app", "--workers", "3", "--port", "0")
    assert ended.returncode == code
    assert ended.stderr.count("uvicorn: cannot import") == ("syntax" in source)


def test_server_exits_with_3_when_the_application_startup_fails_in_workers(folder: Path) -> None:
    (folder / "app.py").write_text(
        "class App:\n"
        "    async def startup(self):\n"
        "        raise RuntimeError('no database')\n"
        "    async def __call__(self, message, channels): ...\n"
        "app = App()\n"
    )
    ended = run_command(folder, "app:app", "--workers", "3", "--port", "0")
    assert ended.returncode == 3
    assert ended.stderr.count("RuntimeError: no database") == 1


def test_application_object_is_rejected_with_several_workers(folder: Path) -> None:
    (folder / "main.py").write_text("import app, uvicorn\nuvicorn.run(app.app, port=0, workers=2)\n")
    ended = run_command(folder, program=["main.py"])
    assert "workers: expected the application as 'module:attribute'" in ended.stderr


def test_unpicklable_configuration_is_rejected_before_a_socket_is_opened(folder: Path) -> None:
    (folder / "main.py").write_text(
        "import uvicorn\n"
        "logging = {'version': 1, 'filters': {'all': {'()': lambda: lambda record: True}}}\n"
        "uvicorn.run('app:app', workers=2, uds='app.sock', log_config=logging)\n"
    )
    ended = run_command(folder, program=["main.py"])
    assert "workers: the configuration cannot be pickled for workers" in ended.stderr
    assert not (folder / "app.sock").exists()


def test_worker_at_the_request_limit_is_replaced_before_it_stops(folder: Path) -> None:
    with running_server(folder, "app:app", "--workers", "2", "--limit-max-requests", "3") as server:
        wait_until_ready(server, 2)
        load = Load(server)
        try:
            wait_until_ready(server, 4)
            server.wait_for_line("Finished server process")
        finally:
            load.finish()
        assert load.failures == []
        assert "asks to be replaced: Maximum request limit of " in server.stderr


def test_single_process_ends_at_the_request_limit(folder: Path) -> None:
    with running_server(folder, "app:app", "--limit-max-requests", "1") as server:
        server.get()
        assert server.wait() == 0
        assert "Maximum request limit of 1 exceeded. Terminating process." in server.stderr


def test_websocket_messages_count_towards_the_request_limit(folder: Path) -> None:
    with running_server(folder, "app:app", "--limit-max-requests", "3") as server:
        with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
            for _ in range(3):
                websocket.send("tea")
            with pytest.raises(ConnectionClosed, match="1012"):
                websocket.recv(LONGEST_WAIT)
        assert server.wait() == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_wsgi_multiprocess_is_true_with_several_workers(tmp_path: Path, workers: int) -> None:
    (tmp_path / "app.py").write_text(
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [repr((environ['wsgi.multiprocess'], environ['wsgi.multithread'])).encode()]\n"
    )
    with running_server(tmp_path, "app:app", "--workers", str(workers), "--threads", "1") as server:
        assert server.get() == (200, repr((workers > 1, False)))
