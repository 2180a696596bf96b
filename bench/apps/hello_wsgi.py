"""Hello world as a WSGI application."""

from collections.abc import Iterable
from typing import Any


def app(environ: Any, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "12")])
    return [b"Hello, world"]
