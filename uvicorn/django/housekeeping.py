"""Recognises calls that use no database and need no thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from django.conf import settings
from django.core.signals import request_finished
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls.converters import get_converters

_HOOKS: Final = frozenset(
    ("process_exception", "process_request", "process_response", "process_template_response", "process_view")
)

_SESSIONS: Final = "django.contrib.sessions.middleware.SessionMiddleware"
_MESSAGES: Final = "django.contrib.messages.middleware.MessageMiddleware"
_CSRF: Final = "django.middleware.csrf.CsrfViewMiddleware"
_COMMON: Final = "django.middleware.common.CommonMiddleware"
_LOCALE: Final = "django.middleware.locale.LocaleMiddleware"

#: Middleware of `startproject`.
DEFAULT_MIDDLEWARE: Final = (
    "django.middleware.security.SecurityMiddleware",
    _SESSIONS,
    _COMMON,
    _CSRF,
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    _MESSAGES,
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)

#: Middleware that uses no database, except in the cases that `_is_quiet` finds. LoginRequiredMiddleware is not listed:
#: it calls the site's authentication backend.
_MIDDLEWARE: Final = (
    *DEFAULT_MIDDLEWARE,
    _LOCALE,
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
)


def leaves_nothing(function: Callable[[], Any]) -> bool:
    """Return whether `function` surely leaves no state on its thread."""
    inner = _inner(function)
    if inner is None:
        return False
    called = inner.func
    owner = getattr(called, "__self__", None)
    if isinstance(owner, HttpResponseBase):
        return called.__name__ == "close" and _closes_quietly(owner)
    if owner is not None:
        return called.__name__ in _HOOKS and _is_quiet(type(owner), called.__name__, inner.args)
    code, cells = getattr(called, "__code__", None), getattr(called, "__closure__", None)
    if called.__module__ != "django.dispatch.dispatcher" or code is None or cells is None:
        return False
    # `Signal.asend` has its receivers in the closure of the function that calls them.
    receivers = dict(zip(code.co_freevars, cells, strict=True)).get("sync_receivers")
    return receivers is not None and _are_djangos(receivers.cell_contents)


def arguments_of(function: Callable[[], Any]) -> tuple[Any, ...]:
    """Return the arguments inside asgiref's wrapper, or () without a wrapper."""
    inner = _inner(function)
    return () if inner is None else inner.args


def _inner(function: Callable[[], Any]) -> partial[Any] | None:
    # asgiref submits a partial whose last argument is the partial that it was asked to call.
    inner = function.args[-1] if isinstance(function, partial) and function.args else None
    return inner if isinstance(inner, partial) else None


def _closes_quietly(response: HttpResponseBase) -> bool:
    for closer in response._resource_closers:
        request = getattr(closer, "__self__", None)
        if not isinstance(request, HttpRequest) or not _is_djangos(request) or getattr(request, "_files", None):
            return False
    return _is_djangos(response) and all(map(_are_djangos, request_finished._live_receivers(response._handler_class)))


def _is_quiet(middleware: type, hook: str, arguments: tuple[Any, ...]) -> bool:
    name = f"{middleware.__module__}.{middleware.__qualname__}"
    is_response = hook == "process_response"
    if name not in _MIDDLEWARE or len(arguments) <= is_response or (is_response and not _is_djangos(arguments[1])):
        return False
    request = arguments[0]
    if name == _CSRF:
        # The middleware calls the failure view and the upload handlers of the settings.
        named = (settings.CSRF_FAILURE_VIEW, *settings.FILE_UPLOAD_HANDLERS)
        return not settings.CSRF_USE_SESSIONS and all(map(_is_name_of_django, named))
    if name == _SESSIONS:
        session: Any = getattr(request, "session", None) if is_response else None
        saves = getattr(session, "modified", True) or (settings.SESSION_SAVE_EVERY_REQUEST and session.session_key)
        return _is_name_of_django(settings.SESSION_ENGINE) and (session is None or not saves)
    if name == _MESSAGES:
        messages = getattr(request, "_messages", None) if is_response else None
        stores = getattr(messages, "used", True) or getattr(messages, "added_new", True)
        return _is_name_of_django(settings.MESSAGE_STORAGE) and (messages is None or not stores)
    # To find out whether another path exists, Django calls the path converters.
    if name == _COMMON and settings.APPEND_SLASH and not request.path_info.endswith("/"):
        return _are_djangos(get_converters().values())
    if name == _LOCALE and is_response and arguments[1].status_code == 404:
        return _are_djangos(get_converters().values())
    return True


def _are_djangos(things: Any) -> bool:
    return all(map(_is_djangos, things))


def _is_djangos(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "").startswith("django.")


def _is_name_of_django(name: str) -> bool:
    return name.startswith("django.")
