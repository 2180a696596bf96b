"""Hello world through our adapters: the WSGI application for async servers, and the async one for WSGI servers."""

from typing import Any

import hello_wsgi

from uvicorn import ASGIAdapter, Route, Router, WSGIAdapter


async def hello(message: Any, channels: Any) -> None:
    response = {"status": 200, "headers": [[b"content-type", b"text/plain"]], "content": b"Hello, world"}
    await channels["reply"].send(response)


adapter = ASGIAdapter(hello_wsgi.app, threads=8)
wsgi_app = WSGIAdapter(hello)


routed = Router(*(Route(f"/async/{number}/*", hello) for number in range(16)), default=hello_wsgi.app)


async def mixed(message: Any, channels: Any) -> None:
    """An application that passes requests for some paths to a WSGI application."""
    if message["path"].startswith("/async"):
        await hello(message, channels)
    else:
        await adapter(message, channels)
