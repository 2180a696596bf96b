"""Checks whether a site serves its static files, for `uvicorn --reload`."""

from __future__ import annotations

from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.urls import resolve
from django.utils.module_loading import import_string

from uvicorn.django.site import layers, static_prefix
from uvicorn.routing import Router, Shift

# Packages whose middleware serves static files.
_SERVING_PACKAGES: Final = ("whitenoise", "servestatic")


def unserved_static_files(app: Any) -> str:
    """With DEBUG, return a log line if nothing serves STATIC_URL. Otherwise return ""."""
    prefix = (
        static_prefix() if apps.ready and settings.DEBUG and apps.is_installed("django.contrib.staticfiles") else ""
    )
    if not prefix or not _reaches_django(app, f"{prefix}/file") or _middleware_serves() or _urls_serve(prefix):
        return ""
    return (
        f"{settings.SETTINGS_MODULE}: DEBUG is on, and nothing serves the static files below {prefix}/; "
        f"add staticfiles_urlpatterns() of django.contrib.staticfiles.urls to {settings.ROOT_URLCONF}, or start the "
        "site with manage.py runserver"
    )


def _reaches_django(app: Any, path: str) -> bool:
    for layer in layers(app):
        if type(layer) in (WSGIHandler, ASGIHandler):
            return True
        if isinstance(layer, Router):
            entry = layer.find(path)
            if entry is None:
                return False
            return _reaches_django(entry.app, path[len(entry.prefix) :] if entry.moves_root else path)
        if isinstance(layer, Shift):
            return _reaches_django(layer.old, path)
    # An application of an unknown kind may serve the files itself.
    return False


def _middleware_serves() -> bool:
    classes = [import_string(name) for name in settings.MIDDLEWARE]
    bases = [base for found in classes for base in getattr(found, "__mro__", ())]
    return any(base.__module__.partition(".")[0] in _SERVING_PACKAGES for base in bases)


def _urls_serve(prefix: str) -> bool:
    try:
        route = resolve(f"{prefix}/file").route
    except Exception:
        # Without a pattern, Resolver404. A faulty URL configuration is reported at the first request.
        return False
    # `static()` escapes the prefix, because it writes a regular expression.
    return route.replace("\\", "").lstrip("^/").startswith(prefix.lstrip("/"))
