"""An asyncio server, and a bridge between the synchronous and the asynchronous web."""

from __future__ import annotations

__version__ = "1.0.0a1"

from uvicorn.adapters import ASGIAdapter, WSGIAdapter
from uvicorn.config import Config
from uvicorn.main import run
from uvicorn.server import Server

__all__ = ["ASGIAdapter", "Config", "Server", "WSGIAdapter", "__version__", "run"]
