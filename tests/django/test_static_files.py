"""`uvicorn --reload` reports that nothing serves the static files of a site like the one that `startproject` makes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.server_process import run_command, running_server

LINE = (
    "project.settings: DEBUG is on, and nothing serves the static files below /static/; "
    "add staticfiles_urlpatterns() of django.contrib.staticfiles.urls to project.urls, or start the site "
    "with manage.py runserver"
)

# What a worker of `--reload` does before it serves.
LOAD = "import sys, uvicorn; uvicorn.Config(sys.argv[1], app_dir='.', reload=True).load()"

FILES_ASGI = "from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler\n"
FILES_WSGI = "from django.contrib.staticfiles.handlers import StaticFilesHandler\n"
OURS = "from uvicorn import Mount, Route, Router, Shift, WSGIAdapter\nfrom uvicorn.django import DjangoThreads\n"
FILES = "def files(environ, start_response): ...\n"

#: Lines that are added to files of the project, by file.
UNSERVED = {
    "Router": {"wsgi": f"{OURS}application = Router(Route('/live', application), default=application)\n"},
    "nested Router": {"wsgi": f"{OURS}application = Router(default=Router(default=application))\n"},
    "Router in an adapter": {"wsgi": f"{OURS}application = WSGIAdapter(Router(default=application))\n"},
    "Shift": {"wsgi": f"{OURS}application = Shift(application, application, weight=0)\n"},
    "view for all paths": {
        "urls": "from django.urls import re_path\nurlpatterns += [re_path('^.*$', lambda request: None)]\n"
    },
    "entry for another path": {
        "wsgi": f"{OURS}{FILES}application = Router(Route('/statics/*', files), default=application)\n"
    },
    "another prefix": {"settings": "STATIC_URL = '/my-files/'\n"},
    "broken urls": {"urls": "raise ValueError\n"},
}
SERVED = {
    "DEBUG is off": {"settings": "DEBUG = False\n"},
    "no staticfiles": {"settings": "INSTALLED_APPS.remove('django.contrib.staticfiles')\n"},
    "files on another host": {"settings": "STATIC_URL = 'https://files.example/static/'\n"},
    "StaticFilesHandler": {"wsgi": f"{FILES_WSGI}application = StaticFilesHandler(application)\n"},
    "handler in a Router": {
        "wsgi": f"{OURS}{FILES_WSGI}application = Router(default=StaticFilesHandler(application))\n"
    },
    "entry": {"wsgi": f"{OURS}{FILES}application = Router(Route('/static/*', files), default=application)\n"},
    "no entry": {"wsgi": f"{OURS}application = Router(Route('/page', application))\n"},
    "Mount": {"wsgi": f"{OURS}{FILES}application = Router(Mount('/static', files), default=application)\n"},
    "unknown middleware": {
        "wsgi": "def application(environ, start_response, django=application): return django(environ, start_response)\n"
    },
    "middleware that contains itself": {
        "wsgi": "def site(environ, start_response, django=application): return django(environ, start_response)\n"
        "application = site.app = site\n"
    },
    "staticfiles_urlpatterns": {
        "urls": "from django.contrib.staticfiles.urls import staticfiles_urlpatterns\n"
        "urlpatterns += staticfiles_urlpatterns()\n"
    },
    "urlpatterns of a prefix with a dash": {
        "settings": "STATIC_URL = '/my-files/'\n",
        "urls": "from django.contrib.staticfiles.urls import staticfiles_urlpatterns\n"
        "urlpatterns += staticfiles_urlpatterns()\n",
    },
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    command = [sys.executable, "-m", "django", "startproject", "project", str(tmp_path)]
    subprocess.run(command, check=True, env={**os.environ, "DJANGO_SETTINGS_MODULE": ""})
    return tmp_path


def add(project: Path, lines: dict[str, str]) -> None:
    for name, text in lines.items():
        with (project / "project" / f"{name}.py").open("a") as file:
            file.write(text)


def loaded(project: Path, app: str = "project.wsgi:application") -> str:
    """Return the log of a worker until it serves."""
    run = run_command(project, app, env={"DJANGO_SETTINGS_MODULE": "project.settings"}, program=("-c", LOAD))
    assert run.returncode == 0, run.stderr
    return run.stderr


@pytest.mark.parametrize("app", ["project.wsgi", "project.asgi:application"])
def test_server_with_reload_warns_once_about_unserved_static_files(app: str, project: Path) -> None:
    with running_server(project, app, "--reload") as server:
        assert server.get("/static/admin/css/base.css")[0] == 404
        assert server.stderr.count(f"WARNING {LINE}\n") == 1


def test_server_without_reload_logs_nothing_about_static_files(project: Path) -> None:
    with running_server(project, "project.wsgi", env={"DJANGO_SETTINGS_MODULE": "project.settings"}) as server:
        assert "static files" not in server.stderr


@pytest.mark.parametrize("name", UNSERVED)
def test_reload_warns_if_no_application_serves_the_static_files(name: str, project: Path) -> None:
    add(project, UNSERVED[name])
    line = LINE.replace("/static/", "/my-files/") if name == "another prefix" else LINE
    assert f" WARNING {line}\n" in loaded(project)


@pytest.mark.parametrize("name", SERVED)
def test_reload_does_not_warn_if_static_files_are_served_or_unneeded(name: str, project: Path) -> None:
    add(project, SERVED[name])
    assert "static files" not in loaded(project)


def test_reload_does_not_warn_if_an_ASGIStaticFilesHandler_serves_the_files(project: Path) -> None:
    add(project, {"asgi": f"{FILES_ASGI}application = ASGIStaticFilesHandler(application)\n"})
    assert "static files" not in loaded(project, "project.asgi:application")


def test_reload_warns_about_unserved_static_files_of_a_wrapped_site(project: Path) -> None:
    add(project, {"asgi": f"{OURS}application = DjangoThreads(application)\n"})
    assert LINE in loaded(project, "project.asgi:application")


@pytest.mark.parametrize("is_subclass", [False, True], ids=["itself", "subclass"])
def test_reload_with_whitenoise_logs_nothing_about_static_files(is_subclass: bool, project: Path) -> None:
    pytest.importorskip("whitenoise")
    name = "whitenoise.middleware.WhiteNoiseMiddleware"
    if is_subclass:
        own = "from whitenoise.middleware import WhiteNoiseMiddleware\nclass Files(WhiteNoiseMiddleware): ...\n"
        (project / "project" / "files.py").write_text(own)
        name = "project.files.Files"
    add(project, {"settings": f"MIDDLEWARE.insert(1, {name!r})\n"})
    assert "static files" not in loaded(project)


def test_reload_of_a_non_django_application_does_not_mention_static_files(project: Path) -> None:
    (project / "other.py").write_text("import django\nasync def app(message, channels): ...\n")
    assert "static files" not in loaded(project, "other:app")
