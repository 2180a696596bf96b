"""`module:attribute` to the object it names, with errors that say what was looked for and what is there."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
from types import ModuleType
from typing import Any

from uvicorn.errors import ImportFromStringError

# What `uvicorn module` alone means, in this order; the first is gunicorn's rule, the second what people write.
DEFAULT_ATTRIBUTES = ("application", "app")


def import_from_string(source: str) -> Any:
    """The object that `module:attribute` names; `module` alone means its `application` or `app`.

    Raises ImportFromStringError. If the module was found but failed to import, its exception is the `__cause__`.
    """
    module_name, _, attribute = source.partition(":")
    if module_name.endswith(".py"):
        name = module_name.removesuffix(".py").lstrip("./").replace("/", ".")
        raise ImportFromStringError(
            f"cannot import {source!r}: that is a file, expected 'module:attribute'; did you mean {name!r}?"
        )
    if not module_name or any(not part.isidentifier() for part in module_name.split(".")):
        raise ImportFromStringError(f"cannot import {source!r}: expected 'module:attribute', such as 'app:hello_world'")
    module = _import_module(module_name, source)
    if not attribute:
        for default in DEFAULT_ATTRIBUTES:
            if hasattr(module, default):
                return getattr(module, default)
        raise _no_attribute(source, module_name, module, " or ".join(map(repr, DEFAULT_ATTRIBUTES)))
    found: Any = module
    for name in attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise _no_attribute(source, module_name, found, repr(name)) from None
    return found


def _import_module(name: str, source: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A parent package counts as the module itself; anything else is missing inside of it.
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
    first_line = str(error).partition("\n")[0]
    return ImportFromStringError(
        f"cannot import {source!r}: module {name!r} fails with {type(error).__name__}: {first_line}"
    )


def _no_module(source: str, name: str) -> ImportFromStringError:
    folder = sys.path[0] or os.getcwd()
    parent, _, last = name.rpartition(".")
    if parent:
        where = f"package {parent!r}"
        spec = importlib.util.find_spec(parent)
        folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    else:
        where = folder
        folders = [folder]
    there = sorted({module for path in folders for module in _modules_in(path)})
    return ImportFromStringError(f"cannot import {source!r}: no module {last!r} in {where}; {_hint(last, there)}")


def _no_attribute(source: str, module_name: str, found: Any, wanted: str) -> ImportFromStringError:
    there = [
        name for name, value in getattr(found, "__dict__", {}).items() if _could_be_meant(name, value, module_name)
    ]
    what = f"module {module_name!r}" if isinstance(found, ModuleType) else type(found).__name__
    example = f"; name one, as in '{module_name}:{there[0]}'" if there and ":" not in source else ""
    return ImportFromStringError(
        f"cannot import {source!r}: {what} has no {wanted}; {_hint(wanted.strip(chr(39)), there)}{example}"
    )


def _could_be_meant(name: str, value: Any, module_name: str) -> bool:
    """Whether `value` is something callable that the module has made, rather than imported."""
    if not callable(value) or name.startswith("_"):
        return False
    is_definition = inspect.isroutine(value) or inspect.isclass(value)
    return not is_definition or value.__module__ == module_name


def _hint(wanted: str, there: list[str]) -> str:
    close = difflib.get_close_matches(wanted, there, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    if not there:
        return "it has nothing that could be an application; pass --app-dir if it is elsewhere"
    return f"it has {', '.join(there[:10])}" + (", ..." if len(there) > 10 else "")


def _modules_in(folder: str) -> list[str]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    return [
        entry.name.removesuffix(".py")
        for entry in entries
        if entry.name.removesuffix(".py").isidentifier()
        and entry.name != "__init__.py"
        and (entry.name.endswith(".py") or os.path.exists(os.path.join(entry.path, "__init__.py")))
    ]
