"""The asyncio server: sockets, event loops, timeouts and processes."""

from __future__ import annotations

import importlib
import logging
import signal
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from uvicorn.server.context import ServerState
    from uvicorn.server.server import Server

__all__ = ["HANDLED_SIGNALS", "STARTUP_FAILURE", "Server", "ServerState", "logger"]

HANDLED_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
#: The exit code when the application's own startup has failed.
STARTUP_FAILURE: Final = 3
#: The exit code after requests were aborted.
BROKEN_OFF: Final = 1

logger = logging.getLogger("uvicorn.error")

# Imported on first use: a supervisor imports from this folder, and serves nothing itself.
_HOMES: Final = {"Server": "uvicorn.server.server", "ServerState": "uvicorn.server.context"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'uvicorn.server' has no attribute {name!r}")
