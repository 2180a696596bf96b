"""A Router in real processes: startup, reload under load, and groups of one site (rules M27, M28, M31)."""

from __future__ import annotations

import http.client
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.e2e.gunicorn_process import running_gunicorn
from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, run_command, running_server

APP = """
import os
from uvicorn import Mount, Route, Router

class App:
    def __init__(self, name):
        self.name = name

    async def startup(self):
        print(f"{self.name} startup {os.getpid()}\\n", end="", flush=True)
        if os.environ.get("FAILS") == self.name:
            raise RuntimeError("no database")

    async def shutdown(self):
        print(f"{self.name} shutdown {os.getpid()}\\n", end="", flush=True)

class Pages(App):
    def __call__(self, environ, start_response):
        start_response("200 OK", [])
        return [self.name.encode()]

class Live(App):
    async def __call__(self, message, channels):
        if message["channel"] == "http.request":
            await channels["reply"].send({"status": 200, "content": self.name.encode()})

one, two, three, four, last = Live("one"), Pages("two"), Live("three"), Pages("four"), Pages("last")
application = Router(
    Route("/one/*", one),
    Mount("/two", two),
    Mount("/in", Router(Route("/three", three), Route("/one", one))),
    Route("/four", four, threads=2),
    Route("/chat", three, protocol="websocket"),
    default=last,
)
"""
NAMES = ("one", "two", "three", "four", "last")
PATHS = {"/one/x": "one", "/two/x": "two", "/in/three": "three", "/four": "four", "/chat": "last", "/in/one": "one"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "site_table.py").write_text(APP)
    return tmp_path


def events(output: str, pid: str | None = None) -> list[str]:
    """The startups and shutdowns of one process, or of the only one."""
    lines = [line.split() for line in output.splitlines() if "startup" in line or "shutdown" in line]
    return [f"{name} {what}" for name, what, process in lines if pid in (None, process)]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_M28_server_exits_with_3_if_an_application_does_not_start(folder: Path, workers: str) -> None:
    ended = run_command(folder, "site_table", "--workers", workers, "--port", "0", env={"FAILS": "three"})
    assert ended.returncode == 3
    assert ended.stderr.count("Route('/three'): the application's startup failed") == 1
    expected = ["one startup", "two startup", "three startup", "two shutdown", "one shutdown"]
    first = ended.stdout.split()[2]
    assert events(ended.stdout, first) == expected


class Load(threading.Thread):
    """Asks every application in turn until `finish`, on connections that are kept and on new ones."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self._port = server.port
        self._over = threading.Event()
        self.served = 0
        self.failures: list[str] = []
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=LONGEST_WAIT)
            try:
                for path, name in PATHS.items():
                    connection.request("GET", path)
                    response = connection.getresponse()
                    content = response.read().decode()
                    if (response.status, content) != (200, name):
                        self.failures.append(f"{path}: {response.status} {content}")
                    self.served += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            finally:
                connection.close()

    def finish(self) -> None:
        self._over.set()
        self.join()


def test_M31_no_request_fails_when_SIGHUP_arrives_under_load(folder: Path) -> None:
    with (
        running_server(folder, "site_table", "--workers", "2", "--no-access-log") as server,
        ExitStack() as connections,
    ):
        server.wait_for_line(" is ready", count=2)
        url = f"ws://127.0.0.1:{server.port}/chat"
        sockets = [connections.enter_context(connect(url)) for _ in range(20)]
        loads = [Load(server) for _ in range(3)]
        try:
            server.send_signal(signal.SIGHUP)
            server.wait_for_line(" is ready", count=4)
            server.wait_for_line("Finished server process", count=2)
        finally:
            for load in loads:
                load.finish()
        for websocket in sockets:
            with pytest.raises(ConnectionClosed):
                websocket.recv(LONGEST_WAIT)
            assert websocket.close_code == 1012
        assert [load.failures for load in loads] == [[], [], []]
        assert all(load.served for load in loads)
        assert server.stop() == 0
        pids = {line.split()[2] for line in server.stdout.splitlines() if "startup" in line}
        assert len(pids) == 4
        for pid in pids:
            assert events(server.stdout, pid) == [
                *(f"{name} startup" for name in NAMES), *(f"{name} shutdown" for name in reversed(NAMES)),
            ]  # fmt: skip


def test_M63_the_gunicorn_worker_serves_a_router_and_logs_each_request(folder: Path) -> None:
    with running_gunicorn(folder, "site_table", "--access-logfile", "-", "--access-logformat", "%(s)s %(U)s") as server:
        for path, name in PATHS.items():
            assert server.get(path) == (200, name)
        with connect(f"ws://127.0.0.1:{server.port}/chat"):
            pass
        assert server.get("/chat") == (200, "last")
        server.wait_for_line("101 /chat", "stdout")
        for path in PATHS:
            assert f"200 {path}\n" in server.stdout
        assert server.stop() == 0
        assert events(server.stdout) == [
            *(f"{name} startup" for name in NAMES), *(f"{name} shutdown" for name in reversed(NAMES)),
        ]  # fmt: skip
