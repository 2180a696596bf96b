"""Sites of real frameworks, each at many places of one Router: what M17's matrix asks.

Each site answers `where` with its root path, its path, and a URL of its own that its framework has made; `go` redirects
to that URL; `site.css` is a static file of a mounted site. A site at a Route knows where it lives: its pages are at
`/route/<name>/...` as well.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

import django
from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from flask import Flask, redirect, request, url_for
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount as StarletteMount
from starlette.routing import Route as StarletteRoute
from starlette.staticfiles import StaticFiles

from uvicorn import ASGI3Adapter, Mount, Route, Router, WSGIAdapter
from uvicorn.workers import UvicornWorker

STATIC: Final = Path(__file__).parent / "static"

flask_site = Flask(__name__, static_folder=str(STATIC), static_url_path="/static")


@flask_site.get("/where", defaults={"at": ""})
@flask_site.get("/route/<at>/where")
def where(at: str) -> Any:
    root_path = request.script_root
    return {"root": root_path, "path": root_path + request.path, "made": url_for("where", at=at)}


@flask_site.get("/go", defaults={"at": ""})
@flask_site.get("/route/<at>/go")
def go(at: str) -> Any:
    return redirect(url_for("where", at=at))


settings.configure(
    SECRET_KEY="only for tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[f"django.contrib.{name}" for name in ("admin", "auth", "contenttypes", "sessions", "messages")],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    # The admin's system checks look for more.
    SILENCED_SYSTEM_CHECKS=["admin.E403", "admin.E404"],
)
django.setup()

from django.contrib.admin import AdminSite  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path, reverse  # noqa: E402


def django_where(request: HttpRequest, at: str = "") -> HttpResponse:
    made = reverse("routed", args=[at]) if at else reverse("where")
    return JsonResponse({"root": request.META["SCRIPT_NAME"], "path": request.path, "made": made})


def django_go(request: HttpRequest, at: str = "") -> HttpResponse:
    return HttpResponseRedirect(reverse("routed", args=[at]) if at else reverse("where"))


def django_static(request: HttpRequest) -> FileResponse:
    return FileResponse(open(STATIC / "site.css", "rb"))


urlpatterns = [
    path("where", django_where, name="where"),
    path("go", django_go),
    path("static/site.css", django_static),
    path("admin/", AdminSite(name="admin").urls),
    path("route/django/admin/", AdminSite(name="routed_admin").urls),
    path("route/<at>/where", django_where, name="routed"),
    path("route/<at>/go", django_go),
]
django_site = get_wsgi_application()


async def starlette_where(request: Request) -> Response:
    at = request.path_params.get("at", "")
    made = request.url_for("routed", at=at) if at else request.url_for("where")
    return JSONResponse({"root": request.scope["root_path"], "path": request.url.path, "made": made.path})


async def starlette_go(request: Request) -> Response:
    at = request.path_params.get("at", "")
    return RedirectResponse(request.url_for("routed", at=at) if at else request.url_for("where"))


starlette_site = Starlette(
    routes=[
        StarletteRoute("/where", starlette_where, name="where"),
        StarletteRoute("/go", starlette_go),
        StarletteMount("/static", StaticFiles(directory=STATIC)),
        StarletteRoute("/route/{at}/where", starlette_where, name="routed"),
        StarletteRoute("/route/{at}/go", starlette_go),
    ]
)


def _answer(message: dict[str, Any]) -> dict[str, Any]:
    """What a site without a framework answers: the URLs are those that its root path makes."""
    root_path, path = message["root_path"], message["path"]
    here = path[: path.rindex("/")]
    if path.endswith("/go"):
        return {"status": 302, "headers": [[b"location", f"{here}/where".encode()]]}
    if path == f"{root_path}/static/site.css":
        return {"status": 200, "content": (STATIC / "site.css").read_bytes()}
    found = {"root": root_path, "path": path, "made": f"{here}/where"}
    return {"status": 200, "content": json.dumps(found).encode()}


async def channels_site(message: dict[str, Any], channels: dict[str, Any]) -> None:
    await channels["reply"].send(_answer(message))


def consumer_site(message: dict[str, Any]) -> None:
    message["reply_channel"].send(_answer(message))


SITES: Final[dict[str, Any]] = {
    "flask": flask_site,
    "django": django_site,
    "starlette": starlette_site,
    "channels": channels_site,
    "consumer": consumer_site,
}


def places() -> Router:
    """Each site at a Route and at a Mount."""
    return Router(
        *(Route(f"/route/{name}/*", site) for name, site in SITES.items()),
        *(Mount(f"/mount/{name}", site) for name, site in SITES.items()),
    )


#: The places, below one Router more, and below two.
table = Router(*places().entries, Mount("/one", Router(*places().entries, Mount("/two", places()))), default=flask_site)


def wsgi_below_a_proxy(app: Any) -> Any:
    """Move the prefix that a proxy names to SCRIPT_NAME; out of the path, unless the proxy has cut it off."""

    def placed(environ: dict[str, Any], start_response: Any) -> Any:
        environ["SCRIPT_NAME"] = environ.get("HTTP_X_PREFIX", "")
        if "HTTP_X_KEPT" in environ:
            environ["PATH_INFO"] = environ["PATH_INFO"][len(environ["SCRIPT_NAME"]) :]
        return app(environ, start_response)

    return placed


def asgi_below_a_proxy(app: Any) -> Any:
    """Set the root path that a proxy names, with which the path begins (ASGI 2.5)."""

    async def placed(scope: dict[str, Any], receive: Any, send: Any) -> None:
        fields = dict(scope.get("headers") or ())
        prefix = fields.get(b"x-prefix", b"")
        if prefix:
            scope = {**scope, "root_path": prefix.decode()}
            if b"x-kept" not in fields:
                scope |= {"path": scope["root_path"] + scope["path"], "raw_path": prefix + scope["raw_path"]}
        await app(scope, receive, send)

    return placed


wsgi = wsgi_below_a_proxy(WSGIAdapter(table))
asgi = asgi_below_a_proxy(ASGI3Adapter(table))


class PlacedWorker(UvicornWorker):
    """The gunicorn worker at the root path of the environment."""

    CONFIG_KWARGS = {
        "root_path": os.environ.get("UVICORN_ROOT_PATH", ""),
        "root_path_cut": os.environ.get("UVICORN_ROOT_PATH_CUT", "yes"),
    }
