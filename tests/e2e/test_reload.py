"""`--reload`: a saved file is served after a restart."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

APPS = {
    "channels": """
from text import text

async def app(message, channels):
    if message["channel"] == "http.request":
        await channels["reply"].send({"status": 200, "content": text.encode()})
""",
    "wsgi": """
from text import text

def app(environ, start_response):
    start_response("200 OK", [])
    return [text.encode()]
""",
    "asgi3": """
from text import text

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})
""",
}

# Without watchfiles our own scan looks.
PROGRAMS = {
    "watchfiles": ("-m", "uvicorn"),
    "scan": ("-c", "import sys; sys.modules['watchfiles'] = None; from uvicorn.cli import main; main()"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "text.py").write_text("text = 'one'")
    for name, source in APPS.items():
        (tmp_path / f"{name}.py").write_text(source)
    return tmp_path


@pytest.fixture(params=PROGRAMS)
def server(folder: Path, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    with running_server(folder, "channels:app", "--reload", "--port", "0", program=PROGRAMS[request.param]) as running:
        yield running


def ready(server: ServerProcess, count: int) -> None:
    server.wait_for_line(" is ready", count=count)


def save(folder: Path, text: str) -> None:
    """Replace a file atomically, as editors do."""
    new = folder / ".text.py.new"
    new.write_text(text)
    new.rename(folder / "text.py")


@pytest.mark.parametrize("kind", APPS)
def test_saved_file_is_served_after_a_reload(folder: Path, kind: str) -> None:
    with running_server(folder, f"{kind}:app", "--reload") as server:
        assert server.get()[1] == "one"
        save(folder, "text = 'two'")
        ready(server, 2)
        assert server.get()[1] == "two"


def test_each_file_watcher_reports_saved_files(server: ServerProcess, folder: Path) -> None:
    save(folder, "text = 'two'")
    ready(server, 2)
    assert server.get()[1] == "two"


def test_reloader_serves_the_next_saved_file_after_a_syntax_error(server: ServerProcess, folder: Path) -> None:
    save(folder, "text = ")
    server.wait_for_line("waiting for a file to change")
    save(folder, "text = 'two'")
    ready(server, 2)
    assert server.get()[1] == "two"


def test_one_saved_file_causes_one_restart(server: ServerProcess, folder: Path) -> None:
    for number in (2, 3, 4):
        save(folder, f"text = '{number}'")
        ready(server, number)
    assert server.stop() == 0
    assert len(re.findall(" detected changes in .*Reloading", server.stderr)) == 3


def test_an_open_websocket_does_not_delay_a_reload(server: ServerProcess, folder: Path) -> None:
    with connect(f"ws://127.0.0.1:{server.port}/") as websocket:
        save(folder, "text = 'two'")
        ready(server, 2)
        assert server.get()[1] == "two"
        with pytest.raises(Exception, match="1012"):
            websocket.recv(LONGEST_WAIT)


def test_a_new_file_causes_a_reload(server: ServerProcess, folder: Path) -> None:
    save(folder, "from other import text")
    server.wait_for_line("waiting for a file to change")
    (folder / "other.py").write_text("text = 'two'")
    ready(server, 2)
    assert server.get()[1] == "two"


def test_server_reloads_after_a_file_is_moved_away_and_back(server: ServerProcess, folder: Path) -> None:
    (folder / "text.py").rename(folder / "moved.py")
    server.wait_for_line("waiting for a file to change")
    (folder / "moved.py").rename(folder / "text.py")
    ready(server, 2)
    assert server.get()[1] == "one"


def test_a_file_in_a_new_folder_causes_a_reload(server: ServerProcess, folder: Path) -> None:
    save(folder, "from package.other import text")
    server.wait_for_line("waiting for a file to change")
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    (folder / "package" / "other.py").write_text("text = 'two'")
    ready(server, 2)
    assert server.get()[1] == "two"


def test_a_touched_file_causes_a_reload(server: ServerProcess, folder: Path) -> None:
    (folder / "text.py").touch()
    ready(server, 2)
    assert server.get()[1] == "one"


@pytest.mark.parametrize("level", ["info", "debug"])
def test_reloader_logs_the_received_signal_at_debug_level(folder: Path, level: str) -> None:
    with running_server(folder, "channels:app", "--reload", "--log-level", level) as server:
        save(folder, "text = 'two'")
        ready(server, 2)
        assert server.stop(signal.SIGINT) == 0
        assert ("Terminated child process" in server.stderr) == (level == "debug")
        assert ("Received SIGINT, exiting." in server.stderr) == (level == "debug")
        assert "Stopping reloader process" in server.stderr


def test_reload_option_is_rejected_with_several_workers(server: ServerProcess) -> None:
    server.send_signal(signal.SIGTTIN)
    server.wait_for_line("--reload uses one worker")


@pytest.mark.parametrize("program", PROGRAMS)
def test_reload_include_option_makes_an_html_file_cause_a_reload(folder: Path, program: str) -> None:
    (folder / "page.html").write_text("one")
    with running_server(
        folder, "channels:app", "--reload", "--reload-include", "*.html", "--port", "0", program=PROGRAMS[program]
    ) as server:
        (folder / "page.html").write_text("two")
        server.wait_for_line("page.html'. Reloading...")


@pytest.mark.parametrize("program", PROGRAMS)
def test_reload_exclude_option_takes_precedence_over_reload_dir(folder: Path, program: str) -> None:
    for name in ("watched", "excluded"):
        (folder / name).mkdir()
        (folder / name / "settings.py").write_text("one")
    with running_server(
        folder, "channels:app", "--reload", "--reload-dir", "watched", "--reload-dir", "excluded",
        "--reload-exclude", "excluded", "--port", "0", program=PROGRAMS[program],
    ) as server:  # fmt: skip
        (folder / "excluded" / "settings.py").write_text("two")
        (folder / "watched" / "settings.py").write_text("two")
        server.wait_for_line("Reloading...")
        assert "watched/settings.py'. Reloading..." in server.stderr
