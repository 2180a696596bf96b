"""A server as a part of other programs, in code as its users write it."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.e2e.server_process import running_server

APP = """
async def app(message, channels):
    if message["channel"] == "http.request":
        await channels["reply"].send({"status": 200, "content": b"hello"})
"""

ONE = """
import uvicorn
uvicorn.Server(uvicorn.Config("app:app", port=0)).run()
print("after")
"""

INTERRUPTED = """
import uvicorn
server = uvicorn.Server(uvicorn.Config("app:app", port=0))
try:
    server.run()
except KeyboardInterrupt as error:
    traceback = error.__traceback__
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    print("interrupted in", traceback.tb_frame.f_code.co_name, server.started, error.__context__)
"""

RELEASED = """
import asyncio
import signal
import uvicorn

class App:
    async def startup(self):
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self.stop)

    def stop(self):
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)
        server.handle_exit(signal.SIGINT, None)

    async def __call__(self, message, channels): ...

signal.signal(signal.SIGINT, lambda number, frame: print("mine", number))
server = uvicorn.Server(uvicorn.Config(App(), port=0, loop="{loop}"))
server.run()
print("after")
"""

TWO = """
import asyncio
import uvicorn
from app import app

async def main():
    servers = [uvicorn.Server(uvicorn.Config(app, port=0)) for _ in range(2)]
    await asyncio.gather(*(server.serve() for server in servers))

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
"""

BESIDE = """
import asyncio
import uvicorn
from app import app

async def main():
    server = uvicorn.Server(uvicorn.Config(app, port=0))
    await asyncio.gather(server.serve(), asyncio.sleep(3600))

asyncio.run(main())
"""

HANDLED = """
import signal
import uvicorn
from app import app

signal.signal(signal.SIGTERM, lambda number, frame: print("mine", number))
uvicorn.run(app, port=0)
"""

LAST_WORD = """
import logging
import uvicorn

server = uvicorn.Server(uvicorn.Config("app:app", port=0))
logging.getLogger("uvicorn.access").handlers = []
server.run()
"""

CHANGED = """
import uvicorn

uvicorn.config.LOGGING_CONFIG["formatters"]["access"]["fmt"] = "MINE %(levelprefix)s %(client_addr)s %(status_code)s"
uvicorn.config.LOGGING_CONFIG["loggers"]["uvicorn.error"]["level"] = "DEBUG"
uvicorn.run("app:app", port=0, workers={workers})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def program(folder: Path, source: str) -> Sequence[str]:
    (folder / "main.py").write_text(source)
    return ["main.py"]


def test_embedded_server_writes_an_access_log_line(folder: Path) -> None:
    with running_server(folder, program=program(folder, ONE)) as server:
        server.get()
        server.wait_for_line('"GET / HTTP/1.1" 200', "stdout")


def test_program_continues_after_uvicorn_run_returns(folder: Path) -> None:
    with running_server(folder, program=program(folder, ONE)) as server:
        assert server.stop() == 0
        assert "after" in server.stdout


def test_server_run_raises_KeyboardInterrupt_after_ctrl_c(folder: Path) -> None:
    with running_server(folder, program=program(folder, INTERRUPTED)) as server:
        assert server.stop(signal.SIGINT) == 0
        assert server.stdout == "interrupted in run True None\n"
        assert server.stderr.count("Finished server process") == 1


def test_uvicorn_run_returns_after_ctrl_c(folder: Path) -> None:
    source = "import uvicorn\nuvicorn.run('app:app', port=0)\nprint('after')\n"
    with running_server(folder, program=program(folder, source)) as server:
        assert server.stop(signal.SIGINT) == 0
        assert server.stdout == "after\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_one_signal_stops_two_servers_on_one_event_loop(folder: Path, number: int, code: int) -> None:
    with running_server(folder, program=program(folder, TWO), addresses=2) as server:
        assert server.stop(number) == code
        assert server.stderr.count("Finished server process") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_program_that_runs_the_server_and_other_tasks(folder: Path, number: int) -> None:
    with running_server(folder, program=program(folder, BESIDE)) as server:
        assert server.stop(number) != 0
        assert "Finished server process" in server.stderr


def test_program_signal_handler_runs_after_the_server_has_stopped(folder: Path) -> None:
    with running_server(folder, program=program(folder, HANDLED)) as server:
        assert server.stop() == 0
        assert "mine 15" in server.stdout


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_server_restores_a_program_signal_handler_that_the_application_replaced(folder: Path, loop: str) -> None:
    with running_server(folder, program=program(folder, RELEASED.format(loop=loop))) as server:
        assert server.stop(signal.SIGINT) == 0
        assert server.stdout == "mine 2\nafter\n"


def test_program_may_configure_logging_after_creating_config(folder: Path) -> None:
    with running_server(folder, program=program(folder, LAST_WORD)) as server:
        server.get()
        assert server.stop() == 0
        assert "GET" not in server.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_server_applies_a_change_that_a_program_makes_to_LOGGING_CONFIG(folder: Path, workers: int) -> None:
    with running_server(folder, program=program(folder, CHANGED.format(workers=workers))) as server:
        server.get()
        server.wait_for_line("MINE INFO:     127.0.0.1:", "stdout")


def test_app_beside_the_script_takes_precedence_over_app_in_the_current_folder(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "app.py").write_text(APP.replace("hello", "inner"))
    (folder / "inner" / "main.py").write_text("import uvicorn\nuvicorn.run('app:app', port=0)\n")
    with running_server(folder, program=["inner/main.py"]) as server:
        assert server.get() == (200, "inner")


@pytest.mark.parametrize("options", ["", ", workers=2", ", reload=True"])
def test_application_in_a_package_may_use_relative_imports(folder: Path, options: str) -> None:
    (folder / "shop").mkdir()
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "site.py").write_text(APP)
    (folder / "shop" / "app.py").write_text("from .site import app\n")
    (folder / "shop" / "__main__.py").write_text(f"import uvicorn\nuvicorn.run('shop.app:app', port=0{options})\n")
    with running_server(
        folder, program=["-c", "import runpy; runpy.run_module('shop', run_name='__main__')"]
    ) as server:
        assert server.get() == (200, "hello")


def test_workers_log_an_error_if_they_cannot_unpickle_the_configuration(folder: Path) -> None:
    source = (
        "import logging, uvicorn\n"
        "class Mine(logging.Filter): ...\n"
        "config = {'version': 1, 'filters': {'mine': {'()': Mine}}}\n"
        "uvicorn.run('app:app', port=0, workers=2, log_config=config)\n"
    )
    with running_server(folder, program=program(folder, source), addresses=0) as server:
        assert server.wait() == 2
        assert "workers: a worker process cannot unpickle the configuration: " in server.stderr


@pytest.mark.parametrize("arguments", [("--workers", "2"), ("--reload",)])
def test_workers_use_the_factory_and_the_env_file(folder: Path, arguments: Sequence[str]) -> None:
    pytest.importorskip("dotenv")
    (folder / ".env").write_text("GREETING=tea\n")
    (folder / "made.py").write_text(
        "import os\n"
        "def make():\n"
        "    async def app(message, channels):\n"
        "        await channels['reply'].send({'status': 200, 'content': os.environ['GREETING'].encode()})\n"
        "    return app\n"
    )
    with running_server(folder, "made:make", "--factory", "--env-file", ".env", *arguments) as server:
        assert server.get() == (200, "tea")


def test_reload_starts_one_process_despite_WEB_CONCURRENCY(folder: Path) -> None:
    (folder / "app.py").write_text(
        "from uvicorn import process_count\n"
        "async def app(message, channels):\n"
        "    await channels['reply'].send({'status': 200, 'content': str(process_count.count).encode()})\n"
    )
    with running_server(folder, "app:app", "--reload", env={"WEB_CONCURRENCY": "4"}) as server:
        assert server.get() == (200, "1")
        assert server.stderr.count(" is ready") == 1
