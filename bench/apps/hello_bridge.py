"""Hello world across our bridges: the WSGI application for async servers, and the async one for WSGI servers."""

from typing import Any

import hello_wsgi

from uvicorn import ASGIAdapter, WSGIAdapter


async def hello(message: Any, channels: Any) -> None:
    response = {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"Hello, world"}
    await channels["reply"].send(response)


adapter = ASGIAdapter(hello_wsgi.app, threads=8)
wsgi_app = WSGIAdapter(hello)


async def routed(message: Any, channels: Any) -> None:
    """As where one application among others is an adapter: it is called with messages, not served directly."""
    await adapter(message, channels)
