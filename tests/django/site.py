"""A Django site with asynchronous views, and helpers that call it.

All database aliases name the same database. They differ in CONN_MAX_AGE and in the pool.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Final

import django
from django.conf import settings

#: Alias to what is special about it.
ALIASES: Final[dict[str, dict[str, Any]]] = {
    "default": {"CONN_MAX_AGE": 0},
    "kept": {"CONN_MAX_AGE": 60},
    "checked": {"CONN_MAX_AGE": 60, "CONN_HEALTH_CHECKS": True},
    "pooled": {"OPTIONS": {"pool": {"min_size": 1, "max_size": 8}}},
}

_APPS: Final = ("auth", "contenttypes", "sessions")

settings.configure(
    SECRET_KEY="only for tests",
    SECRET_KEY_FALLBACKS=["an earlier one"],
    ALLOWED_HOSTS=["site.example"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[*(f"django.contrib.{name}" for name in _APPS), "uvicorn.django"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    # The folder of the server's socket is filled in when it runs.
    DATABASES={
        alias: {"ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres", **special}
        for alias, special in ALIASES.items()
    },
    MIGRATION_MODULES=dict.fromkeys(_APPS),
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
    LOGIN_URL="/login/",
    USE_TZ=True,
)
django.setup()

from asgiref.sync import sync_to_async  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402
from django.db import connections, models  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import override_settings  # noqa: E402
from django.urls import path  # noqa: E402
from django.utils.deprecation import MiddlewareMixin  # noqa: E402

View = Callable[[HttpRequest], Awaitable[HttpResponse]]

local: Final = threading.local()


class Row(models.Model):
    """A row with a number."""

    number = models.IntegerField()

    class Meta:
        app_label = "site"


def execute(sql: str, alias: str = "kept") -> Any:
    """Return the first column of the first row of `sql`."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


async def run(sql: str, alias: str = "kept") -> Any:
    """Call `execute` from a coroutine."""
    return await sync_to_async(execute)(sql, alias)


class TenantMiddleware(MiddlewareMixin):
    """Stores the user of the request in a `threading.local`, on the connection and in the database session."""

    def process_request(self, request: HttpRequest) -> None:
        user = request.headers.get("user", "nobody")
        local.user = connections["kept"].tenant = user
        execute(f"SET app.tenant = '{user}'")


def found() -> set[str]:
    """Return the users that are stored on this thread, on its connection and in its database session."""
    return {local.user, connections["kept"].tenant, execute("SHOW app.tenant")}


#: The view that the only path of the site leads to.
view: View


async def call_view(request: HttpRequest) -> HttpResponse:
    return await view(request)


urlpatterns = [path("", call_view, name="index"), path("login/", call_view, name="login")]


def django_site(answer: View, *middleware: str) -> ASGIHandler:
    """Return Django's own ASGI application. `answer` is the view for `/`."""
    global view
    view = answer
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, *middleware]):
        return ASGIHandler()


TENANTS: Final = f"{__name__}.TenantMiddleware"


def scope_of(path: str = "/", headers: dict[str, str] | None = None, **special: Any) -> dict[str, Any]:
    """Return the scope of a GET."""
    fields = {"host": "site.example", **(headers or {})}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        "client": ("192.0.2.1", 50000),
        "server": ("192.0.2.2", 80),
        **special,
    }


class Client:
    """One request to an ASGI application. The client stays connected until `leave` is called."""

    def __init__(self, app: Callable[..., Awaitable[Any]], **headers: str) -> None:
        self._app = app
        self.scope = scope_of(headers=headers)
        self._received = False
        self._left = asyncio.Event()
        self.events: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if not self._received:
            self._received = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, event: dict[str, Any]) -> None:
        if event["type"] == "http.response.start" and self.events:
            raise RuntimeError("the response has begun")
        self.events.append(event)

    def leave(self) -> None:
        self._left.set()

    async def ask(self) -> tuple[int, str]:
        """Return the status and the content of the answer."""
        await self._app(self.scope, self.receive, self.send)
        return self.events[0]["status"], b"".join(event.get("body", b"") for event in self.events[1:]).decode()


async def get(app: Callable[..., Awaitable[Any]], **headers: str) -> tuple[int, str]:
    """Return the status and the content of the answer to a GET."""
    return await Client(app, **headers).ask()


class Reply:
    """`channels['reply']` of a handler that is called without a server."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    async def send(self, message: dict[str, Any]) -> None:
        self.messages.append(message)


async def event(app: Callable[..., Awaitable[Any]], kind: str = "websocket.receive", **keys: Any) -> Reply:
    """Call a channels application with an event, and return its reply channel."""
    reply = Reply()
    await app({"channel": kind, "path": "/", **keys}, {"reply": reply})
    return reply


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition that a thread or the database causes."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)
