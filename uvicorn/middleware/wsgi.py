"""Makes a WSGI application usable as an ASGI 3 application."""

from __future__ import annotations

import io
from typing import Any

from uvicorn._types import Environ, Scope, WSGIApp
from uvicorn.adapters import ASGI3Adapter
from uvicorn.adapters.asgi import exchange_from_message
from uvicorn.core.exchange import HTTPGateway
from uvicorn.interfaces.environ import build_environ as environ_of
from uvicorn.interfaces.wsgi import ErrorLog
from uvicorn.protocols.placeholder import Placeholder

__all__ = ["WSGIMiddleware", "WSGIResponder", "build_environ"]


class WSGIMiddleware(ASGI3Adapter):
    """An ASGI 3 application that runs the WSGI application `app` on `workers` threads."""

    def __init__(self, app: WSGIApp, workers: int = 10) -> None:
        super().__init__(app, interface="wsgi", threads=workers)


#: The name of the class itself in the public release.
_WSGIMiddleware = WSGIMiddleware


class WSGIResponder(Placeholder):
    """A placeholder for imports and annotations."""


def build_environ(scope: Scope, message: Any, body: io.BytesIO) -> Environ:
    """Return the environ (PEP 3333) of an HTTP request. `message` is ignored."""
    environ = environ_of(exchange_from_message(scope, HTTPGateway(), has_content=True))
    environ.update({"wsgi.input": body, "wsgi.errors": ErrorLog(), "wsgi.multithread": True})
    return environ
