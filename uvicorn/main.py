"""`uvicorn.run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uvicorn.config import Config
from uvicorn.server.server import Server


def run(app: Callable[..., Any] | str, **options: Any) -> None:
    """Serve `app`, an application or 'module:attribute', until SIGINT or SIGTERM.

    The keywords are those of `Config`, such as `host='127.0.0.1', port=8000`. Raises ConfigError for what cannot be
    used, StartupError if the application's own startup fails.
    """
    config = Config(app, **options)
    config.configure_logging()
    Server(config).run()
