"""Recognises calls that neither use the database nor call code of the site.

Django sends its signals and runs hooks of its own middleware for each request. If they took a thread for the request,
an asynchronous view that never uses the database would hold one. A call is recognised by the function that is passed
to asgiref; an unknown function counts as one that uses the database.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.core.signals import request_finished
from django.http.response import HttpResponseBase

_HOOKS: Final = frozenset(
    ("process_exception", "process_request", "process_response", "process_template_response", "process_view")
)

_SESSIONS: Final = "django.contrib.sessions.middleware.SessionMiddleware"
_MESSAGES: Final = "django.contrib.messages.middleware.MessageMiddleware"
_CSRF: Final = "django.middleware.csrf.CsrfViewMiddleware"

#: Middleware that uses no database, except in the cases that `_is_quiet` finds. LoginRequiredMiddleware is not listed:
#: it calls the site's authentication backend.
_MIDDLEWARE: Final = frozenset(
    (
        _SESSIONS,
        _MESSAGES,
        _CSRF,
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csp.ContentSecurityPolicyMiddleware",
        "django.middleware.gzip.GZipMiddleware",
        "django.middleware.http.ConditionalGetMiddleware",
        "django.middleware.locale.LocaleMiddleware",
        "django.middleware.security.SecurityMiddleware",
    )
)


def leaves_nothing(function: Callable[[], Any]) -> bool:
    """Return whether the call that asgiref submits as `function` leaves no state on its thread.

    Such a call is a hook of Django's own middleware that uses no database, or a signal or `response.close()` whose
    receivers are all part of Django.
    """
    inner = _inner(function)
    if inner is None:
        return False
    called = inner.func
    owner = getattr(called, "__self__", None)
    if isinstance(owner, HttpResponseBase):
        receivers = request_finished._live_receivers(owner._handler_class)
        return called.__name__ == "close" and _is_djangos(type(owner)) and all(map(_are_djangos, receivers))
    if owner is not None:
        return called.__name__ in _HOOKS and _is_quiet(type(owner), called.__name__, inner.args)
    code, cells = getattr(called, "__code__", None), getattr(called, "__closure__", None)
    if called.__module__ != "django.dispatch.dispatcher" or code is None or cells is None:
        return False
    # `Signal.asend` has its receivers in the closure of the function that calls them.
    receivers = dict(zip(code.co_freevars, cells, strict=True)).get("sync_receivers")
    return receivers is not None and _are_djangos(receivers.cell_contents)


def arguments_of(function: Callable[[], Any]) -> tuple[Any, ...]:
    """Return the arguments of the call that asgiref submits as `function`; () if asgiref has not made `function`."""
    inner = _inner(function)
    return () if inner is None else inner.args


def _inner(function: Callable[[], Any]) -> partial[Any] | None:
    # asgiref submits a partial whose last argument is the partial that it was asked to call.
    inner = function.args[-1] if isinstance(function, partial) and function.args else None
    return inner if isinstance(inner, partial) else None


def _is_quiet(middleware: type, hook: str, arguments: tuple[Any, ...]) -> bool:
    """Return whether the hook uses no database and calls no code of the site."""
    name = f"{middleware.__module__}.{middleware.__qualname__}"
    if name == _CSRF:
        # The middleware calls the failure view and the upload handlers of the settings.
        named = (settings.CSRF_FAILURE_VIEW, *settings.FILE_UPLOAD_HANDLERS)
        return not settings.CSRF_USE_SESSIONS and all(each.startswith("django.") for each in named)
    if hook == "process_response" and name == _SESSIONS:
        session = getattr(arguments[0], "session", None)
        every = settings.SESSION_SAVE_EVERY_REQUEST
        return session is None or not (getattr(session, "modified", True) or (every and session.session_key))
    if hook == "process_response" and name == _MESSAGES:
        messages = getattr(arguments[0], "_messages", None)
        return messages is None or not (getattr(messages, "used", True) or getattr(messages, "added_new", True))
    return name in _MIDDLEWARE


def _are_djangos(things: Any) -> bool:
    return all(map(_is_djangos, things))


def _is_djangos(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "").startswith("django.")
