"""System checks for `manage.py check`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final

import asgiref
from asgiref.sync import iscoroutinefunction
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import import_string

from uvicorn.django.housekeeping import DEFAULT_MIDDLEWARE
from uvicorn.django.site import layers
from uvicorn.django.threads import DjangoThreads
from uvicorn.errors import InterfaceError
from uvicorn.routing.leaves import Leaf, leaves_of
from uvicorn.settings import Settings

#: PostgreSQL's default `max_connections`, 100, without the 3 that it reserves for superusers.
MAX_CONNECTIONS: Final = 97


def check_installed_apps(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """Return an error if another application's `runserver` command hides this package's command."""
    names = [config.name for config in apps.get_app_configs()]
    before = names[: names.index("uvicorn.django")]
    if "daphne" in names:
        fault, hint = "has 'uvicorn.django' and 'daphne', and both have a runserver command.", "Remove one of them."
    elif "django.contrib.staticfiles" in before:
        fault = "has 'django.contrib.staticfiles' before 'uvicorn.django', so runserver serves no WebSockets."
        hint = "Move 'uvicorn.django' to the beginning of INSTALLED_APPS."
    else:
        return []
    return [Error(f"INSTALLED_APPS {fault}", hint=hint, id="uvicorn.E001")]


def check_application(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """Return the errors and warnings about UVICORN_APPLICATION or ASGI_APPLICATION."""
    name = getattr(settings, "UVICORN_APPLICATION", None) or getattr(settings, "ASGI_APPLICATION", None)
    if not name:
        return []
    try:
        app = import_string(name.replace(":", "."))
    except ImportError as error:
        return [Error(f"{name} cannot be imported: {error}", id="uvicorn.E004")]
    try:
        leaves = leaves_of(app, Settings())
    except InterfaceError:
        return []
    found = list(_script_name(leaves))
    # Entries share the interface of their application.
    asynchronous = {leaf.interface: leaf for leaf in leaves if leaf.interface.name in ("asgi3", "channels")}
    for leaf in asynchronous.values():
        found += [*_atomic_requests(leaf), *_no_threads(leaf), *_middleware(leaf)]
    return [*found, *_connections(asynchronous.values()), *(_asgiref() if asynchronous else ())]


def _script_name(leaves: list[Leaf]) -> Iterator[CheckMessage]:
    if settings.FORCE_SCRIPT_NAME is None:
        return
    mounted = [(leaf.entry, layers(leaf.app)) for leaf in leaves if leaf.entry is not None and leaf.entry.moves_root]
    of_django = (entry for entry, parts in mounted if any(isinstance(part, BaseHandler) for part in parts))
    for entry in dict.fromkeys(of_django):
        yield Error(
            f"FORCE_SCRIPT_NAME = {settings.FORCE_SCRIPT_NAME!r} replaces the script name {entry.prefix!r} of"
            f" {entry!r} in all URLs.",
            hint="Remove FORCE_SCRIPT_NAME, or write a Route instead of the Mount.",
            id="uvicorn.E003",
        )


def _threads(leaf: Leaf) -> DjangoThreads | None:
    return next((wrapper for wrapper in reversed(leaf.wrappers) if isinstance(wrapper, DjangoThreads)), None)


def _atomic_requests(leaf: Leaf) -> Iterator[CheckMessage]:
    aliases = {alias for alias, database in settings.DATABASES.items() if database.get("ATOMIC_REQUESTS")}
    if aliases and isinstance(leaf.app, ASGIHandler):
        for name, view in _async_views(get_resolver()):
            if missing := aliases - getattr(view, "_non_atomic_requests", set()):
                yield Error(
                    f"{name} is a coroutine function. Django refuses to call it because ATOMIC_REQUESTS is set for"
                    f" {', '.join(sorted(missing))}.",
                    hint="Decorate the view with @transaction.non_atomic_requests.",
                    id="uvicorn.E002",
                )


def _async_views(resolver: URLResolver) -> Iterator[tuple[str, Any]]:
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            yield from _async_views(entry)
        elif isinstance(entry, URLPattern) and iscoroutinefunction(entry.callback):
            yield entry.lookup_str, entry.callback


def _no_threads(leaf: Leaf) -> Iterator[CheckMessage]:
    kept = [alias for alias, database in settings.DATABASES.items() if database.get("CONN_MAX_AGE", 0) != 0]
    if kept and _threads(leaf) is None:
        yield Warning(
            f"{_name(leaf.app)} runs coroutines outside of DjangoThreads, and CONN_MAX_AGE of {', '.join(kept)} is"
            " not 0. So broken connections are not replaced, and leaked connections are not closed.",
            hint="Wrap the application: DjangoThreads(app). Silence this check if the application uses no database.",
            id="uvicorn.W001",
        )


def _connections(leaves: Iterable[Leaf]) -> Iterator[CheckMessage]:
    own = sum(threads.threads for threads in set(map(_threads, leaves)) if threads is not None)
    if not own:
        return
    processes = _number("WEB_CONCURRENCY", 1)
    pool = _number("UVICORN_THREADS", Settings().threads)
    threads = pool + 2 * own
    total = 0
    for database in settings.DATABASES.values():
        limits = database.get("OPTIONS", {}).get("pool")
        if limits:
            sizes = limits if isinstance(limits, dict) else {}
            total += processes * min(threads, sizes.get("max_size") or sizes.get("min_size", 4))
        elif "sqlite" not in database.get("ENGINE", ""):
            total += processes * threads
    if total > MAX_CONNECTIONS:
        yield Warning(
            f"Up to {total} database connections: {processes} processes x ({pool} threads of WSGI + 2 x"
            f" {own} of DjangoThreads) x {len(settings.DATABASES)} databases. PostgreSQL accepts {MAX_CONNECTIONS} by"
            " default.",
            hint="Lower these numbers, raise max_connections of PostgreSQL, or use OPTIONS['pool']. Silence this check"
            " if your database accepts more.",
            id="uvicorn.W002",
        )


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default


def _asgiref() -> Iterator[CheckMessage]:
    first, second = asgiref.__version__.split(".")[:2]
    if (int(first), int(second)) < (3, 9):
        fault = f"asgiref {asgiref.__version__} shares a request's language and URL prefix with concurrent requests."
        yield Warning(fault, hint="Install asgiref 3.9 or later.", id="uvicorn.W005")


def _middleware(leaf: Leaf) -> Iterator[CheckMessage]:
    if isinstance(leaf.app, ASGIHandler):
        sync_only = [name for name in settings.MIDDLEWARE if not getattr(import_string(name), "async_capable", False)]
        if sync_only:
            fault = f"{', '.join(sync_only)}: this middleware is synchronous, so each asynchronous view holds a thread."
            hint = "Use middleware with async_capable = True, or raise DjangoThreads(threads=...)."
            yield Warning(fault, hint=hint, id="uvicorn.W003")
    # `request_of` does the work of some default middleware, and the others concern pages.
    elif skipped := [name for name in settings.MIDDLEWARE if name not in DEFAULT_MIDDLEWARE]:
        protected = getattr(leaf.app, "requires_login", False)
        protect = "" if protected else ", or protect it (uvicorn.django.login_required)"
        yield Warning(
            f"{', '.join(skipped)}: this middleware does not run for {_name(leaf.app)}, which is outside of Django.",
            hint=f"Make the application an asynchronous view of Django{protect}."
            " Silence this check if the application needs none of this middleware.",
            id="uvicorn.W004",
        )


def _name(app: Any) -> str:
    module = getattr(app, "__module__", type(app).__module__)
    return f"{module}.{getattr(app, '__qualname__', type(app).__qualname__)}"
