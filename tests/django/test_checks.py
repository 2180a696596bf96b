"""Each system check, with a site that it reports and a site that it does not report."""

from __future__ import annotations

from typing import Any

import asgiref
import pytest
from django.core.checks import run_checks
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.middleware.common import CommonMiddleware
from django.test import override_settings
from django.urls import include, path

from uvicorn import Mount, Route, Router, Shift
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.django import DjangoThreads, login_required

# The connections are those of the settings that the tests began with, which no check looks at.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding setting DATABASES:UserWarning")

HERE = __name__


async def bare(message: Any, channels: Any) -> None: ...


@login_required
async def decorated(message: Any, channels: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> None: ...


class Cyclic:
    """A framework's application, whose attribute `app` is itself."""

    def __init__(self) -> None:
        self.app = self

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None: ...


cyclic = Cyclic()
in_threads = DjangoThreads(bare)
protected = DjangoThreads(login_required(bare))
django = ASGIHandler()
django_in_threads = DjangoThreads(django)
in_more_threads = BroadcastMiddleware(DjangoThreads(bare, threads=40), url="memory://")
unreadable = {"no": "application"}
routed = Router(Route("/live", bare), Mount("/shop", Router(Route("/x/*", DjangoThreads(django)))), default=wsgi)
mounted = Router(Mount("/site", WSGIHandler()))
mounted_in_threads = BroadcastMiddleware(Router(Mount("/site", DjangoThreads(django))), url="memory://")
mounted_cyclic = Router(Mount("/site", cyclic))
mounted_below = Router(Route("/a/*", Router(Mount("/site", WSGIHandler()))))
mounted_in_shift = Router(Mount("/site", Shift(WSGIHandler(), Router(default=bare))))
mounted_in_default = Router(default=Router(Mount("/site", WSGIHandler())))
shifted = Shift(wsgi, bare)
not_mounted = Router(Route("/site/*", WSGIHandler()), Mount("/shop", wsgi))


class SyncOnly(CommonMiddleware):
    async_capable = False


class Async(CommonMiddleware): ...


async def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@transaction.non_atomic_requests
async def exempt_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def sync_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


class Refused:
    urlpatterns = [path("sync", sync_view), path("below/", include([path("", view)]))]


class Accepted:
    urlpatterns = [path("sync", sync_view), path("", exempt_view)]


def ids(application: str | None, **changed: Any) -> list[str]:
    """Return the ids of the errors and warnings about a site."""
    databases = changed.pop("databases", {"default": {"CONN_MAX_AGE": 0}})
    with override_settings(UVICORN_APPLICATION=application, DATABASES=databases, **changed):
        return [str(message.id) for message in found()]


def found() -> list[Any]:
    return [message for message in run_checks() if (message.id or "").startswith("uvicorn.")]


def test_site_without_an_application_setting_is_not_checked() -> None:
    assert ids(None, databases={"default": {"CONN_MAX_AGE": 60}}) == []


def test_wsgi_and_invalid_applications_are_not_checked() -> None:
    assert ids(f"{HERE}.wsgi") == ids(f"{HERE}.unreadable") == []


@pytest.mark.parametrize("setting", ["UVICORN_APPLICATION", "ASGI_APPLICATION"])
def test_django_checks_read_the_settings_UVICORN_APPLICATION_and_ASGI_APPLICATION(setting: str) -> None:
    with override_settings(**{setting: f"{HERE}.bare", "DATABASES": {"default": {"CONN_MAX_AGE": 60}}}):
        assert [message.id for message in found()] == ["uvicorn.W001"]


@pytest.mark.parametrize(("application", "expected"), [(f"{HERE}.nothing", ["uvicorn.E004"]), (f"{HERE}:bare", [])])
def test_check_e004_reports_an_application_that_cannot_be_imported(application: str, expected: list[str]) -> None:
    assert ids(application) == expected


@pytest.mark.parametrize(("urls", "expected"), [(Refused, ["uvicorn.E002"]), (Accepted, [])])
def test_check_e002_reports_an_asynchronous_view_with_atomic_requests(urls: Any, expected: list[str]) -> None:
    databases = {"default": {"ATOMIC_REQUESTS": True}}
    assert ids(f"{HERE}.django_in_threads", databases=databases, ROOT_URLCONF=urls) == expected


def test_check_e002_names_the_view_and_the_missing_decorator() -> None:
    with override_settings(
        UVICORN_APPLICATION=f"{HERE}.django", DATABASES={"default": {"ATOMIC_REQUESTS": True}}, ROOT_URLCONF=Refused
    ):
        (message,) = found()
    assert f"{HERE}.view" in message.msg and "@transaction.non_atomic_requests" in message.hint


def test_check_e002_ignores_asynchronous_views_without_atomic_requests() -> None:
    assert ids(f"{HERE}.django_in_threads", ROOT_URLCONF=Refused) == []


@pytest.mark.parametrize("age", [60, None])
@pytest.mark.parametrize("application", ["bare", "decorated", "django", "shifted"])
def test_check_w001_reports_persistent_connections_without_django_threads(application: str, age: int | None) -> None:
    assert ids(f"{HERE}.{application}", databases={"default": {"CONN_MAX_AGE": age}}) == ["uvicorn.W001"]


@pytest.mark.parametrize(
    ("application", "age"), [("in_threads", 60), ("django_in_threads", None), ("bare", 0), ("in_more_threads", 60)]
)
def test_check_w001_is_silent_with_django_threads_or_without_conn_max_age(application: str, age: int | None) -> None:
    databases = {"default": {"CONN_MAX_AGE": age, "ENGINE": "django.db.backends.sqlite3"}}
    assert ids(f"{HERE}.{application}", databases=databases) == []


@pytest.mark.parametrize(
    ("application", "processes", "databases", "expected"),
    [
        ("in_threads", "4", {"default": {}}, []),
        ("in_threads", "5", {"default": {}}, ["uvicorn.W002"]),
        ("in_threads", "3", {"default": {}, "other": {}}, ["uvicorn.W002"]),
        ("in_threads", "3", {"default": {}, "other": {"ENGINE": "django.db.backends.sqlite3"}}, []),
        ("in_threads", "9", {"default": {"OPTIONS": {"pool": {"max_size": 10}}}}, []),
        ("in_threads", "24", {"default": {"OPTIONS": {"pool": True}}}, []),
        ("in_threads", "25", {"default": {"OPTIONS": {"pool": True}}}, ["uvicorn.W002"]),
        ("in_more_threads", "1", {"default": {}}, []),
        ("in_more_threads", "2", {"default": {}}, ["uvicorn.W002"]),
        ("bare", "50", {"default": {}}, []),
    ],
)
def test_check_w002_reports_more_connections_than_postgresql_accepts(
    application: str, processes: str, databases: Any, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", processes)
    assert ids(f"{HERE}.{application}", databases=databases) == expected


def test_check_w002_shows_how_the_number_of_connections_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "6")
    monkeypatch.setenv("UVICORN_THREADS", "20")
    with override_settings(UVICORN_APPLICATION=f"{HERE}.in_threads", DATABASES={"default": {}}):
        (message,) = found()
    assert "Up to 168 database connections: 6 processes x (20 threads" in message.msg


@pytest.mark.parametrize(
    ("application", "middleware", "expected"),
    [
        ("django_in_threads", "SyncOnly", ["uvicorn.W003"]),
        ("django_in_threads", "Async", []),
        ("in_threads", "SyncOnly", ["uvicorn.W004"]),
    ],
)
def test_check_w003_reports_synchronous_middleware_around_asynchronous_views(
    application: str, middleware: str, expected: list[str]
) -> None:
    assert ids(f"{HERE}.{application}", MIDDLEWARE=[f"{HERE}.{middleware}"]) == expected


@pytest.mark.parametrize(
    ("application", "middleware", "expected"),
    [
        ("in_threads", f"{HERE}.Async", ["uvicorn.W004"]),
        ("in_threads", "django.contrib.auth.middleware.LoginRequiredMiddleware", ["uvicorn.W004"]),
        ("in_threads", "django.middleware.security.SecurityMiddleware", []),
        ("django_in_threads", "django.contrib.auth.middleware.LoginRequiredMiddleware", []),
    ],
)
def test_check_w004_reports_middleware_that_skips_non_django_applications(
    application: str, middleware: str, expected: list[str]
) -> None:
    assert ids(f"{HERE}.{application}", MIDDLEWARE=[middleware]) == expected


def test_hint_of_check_w004_explains_when_to_silence_the_check() -> None:
    with override_settings(UVICORN_APPLICATION=f"{HERE}.in_threads", MIDDLEWARE=[f"{HERE}.Async"]):
        (message,) = found()
    assert "Silence this check if" in (message.hint or "")


@pytest.mark.parametrize(("application", "expected"), [("in_threads", True), ("protected", False)])
def test_check_w004_proposes_login_required_if_the_application_lacks_it(application: str, expected: bool) -> None:
    with override_settings(UVICORN_APPLICATION=f"{HERE}.{application}", MIDDLEWARE=[f"{HERE}.Async"]):
        (message,) = found()
    assert ("login_required" in (message.hint or "")) == expected


@pytest.mark.parametrize(("version", "expected"), [("3.8.1", ["uvicorn.W005"]), ("3.9.0", []), ("4.0", [])])
def test_check_w005_reports_an_asgiref_version_that_shares_context(
    version: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgiref, "__version__", version)
    assert ids(f"{HERE}.in_threads") == expected


@pytest.mark.parametrize(
    "application", ["mounted", "mounted_in_threads", "mounted_below", "mounted_in_shift", "mounted_in_default"]
)
def test_check_e003_reports_a_mounted_django_site_with_force_script_name(application: str) -> None:
    assert ids(f"{HERE}.{application}", FORCE_SCRIPT_NAME="/forced") == ["uvicorn.E003"]


@pytest.mark.parametrize(
    ("application", "name"),
    [
        ("mounted", None),
        ("not_mounted", "/forced"),
        ("bare", "/forced"),
        ("cyclic", None),
        ("cyclic", "/forced"),
        ("mounted_cyclic", "/forced"),
    ],
)
def test_check_e003_ignores_sites_without_a_mount_or_without_force_script_name(
    application: str, name: str | None
) -> None:
    assert ids(f"{HERE}.{application}", FORCE_SCRIPT_NAME=name) == []


def test_every_asynchronous_application_of_a_router_is_checked() -> None:
    databases = {"default": {"ENGINE": "django.db.backends.sqlite3", "CONN_MAX_AGE": 60}}
    found = ids(f"{HERE}.routed", databases=databases, MIDDLEWARE=[f"{HERE}.SyncOnly"])
    assert found == ["uvicorn.W001", "uvicorn.W004", "uvicorn.W003"]
