"""`uvicorn.run`, and names that programs import from `uvicorn.main`."""

from __future__ import annotations

import importlib
import inspect
import sys
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Unpack

import click

from uvicorn.cli import errors_reported, main
from uvicorn.config import (
    INTERFACES,
    LIFESPAN,
    LOG_LEVELS,
    LOGGING_CONFIG,
    SSL_PROTOCOL_VERSION,
    STARTUP_FAILURE,
    Config,
    logger,
)
from uvicorn.keywords import RunOptions
from uvicorn.server.process_end import ProcessEnd
from uvicorn.serving import serve

if TYPE_CHECKING:
    from uvicorn.server.server import Server
    from uvicorn.supervisors import ChangeReload, Multiprocess

__all__ = [
    "INTERFACES", "INTERFACE_CHOICES", "LEVEL_CHOICES", "LIFESPAN", "LIFESPAN_CHOICES", "LOGGING_CONFIG", "LOG_LEVELS",
    "SSL_PROTOCOL_VERSION", "STARTUP_FAILURE", "ChangeReload", "Config", "Multiprocess", "Server", "logger", "main",
    "run",
]  # fmt: skip

LEVEL_CHOICES: Final = click.Choice(list(LOG_LEVELS))
LIFESPAN_CHOICES: Final = click.Choice(list(LIFESPAN))
INTERFACE_CHOICES: Final = click.Choice(INTERFACES)


def run(app: Callable[..., Any] | str, **options: Unpack[RunOptions]) -> None:
    """Serve `app` until SIGINT or SIGTERM.

    `app` is an application or 'module:attribute'. `Config` has the same keywords. Raises ConfigError and StartupError.
    In the main thread, both become SystemExit. Raises SystemExit if the supervisor gives up.
    """
    if threading.current_thread() is not threading.main_thread():
        _run(app, options)
        return
    with errors_reported():
        _run(app, options)


# That of `Config`, for programs that look there for the keywords that they may pass on.
run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [
        one if one.name == "app" else one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for one in inspect.signature(Config).parameters.values()
    ]
)


def _run(app: Callable[..., Any] | str, options: RunOptions) -> None:
    config = Config(app, **options)
    context = click.get_current_context(silent=True)
    # `run` returns to a program that calls it; the command ends its process.
    is_command = context is not None and context.command is main
    status = serve(config, context.find_object(ProcessEnd) if context is not None and is_command else None)
    if status and (is_command or config.workers > 1 or config.reload):
        sys.exit(status)


def __getattr__(name: str) -> Any:
    # Imported on first use: a supervisor does not need a server, nor a single process a supervisor.
    if name == "Server":
        return importlib.import_module("uvicorn.server.server").Server
    if name in ("ChangeReload", "Multiprocess"):
        return getattr(importlib.import_module("uvicorn.supervisors"), name)
    if name == "ServerState":
        message = "uvicorn.main.ServerState is deprecated, use uvicorn.server.ServerState instead."
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return importlib.import_module("uvicorn.server").ServerState
    raise AttributeError(f"module 'uvicorn.main' has no attribute {name!r}")
