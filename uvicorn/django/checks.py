"""System checks of `manage.py check`, for the application that UVICORN_APPLICATION or ASGI_APPLICATION names.

They look at settings, at the URL configuration and at how the application is put together; not at its source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from inspect import getattr_static
from typing import Any, Final, NamedTuple

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.handlers.asgi import ASGIHandler
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils.module_loading import import_string

from uvicorn.django.threads import DjangoThreads
from uvicorn.errors import InterfaceError
from uvicorn.interfaces.detect import detect_interface
from uvicorn.settings import Settings

#: What PostgreSQL takes unless it was told otherwise, without those that it keeps for administrators.
MAX_CONNECTIONS: Final = 97

_LOGIN_REQUIRED: Final = "django.contrib.auth.middleware.LoginRequiredMiddleware"

#: Those of `startproject`: `request_of` stands in for some, and others are for pages.
_DEFAULTS: Final = frozenset(
    (
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    )
)


class Leaf(NamedTuple):
    """An async application at the end of a chain of middleware, and the `DjangoThreads` that wraps it, if any."""

    app: Any
    threads: DjangoThreads | None

    @property
    def is_django(self) -> bool:
        return isinstance(self.app, ASGIHandler)


def check_application(app_configs: Any = None, **options: Any) -> list[CheckMessage]:
    """Return what is wrong with the application that the settings name; nothing if they name none."""
    name = getattr(settings, "UVICORN_APPLICATION", None) or getattr(settings, "ASGI_APPLICATION", None)
    if not name:
        return []
    try:
        app = import_string(name.replace(":", "."))
    except ImportError as error:
        return [Error(f"{name} cannot be imported: {error}", id="uvicorn.E004")]
    found = list(leaves(app))
    return [*_atomic_requests(found), *_no_threads(found), *_connections(found), *_middleware(found)]


def leaves(app: Any, threads: DjangoThreads | None = None) -> Iterator[Leaf]:
    """The applications of coroutines that `app` consists of."""
    threads = app if isinstance(app, DjangoThreads) else threads
    inner = getattr_static(app, "__wrapped__", None)
    if inner is not None and not iscoroutinefunction(app):
        yield from leaves(app.__wrapped__, threads)
        return
    try:
        interface = detect_interface(app)
    except InterfaceError:
        return
    if interface in ("asgi3", "channels"):
        yield Leaf(app, threads)


def _atomic_requests(found: Sequence[Leaf]) -> Iterator[CheckMessage]:
    aliases = {alias for alias, database in settings.DATABASES.items() if database.get("ATOMIC_REQUESTS")}
    if aliases and any(leaf.is_django for leaf in found):
        for name, view in _async_views(get_resolver()):
            if missing := aliases - getattr(view, "_non_atomic_requests", set()):
                yield Error(
                    f"{name} is a coroutine function, which Django refuses to call with ATOMIC_REQUESTS of"
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


def _no_threads(found: Sequence[Leaf]) -> Iterator[CheckMessage]:
    kept = [alias for alias, database in settings.DATABASES.items() if database.get("CONN_MAX_AGE", 0) != 0]
    for leaf in found:
        if kept and leaf.threads is None:
            yield Warning(
                f"{_name(leaf.app)} runs coroutines outside of DjangoThreads, and CONN_MAX_AGE of {', '.join(kept)} is"
                " not 0: connections that break or leak are not looked after.",
                hint="Wrap it: DjangoThreads(app). Silence this if it uses no database.",
                id="uvicorn.W001",
            )


def _connections(found: Sequence[Leaf]) -> Iterator[CheckMessage]:
    own = {id(leaf.threads): leaf.threads.threads for leaf in found if leaf.threads is not None}
    if not own:
        return
    processes = _number("WEB_CONCURRENCY", 1)
    pool = _number("UVICORN_THREADS", Settings().threads)
    threads = pool + 2 * sum(own.values())
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
            f" {sum(own.values())} of DjangoThreads) x {len(settings.DATABASES)} databases. PostgreSQL takes"
            f" {MAX_CONNECTIONS} by default.",
            hint="Lower them, raise max_connections, or use OPTIONS['pool']. Silence this if the server takes more.",
            id="uvicorn.W002",
        )


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default


def _middleware(found: Sequence[Leaf]) -> Iterator[CheckMessage]:
    if any(leaf.is_django for leaf in found):
        sync_only = [name for name in settings.MIDDLEWARE if not getattr(import_string(name), "async_capable", False)]
        if sync_only:
            yield Warning(
                f"{', '.join(sync_only)}: this middleware is synchronous only, so each request holds a thread for as"
                " long as its asynchronous view runs.",
                hint="Use one with async_capable = True, or raise DjangoThreads(threads=...).",
                id="uvicorn.W003",
            )
    skipped = [name for name in settings.MIDDLEWARE if name not in _DEFAULTS or name == _LOGIN_REQUIRED]
    bare = [_name(leaf.app) for leaf in found if not leaf.is_django]
    if skipped and bare:
        yield Warning(
            f"{', '.join(skipped)}: this middleware does not run for {', '.join(bare)}, which is outside of Django.",
            hint="Make it an asynchronous view, or see that it needs no protection (login_required of uvicorn.django).",
            id="uvicorn.W004",
        )


def _name(app: Any) -> str:
    module = getattr(app, "__module__", type(app).__module__)
    return f"{module}.{getattr(app, '__qualname__', type(app).__qualname__)}"
