"""`uvicorn.supervisors` and `uvicorn._subprocess` in code as other programs use them."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.e2e.server_process import running_server

APP = """
import os

async def app(message, channels):
    await channels["reply"].send({"status": 200, "content": str(os.getpid()).encode()})
"""

RELOADING = """
import uvicorn
from uvicorn.supervisors import ChangeReload

config = uvicorn.Config("app:app", port=0, reload=True)
sock = config.bind_socket()
ChangeReload(config, target=uvicorn.Server(config).run, sockets=[sock]).run()
print("after")
"""

# The class is in a module, so that worker processes can import it.
OWN_SERVER = """
import uvicorn

class Shop(uvicorn.Server):
    def run(self, sockets=None):
        print("the shop opens", flush=True)
        super().run(sockets=sockets)
        print("the shop closes", flush=True)
"""

RELOADING_OWN_SERVER = """
import uvicorn
from shop import Shop
from uvicorn.supervisors import ChangeReload

if __name__ == "__main__":
    config = uvicorn.Config("app:app", port=0, reload=True)
    ChangeReload(config, target=Shop(config).run, sockets=[config.bind_socket()]).run()
"""

WORKERS = """
import uvicorn
from uvicorn.supervisors import Multiprocess

config = uvicorn.Config("app:app", port=0, workers=2)
Multiprocess(config, sockets=[config.bind_socket()]).run()
print("after")
"""

WORKERS_WITH_TARGET = """
import uvicorn
from shop import Shop
from uvicorn.supervisors import Multiprocess

if __name__ == "__main__":
    config = uvicorn.Config("app:app", port=0, workers=2)
    Multiprocess(config, target=Shop(config).run, sockets=[config.bind_socket()]).run()
"""

SUBPROCESS = """
import signal, uvicorn
from uvicorn._subprocess import get_subprocess

if __name__ == "__main__":
    config = uvicorn.Config("app:app", port=0)
    process = get_subprocess(config, uvicorn.Server(config).run, [config.bind_socket()])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: process.terminate())
    process.start()
    process.join()
    print("exit code", process.exitcode)
"""


# The class and what the application finds are made by the script, which worker processes run again.
RELOADING_SCRIPT = """
import multiprocessing
import app
import uvicorn
from uvicorn.supervisors import ChangeReload

app.greeting = f"from {__name__} in {multiprocessing.current_process().name}".encode()

class Shop(uvicorn.Server):
    pass

if multiprocessing.current_process().name == "MainProcess":
    config = uvicorn.Config("app:app", port=0, reload=True)
    ChangeReload(config, target=Shop(config).run, sockets=[config.bind_socket()]).run()
    print("after")
"""

UNGUARDED_SCRIPT = """
import uvicorn
from uvicorn.supervisors import Multiprocess

class Shop(uvicorn.Server):
    pass

config = uvicorn.Config("app:app", port=0, workers=2)
Multiprocess(config, target=Shop(config).run, sockets=[config.bind_socket()]).run()
"""

GREETING = """
greeting = b"set by no script"

async def app(message, channels):
    await channels["reply"].send({"status": 200, "content": greeting})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "shop.py").write_text(OWN_SERVER)
    return tmp_path


def test_ChangeReload_run_serves_and_returns_after_ctrl_c(folder: Path) -> None:
    (folder / "main.py").write_text(RELOADING)
    with running_server(folder, program=["main.py"]) as server:
        assert server.get()[0] == 200
        assert server.stop(signal.SIGINT) == 0
        assert server.stdout.splitlines()[-1] == "after"


def test_file_change_restarts_the_target_of_a_ChangeReload_subclass(folder: Path) -> None:
    (folder / "main.py").write_text(RELOADING_OWN_SERVER)
    with running_server(folder, program=["main.py"]) as server:
        first = server.get()[1]
        (folder / "app.py").write_text(APP + "\n# changed\n")
        server.wait_for_line("the shop opens", "stdout", 2)
        assert server.get()[1] != first
        assert server.stop() == 0
        assert server.stdout.count("the shop closes") == 2


def test_main_script_has_the_name___mp_main___in_a_worker_process(folder: Path) -> None:
    (folder / "app.py").write_text(GREETING)
    (folder / "main.py").write_text(RELOADING_SCRIPT)
    with running_server(folder, program=["main.py"]) as server:
        assert server.get() == (200, "from __mp_main__ in SpawnProcess-1")
        assert server.stop(signal.SIGINT) == 0
        assert server.stdout.splitlines()[-1] == "after"


def test_script_without_a_main_guard_does_not_start_workers_recursively(folder: Path) -> None:
    (folder / "main.py").write_text(UNGUARDED_SCRIPT)
    with running_server(folder, program=["main.py"], addresses=0) as server:
        assert server.wait() == 0
        assert "An attempt has been made to start a new process before" in server.stderr


def test_Multiprocess_serves_on_the_given_socket_and_returns_after_ctrl_c(folder: Path) -> None:
    (folder / "main.py").write_text(WORKERS)
    with running_server(folder, program=["main.py"]) as server:
        assert server.get()[0] == 200
        assert server.stop(signal.SIGINT) == 0
        assert server.stdout.splitlines()[-1] == "after"


def test_Multiprocess_calls_its_target_in_every_worker(folder: Path) -> None:
    (folder / "main.py").write_text(WORKERS_WITH_TARGET)
    with running_server(folder, program=["main.py"]) as server:
        # The supervisor's line, and one of each worker.
        server.wait_for_line("Uvicorn running on", count=3)
        assert re.findall(r"workers: (\d)", server.stderr)[0] == "2"
        assert server.get()[0] == 200
        assert server.stop() == 0
        assert server.stdout.count("the shop closes") == 2


def test_a_subprocess_serves_on_the_given_socket(folder: Path) -> None:
    (folder / "main.py").write_text(SUBPROCESS)
    with running_server(folder, program=["main.py"]) as server:
        assert server.get()[0] == 200
        assert server.stop() == 0
        assert server.stdout.splitlines()[-1] == "exit code 0"
