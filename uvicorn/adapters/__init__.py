"""Applications of one kind as applications of another.

    ASGIAdapter(wsgi_app)     a WSGI application as a channels application
    WSGIAdapter(async_app)    a channels application as a WSGI callable

Each is one gateway joined to one interface; nothing is translated pair by pair.
"""

from __future__ import annotations

from uvicorn.adapters.asgi import ASGIAdapter
from uvicorn.adapters.wsgi import WSGIAdapter

__all__ = ["ASGIAdapter", "WSGIAdapter"]
