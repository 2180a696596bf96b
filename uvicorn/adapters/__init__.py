"""Adapters that make an application of one kind usable as another.

ASGIAdapter(wsgi_app)     a WSGI application as a channels application
WSGIAdapter(async_app)    an asynchronous application as a WSGI callable
ASGI3Adapter(app)         a channels, consumer or WSGI application as an ASGI application, version 3
"""

from __future__ import annotations

from uvicorn.adapters.asgi import ASGIAdapter
from uvicorn.adapters.asgi3 import ASGI3Adapter
from uvicorn.adapters.wsgi import WSGIAdapter

__all__ = ["ASGI3Adapter", "ASGIAdapter", "WSGIAdapter"]
