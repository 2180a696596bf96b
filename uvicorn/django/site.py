"""The application that `manage.py runserver` and `LiveServerTestCase` serve."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.servers.basehttp import get_internal_wsgi_application
from django.utils.module_loading import import_string

from uvicorn.routing import Route, Router


def layers(app: Any) -> Iterator[Any]:
    """Yield `app`, and the applications that `app` wraps, from outside to inside."""
    seen = set()
    # An application's attribute `app` may be the application itself.
    while app is not None and id(app) not in seen:
        yield app
        seen.add(id(app))
        app = getattr(app, "__wrapped__", getattr(app, "app", None))


def application() -> Any:
    for setting in ("UVICORN_APPLICATION", "ASGI_APPLICATION"):
        if name := getattr(settings, setting, None):
            return import_string(name.replace(":", "."))
    return get_internal_wsgi_application()


def static_prefix() -> str:
    """Return STATIC_URL's path without final slash. Return "" if STATIC_URL names a host."""
    url = urlsplit(settings.STATIC_URL or "")
    return "" if url.netloc else url.path.rstrip("/")


def with_static_files(app: Any, files: Any) -> Router:
    """Return a Router that serves STATIC_URL with `files`, and other paths with `app`."""
    prefix = static_prefix()
    if not prefix:
        return Router(default=app)
    return Router(Route(prefix, app), Route(f"{prefix}/*", files), default=app)
