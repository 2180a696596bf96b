"""`manage.py runserver` in its own process, with a site like the one that `startproject` makes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.test import override_settings
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess
from uvicorn.django.checks import check_installed_apps

SITE = """
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from uvicorn import Route, Router
from uvicorn.django import DjangoThreads

async def echo(message, channels):
    if message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"]})

async def hello(message, channels):
    await channels["reply"].send({"status": 200, "content": b"hello"})

application = Router(
    Route("/echo", echo, protocol="websocket"),
    Route("/hello", hello),
    Route("/async-page", DjangoThreads(get_asgi_application())),
    default=get_wsgi_application(),
)
"""

URLS = """
from django.contrib import admin
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("page", lambda request: render(request, "page.txt")),
    path("async-page", lambda request: render(request, "page.txt")),
    path("multithread", lambda request: HttpResponse(request.environ["wsgi.multithread"])),
]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    command = [sys.executable, "-m", "django", "startproject", "project", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "DJANGO_SETTINGS_MODULE": ""})
    settings = tmp_path / "project" / "settings.py"
    text = settings.read_text().replace("INSTALLED_APPS = [", "INSTALLED_APPS = ['uvicorn.django',")
    text = text.replace("'DIRS': []", "'DIRS': [BASE_DIR / 'templates']")
    settings.write_text(text + "\nUVICORN_APPLICATION = 'project.site:application'\n")
    (tmp_path / "project" / "site.py").write_text(SITE)
    (tmp_path / "project" / "urls.py").write_text(URLS)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "page.txt").write_text("first")
    return tmp_path


class RunServer(ServerProcess):
    """A running `manage.py runserver`. It prints its address on stdout."""

    @property
    def port(self) -> int:
        found = re.findall(r"Starting uvicorn for development at (\S+)", self.stdout)
        return urlsplit(found[-1]).port or 0


@contextmanager
def runserver(project: Path, *options: str) -> Iterator[RunServer]:
    command = [sys.executable, "-u", "manage.py", "runserver", "0", *options]
    with subprocess.Popen(
        command, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        server = RunServer(process)
        try:
            server.wait_for_line("Quit the server", "stdout")
            yield server
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            server.wait()


def change_until(is_noticed: Callable[[], bool], change: Callable[[], object]) -> None:
    """Change a file until the reloader notices it, because the reloader misses a change before its first scan."""
    last = time.monotonic() + LONGEST_WAIT
    changes = 0
    while time.monotonic() < last:
        # The server may be restarting.
        with suppress(ConnectionError):
            if is_noticed():
                return
        # Longer than the time between two looks, so that a restart is not interrupted by the next change.
        if time.monotonic() - last + LONGEST_WAIT >= 4 * changes:
            change()
            changes += 1


def test_runserver_serves_pages_websockets_and_static_files(project: Path) -> None:
    with runserver(project, "--noreload") as server:
        with connect(f"ws://127.0.0.1:{server.port}/echo") as websocket:
            websocket.send("hello")
            echoed = websocket.recv()
        assert echoed == "hello"
        assert [server.get(path)[0] for path in ("/hello", "/admin/login/", "/static/admin/css/base.css")] == [200] * 3


@pytest.mark.parametrize(("option", "status"), [("--nostatic", 404), ("--insecure", 200)])
def test_runserver_options_decide_whether_static_files_are_served(option: str, status: int, project: Path) -> None:
    settings = project / "project" / "settings.py"
    settings.write_text(f"{settings.read_text()}\nDEBUG = {option == '--nostatic'}\nALLOWED_HOSTS = ['*']\n")
    with runserver(project, "--noreload", option) as server:
        assert server.get("/static/admin/css/base.css")[0] == status


def test_nostatic_option_of_runserver_logs_nothing_about_static_files(project: Path) -> None:
    with runserver(project, "--noreload", "--nostatic") as server:
        assert server.get("/hello")[0] == 200
        assert "static" not in server.stderr


@pytest.mark.parametrize(("options", "expected"), [((), "True"), (("--nothreading",), "False")])
def test_runserver_option_decides_whether_the_site_runs_on_several_threads(
    options: tuple[str, ...], expected: str, project: Path
) -> None:
    with runserver(project, "--noreload", *options) as server:
        assert server.get("/multithread") == (200, expected)


def test_runserver_reports_unapplied_migrations(project: Path) -> None:
    with runserver(project, "--noreload") as server:
        assert "unapplied migration(s)" in server.stdout


@pytest.mark.parametrize("path", ["/page", "/async-page"])
def test_changed_template_takes_effect_without_a_restart(path: str, project: Path) -> None:
    with runserver(project) as server:
        before = server.get(path)
        (project / "templates" / "page.txt").write_text("second")
        after = server.get(path)
        assert (before, after, server.stdout.count("Quit the server")) == ((200, "first"), (200, "second"), 1)


def test_runserver_restarts_when_a_module_changes(project: Path) -> None:
    with runserver(project) as server:
        change_until(
            lambda: server.get("/hello") == (200, "changed"),
            lambda: (project / "project" / "site.py").write_text(SITE.replace('b"hello"', 'b"changed"')),
        )
        assert server.stdout.count("Quit the server") == 2


@pytest.mark.parametrize("options", [(), ("--noreload",)], ids=["reloader", "noreload"])
def test_ctrl_c_closes_websockets_and_ends_runserver_without_a_traceback(
    options: tuple[str, ...], project: Path
) -> None:
    with runserver(project, *options) as server, connect(f"ws://127.0.0.1:{server.port}/echo") as websocket:
        os.killpg(server.process.pid, signal.SIGINT)
        code = server.wait()
        assert "Traceback" not in server.stderr
        with pytest.raises(ConnectionClosedError):
            websocket.recv()
        assert (code, websocket.close_code) == (0, 1012)


def test_runserver_on_a_port_in_use_prints_one_line_and_exits_with_1(project: Path) -> None:
    with runserver(project, "--noreload") as server:
        command = [sys.executable, "manage.py", "runserver", "--noreload", str(server.port)]
        second = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
        assert (second.stderr.strip(), second.returncode) == ("Error: That port is already in use.", 1)


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (["uvicorn.django", "django.contrib.staticfiles"], []),
        (["uvicorn.django"], []),
        (["django.contrib.staticfiles", "uvicorn.django"], ["uvicorn.E001"]),
    ],
)
def test_check_e001_reports_staticfiles_listed_before_uvicorn_django(installed: list[str], expected: list[str]) -> None:
    with override_settings(INSTALLED_APPS=installed, STATIC_URL="static/"):
        found = [message.id for message in check_installed_apps()]
    assert found == expected
