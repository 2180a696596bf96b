"""Imports the object named by `module:attribute`."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any, Final

from uvicorn.errors import ImportFromStringError, InterfaceError
from uvicorn.escape import summary

logger = logging.getLogger("uvicorn.error")

# Defaults for `uvicorn module`, in this order; the first is gunicorn's, the second is common in practice.
DEFAULT_ATTRIBUTES = ("application", "app")

# Most objects searched for a wrapped application: bounds the search; a middleware stack has fewer.
_MOST_SEARCHED: Final = 200


def import_from_string(source: Any) -> Any:
    """Return the object named by `source`. Raises ImportFromStringError, or the module's own exception."""
    try:
        return import_application(source)
    except ImportFromStringError as error:
        if error.__cause__ is not None:
            raise error.__cause__ from None
        raise


def import_application(source: Any) -> Any:
    """Return the object named by `module:attribute`. Without `:attribute`, return `application` or `app`.

    Raises ImportFromStringError.
    """
    if not isinstance(source, str):
        return source
    module_name, colon, attribute = source.partition(":")
    if module_name.endswith(".py") or os.sep in module_name:
        name = module_name.removesuffix(".py").lstrip("./").replace(os.sep, ".")
        what = "file" if module_name.endswith(".py") else "path"
        raise ImportFromStringError(
            f"cannot import {source!r}: expected 'module:attribute', got a {what}; "
            f"did you mean {name + colon + attribute!r}?"
        )
    if not module_name or any(not part.isidentifier() for part in module_name.split(".")):
        raise ImportFromStringError(f"cannot import {source!r}: expected 'module:attribute', such as 'app:hello_world'")
    module = _import_module(module_name, source)
    if not attribute:
        named = {default: getattr(module, default) for default in DEFAULT_ATTRIBUTES if hasattr(module, default)}
        if len(named) == 2:
            return _choose(source, module_name, *named.values())
        if named:
            return named.popitem()[1]
        raise _no_attribute(source, module_name, module, " or ".join(map(repr, DEFAULT_ATTRIBUTES)))
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise _no_attribute(source, module_name, found, repr(name)) from None
    return found


def _choose(source: str, module_name: str, application: Any, app: Any) -> Any:
    if application is app:
        return application
    sides = (application, app, "application", "app"), (app, application, "app", "application")
    for outer, inner, name, other in sides:
        if (table := _table_in(outer)) and _wraps(outer, inner):
            logger.info(
                "%r has 'application' and 'app': serving %r, because this %s holds %r", module_name, name, table, other
            )
            return outer
    for outer, inner, name, other in sides:
        if _adapts(outer, inner):
            logger.info(
                "%r has 'application' and 'app': serving %r, because %r is an adapter around %r",
                module_name,
                other,
                name,
                other,
            )
            return inner
    kinds = _kind_of(application), _kind_of(app)
    if None not in kinds and kinds[0] != kinds[1] and not (_wraps(application, app) or _wraps(app, application)):
        raise ImportFromStringError(
            f"cannot import {source!r}: module {module_name!r} has 'application' ({kinds[0]}) and 'app' ({kinds[1]}), "
            f"which are different applications; choose '{module_name}:application' or '{module_name}:app'"
        )
    logger.info(
        "%r has 'application' and 'app': serving 'application'; to serve 'app', write '%s:app'",
        module_name,
        module_name,
    )
    return application


def _kind_of(app: Any) -> str | None:
    from uvicorn.interfaces.detect import detect_interface

    if table := _table_in(app):
        return table.lower()
    try:
        return detect_interface(app)
    except InterfaceError:
        return None


def _table_in(app: Any) -> str:
    # If the module uses one, it has been imported.
    routing = sys.modules.get("uvicorn.routing")
    if routing is None:
        return ""
    while app is not None and not isinstance(app, (routing.Router, routing.Shift)):
        app = inspect.getattr_static(app, "__wrapped__", None)
    return "" if app is None else type(app).__name__


def _adapts(outer: Any, inner: Any) -> bool:
    # If the module uses adapters, they have been imported.
    adapters = sys.modules.get("uvicorn.adapters")
    if adapters is None:
        return False
    app = outer
    while isinstance(app, (adapters.ASGI3Adapter, adapters.ASGIAdapter, adapters.WSGIAdapter)):
        app = app.app
        if app is inner:
            return True
    return False


def _wraps(outer: Any, inner: Any) -> bool:
    found, seen = [outer], {id(outer)}
    # The loop also visits the parts that it appends.
    for app in islice(found, _MOST_SEARCHED):
        for part in _parts_of(app):
            if part is inner:
                return True
            if callable(part) and not inspect.isclass(part) and id(part) not in seen:
                seen.add(id(part))
                found.append(part)
    return False


def _parts_of(app: Any) -> Iterator[Any]:
    if isinstance(app, functools.partial):
        yield from (app.func, *app.args, *app.keywords.values())
    if inspect.ismethod(app):
        yield from (app.__self__, app.__func__)
    if isinstance(app, FunctionType):
        for cell in app.__closure__ or ():
            # ValueError: the variable has not been assigned yet.
            with suppress(ValueError):
                yield cell.cell_contents
        yield from (app.__globals__[name] for name in app.__code__.co_names if name in app.__globals__)
    yield from getattr(app, "applications", ()) if _table_in(app) else ()
    yield from getattr(app, "__dict__", {}).values()


def _import_module(name: str, source: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The module itself or its parent package is missing; any other name is missing inside the module.
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise _no_module(source, error.name) from None
        if error.name is not None:
            raise ImportFromStringError(
                f"cannot import {source!r}: module {name!r} needs {error.name!r}, which is not installed"
            ) from error
        raise _failed(source, name, error) from error
    except Exception as error:
        raise _failed(source, name, error) from error


def _failed(source: str, name: str, error: Exception) -> ImportFromStringError:
    return ImportFromStringError(f"cannot import {source!r}: module {name!r} fails with {summary(error)}")


def _no_module(source: str, name: str) -> ImportFromStringError:
    import pkgutil  # Late: only mistakes need it.

    folder = sys.path[0] or os.getcwd()
    parent, _, last = name.rpartition(".")
    if parent:
        where = f"package {parent!r}"
        spec = importlib.util.find_spec(parent)
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    else:
        where = folder
        folders = [folder]
    there = sorted(module.name for module in pkgutil.iter_modules(folders) if module.name.isidentifier())
    return ImportFromStringError(f"cannot import {source!r}: no module {last!r} in {where}; {_hint(last, there)}")


def _no_attribute(source: str, module_name: str, found: Any, wanted: str) -> ImportFromStringError:
    there = [name for name, value in getattr(found, "__dict__", {}).items() if _is_likely(name, value, module_name)]
    what = f"module {module_name!r}" if isinstance(found, ModuleType) else type(found).__name__
    example = f"; choose one, as in '{module_name}:{there[0]}'" if there and ":" not in source else ""
    return ImportFromStringError(
        f"cannot import {source!r}: {what} has no {wanted}; {_hint(wanted.strip(chr(39)), there)}{example}"
    )


def _is_likely(name: str, value: Any, module_name: str) -> bool:
    if not callable(value) or name.startswith("_"):
        return False
    is_definition = inspect.isroutine(value) or inspect.isclass(value)
    return not is_definition or value.__module__ == module_name


def _hint(wanted: str, there: list[str]) -> str:
    import difflib  # Late: only mistakes need it.

    close = difflib.get_close_matches(wanted, there, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if not there:
        return "found no application there; to import from another folder, pass --app-dir"
    return f"it has {', '.join(there[:10])}" + (", ..." if len(there) > 10 else "")
