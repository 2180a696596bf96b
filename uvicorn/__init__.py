"""An asyncio server, and a bridge between synchronous and asynchronous web applications."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

__version__ = "0.54.0+bridge.1"

if sys.version_info < (3, 11):  # noqa: UP036 (from a checkout, without pip)
    raise ImportError(f"uvicorn {__version__} needs Python 3.11 or newer, this is {sys.version.split()[0]}")

if TYPE_CHECKING:
    from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter
    from uvicorn.config import Config
    from uvicorn.main import main, run
    from uvicorn.routing import Mount, Route, Router, Shift, client, cookie, header, metrics, report
    from uvicorn.server.server import Server

__all__ = [
    "ASGI3Adapter", "ASGIAdapter", "Config", "Mount", "Route", "Router", "Server", "Shift", "WSGIAdapter",
    "__version__", "client", "cookie", "header", "main", "metrics", "report", "run",
]  # fmt: skip

# Imported on first use: a supervisor does not need them and saves 10 MiB.
_HOMES: Final = {
    **dict.fromkeys(("ASGI3Adapter", "ASGIAdapter", "WSGIAdapter"), "uvicorn.adapters"),
    **dict.fromkeys(
        ("Mount", "Route", "Router", "Shift", "client", "cookie", "header", "metrics", "report"), "uvicorn.routing"
    ),
    **dict.fromkeys(("main", "run"), "uvicorn.main"),
    "Config": "uvicorn.config",
    "Server": "uvicorn.server.server",
}
_MODULES: Final = (
    "adapters broadcast config errors importer lifespan logging loops middleware protocols routing server "
    "supervisors types utils workers"
).split()


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
        return value
    if name in _MODULES:
        return importlib.import_module(f"uvicorn.{name}")
    raise AttributeError(f"module 'uvicorn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # The import of the module `uvicorn.main` would set the attribute `main` to it, and programs expect the command.
        if name == "main" and isinstance(value, ModuleType):
            value = value.main
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
