"""Chooses and builds the interface of an application."""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, Final

from uvicorn.errors import InterfaceError
from uvicorn.interfaces.base import Interface
from uvicorn.settings import Settings

INTERFACE_NAMES: Final = ("channels", "consumer", "wsgi", "asgi3", "asgi2")

# Parameter names are checked before anything else: a decorator may hide that a function is a coroutine function.
_BY_PARAMETER_NAMES: Final[dict[tuple[str, ...], str]] = {
    ("message", "channels"): "channels",
    ("environ", "start_response"): "wsgi",
    ("scope", "receive", "send"): "asgi3",
    ("scope",): "asgi2",
    ("message",): "consumer",
}

#: Parameter names of an application, by its interface.
_CALLED_WITH: Final = {name: names for names, name in _BY_PARAMETER_NAMES.items()}

#: Module and class of each interface. Imported on first use: together they take 0.6 MiB.
_CLASSES: Final = {
    "channels": ("channels", "ChannelsInterface"),
    "consumer": ("consumer", "ConsumerInterface"),
    "threaded consumer": ("consumer_sync", "ThreadedConsumerInterface"),
    "wsgi": ("wsgi", "WSGIInterface"),
    "asgi3": ("asgi3", "ASGI3Interface"),
    "asgi2": ("asgi3", "ASGI2Interface"),
}


def build_interface(
    app: Any, settings: Settings, source: str = "the application", keyword: str = "--interface"
) -> Interface:
    """Build the interface that `settings.interface` names. Raises InterfaceError."""
    # Errors name the application `source`, and the interface option `keyword`.
    factory = _declared(app)
    if settings.interface == "auto" and callable(factory):
        made: Interface = factory(settings)
        return made
    name = settings.interface if settings.interface != "auto" else detect_interface(app, source, keyword)
    if name not in INTERFACE_NAMES:
        where = "interface" if name == settings.interface else f"interface of {source}"
        raise InterfaceError(f"{where}: expected one of auto, {', '.join(INTERFACE_NAMES)}, got {name!r}")
    check_interface(app, name, source)
    if name == "consumer" and not _unwrap(app)[1]:
        name = "threaded consumer"
    module, class_name = _CLASSES[name]
    interface: type[Interface] = getattr(importlib.import_module(f"uvicorn.interfaces.{module}"), class_name)
    return interface(app, settings)


def check_interface(app: Any, name: str, source: str = "the application") -> None:
    """Raise InterfaceError if the interface `name` cannot call `app`."""
    if not callable(app):
        raise _not_callable(app, source)
    if reason := _why_no_kind(app):
        raise InterfaceError(f"{source} does not fit interface {name!r}: {reason}")
    if callable(_declared(app)) or name not in _CALLED_WITH:
        return
    function, _ = _unwrap(app)
    expected = _CALLED_WITH[name]
    try:
        # Of the outermost function: a decorator may take other arguments than the function inside.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*expected)
        fits = True
    except TypeError:
        fits = False
    names = _required_of(signature)
    # Two parameters must not have the names of another interface. (A consumer may name its only parameter scope.)
    fits = fits and (len(names) != 2 or _BY_PARAMETER_NAMES.get(names, name) == name)
    is_coroutine = inspect.iscoroutinefunction(function)
    must_be_plain = is_coroutine and name in ("wsgi", "asgi2")
    if fits and not must_be_plain:
        return
    kind = "a coroutine function" if is_coroutine else "a class" if inspect.isclass(function) else "a plain function"
    wanted = "a plain function that takes " if must_be_plain else ""
    try:
        other = detect_interface(app, source)
    except InterfaceError:
        other = name
    keywords = [
        f"*, {parameter.name}"
        for parameter in signature.parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    ][:1]
    hint = "" if other == name else f"; interface {other!r} would fit"
    raise InterfaceError(
        f"{source} does not fit interface {name!r}: it is {kind} that takes ({', '.join((*names, *keywords))}), "
        f"expected {wanted}({', '.join(expected)}){hint}"
    )


def detect_interface(app: Any, source: str = "the application", keyword: str = "--interface") -> str:
    """Return the name of the interface that fits `app`. Raises InterfaceError."""
    declared = _declared(app)
    if isinstance(declared, str):
        return declared
    if reason := _why_no_kind(app):
        raise InterfaceError(f"cannot choose an interface for {source}: {reason}")
    inner = _wrapped_in_object(app)
    if inner is not None:
        return detect_interface(inner, source, keyword)
    if not callable(app):
        raise _not_callable(app, source)
    function, is_coroutine = _unwrap(app)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise _undecided(source, keyword, "its signature cannot be read") from None
    names = _required_of(signature)
    by_names = _BY_PARAMETER_NAMES.get(names)
    if by_names is not None and not (by_names == "asgi2" and is_coroutine):
        return by_names
    if inspect.isclass(app):
        raise _undecided(source, keyword, f"it is a class that takes ({', '.join(names)})")
    if len(names) == 3 and names[:2] in _BY_PARAMETER_NAMES:
        # One parameter too many, which `check_interface` reports.
        return _BY_PARAMETER_NAMES[names[:2]]
    if len(names) == 3 and is_coroutine:
        return "asgi3"
    if len(names) == 2:
        return "channels" if is_coroutine else "wsgi"
    if len(names) == 1 and by_names is None:
        return "consumer"
    raise _undecided(source, keyword, f"it takes ({', '.join((*names, *_more_of(signature)))})")


def guessed_from(app: Any) -> tuple[str, ...]:
    """If the interface is only a guess, return the parameter names of `app`. Otherwise return ()."""
    if _declared(app) is not None:
        return ()
    try:
        names = _required_of(inspect.signature(_unwrap(app)[0]))
    except (TypeError, ValueError):
        return ()
    return () if names in _BY_PARAMETER_NAMES else names


def _declared(app: Any) -> Any:
    # An attribute that a middleware forwards would build an interface without the middleware.
    if inspect.getattr_static(app, "__uvicorn_interface__", None) is None:
        return None
    # The name of an interface, or a function that builds an interface.
    declared = app.__uvicorn_interface__
    if inspect.isclass(app) and not isinstance(declared, str):
        raise InterfaceError(f"{app.__name__} is a class; expected an object, such as {app.__name__}(...)")
    return declared


def _why_no_kind(app: Any) -> str:
    reason = inspect.getattr_static(app, "__uvicorn_no_kind__", "")
    return reason if isinstance(reason, str) else ""


def _wrapped_in_object(app: Any) -> Any:
    if inspect.isroutine(app) or inspect.isclass(app):
        return None
    return inspect.getattr_static(app, "__wrapped__", None)


def _undecided(source: str, keyword: str, seen: str) -> InterfaceError:
    names = f"{', '.join(INTERFACE_NAMES[:-1])} or {INTERFACE_NAMES[-1]}"
    is_command = keyword.startswith("--")
    remedy = f"pass {keyword} {names}" if is_command else f"name its kind by {keyword}: {names}"
    if seen.endswith("takes ()") or "takes (**" in seen:
        # A callable without required parameters may be a factory.
        factory = "pass --factory" if is_command else "call it"
        remedy = f"{factory} if it makes the application, or {remedy.removeprefix('pass ')}"
    return InterfaceError(f"cannot detect the interface of {source}: {seen}; {remedy}")


def _not_callable(app: Any, source: str) -> InterfaceError:
    return InterfaceError(f"{source} is not callable: expected an application, got {type(app).__name__} {app!r:.100}")


def _unwrap(app: Callable[..., Any]) -> tuple[Callable[..., Any], bool]:
    while (inner := _wrapped_in_object(app)) is not None:
        app = inner
    function: Any = app
    while isinstance(function, functools.partial):
        function = function.func
    if not inspect.isroutine(function) and not inspect.isclass(function):
        function = type(function).__call__.__get__(function)
    is_coroutine = inspect.iscoroutinefunction(inspect.unwrap(function))
    # A partial is returned itself, because its signature leaves out the bound parameters.
    return (app if isinstance(app, functools.partial) else function), is_coroutine


def _more_of(signature: inspect.Signature) -> tuple[str, ...]:
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return tuple(stars[each.kind] + each.name for each in signature.parameters.values() if each.kind in stars)


def _required_of(signature: inspect.Signature) -> tuple[str, ...]:
    return tuple(
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    )
