"""Which calls of asgiref leave nothing on their thread that another call of the request could come back to.

Django makes some for each request: its signals, and the hooks of its own middleware. Were they to take a thread for the
request, an asynchronous view that never uses the database would hold one. What they do is seen from the function that
asgiref is given; a call in which it is not found is not one of these.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from django.http.response import HttpResponseBase

_HOOKS: Final = frozenset(
    ("process_exception", "process_request", "process_response", "process_template_response", "process_view")
)


def leaves_nothing(function: Callable[[], Any]) -> bool:
    """Return whether `function`, as asgiref submits it, is a hook of Django's own middleware, the end of a response, or
    a signal with no other receivers than Django's."""
    inner = _inner(function)
    if inner is None:
        return False
    called = inner.func
    owner = getattr(called, "__self__", None)
    if owner is not None:
        is_hook = called.__name__ in _HOOKS or (called.__name__ == "close" and isinstance(owner, HttpResponseBase))
        return is_hook and _is_djangos(type(owner))
    code, cells = getattr(called, "__code__", None), getattr(called, "__closure__", None)
    if called.__module__ != "django.dispatch.dispatcher" or code is None or cells is None:
        return False
    # `Signal.asend` has its receivers in the closure of the function that calls them.
    receivers = dict(zip(code.co_freevars, cells, strict=True)).get("sync_receivers")
    return receivers is not None and all(map(_is_djangos, receivers.cell_contents))


def arguments_of(function: Callable[[], Any]) -> tuple[Any, ...]:
    """Return the arguments of the call that `function`, as asgiref submits it, makes in the end; () if unsure."""
    inner = _inner(function)
    return () if inner is None else inner.args


def _inner(function: Callable[[], Any]) -> partial[Any] | None:
    """Return the call that asgiref was asked to make: the last argument of the partial that it submits."""
    inner = function.args[-1] if isinstance(function, partial) and function.args else None
    return inner if isinstance(inner, partial) else None


def _is_djangos(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "").startswith("django.")
