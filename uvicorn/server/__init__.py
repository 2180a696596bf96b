"""Sockets, time and processes: everything between the kernel and the waist."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.server.server import Server

__all__ = ["Server"]


def __getattr__(name: str) -> Any:
    # Not before somebody asks for it: a supervisor imports from this folder, and serves nothing itself.
    if name == "Server":
        return importlib.import_module("uvicorn.server.server").Server
    raise AttributeError(f"module 'uvicorn.server' has no attribute {name!r}")
