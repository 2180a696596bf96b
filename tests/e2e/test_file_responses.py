"""Starlette's FileResponse behind middleware that rewrites bodies, with and without --pathsend."""

from __future__ import annotations

import gzip
import http.client
from pathlib import Path

import pytest

from tests.e2e.server_process import LONGEST_WAIT, running_server

APP = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse
from starlette.routing import Route
from uvicorn import ASGI3Adapter

async def file(request):
    return FileResponse("page.html", media_type="text/html")

class Marking:
    # As middleware that puts a script into pages: it knows bodies, and no files.
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def marked(event):
            if event["type"] == "http.response.start":
                event["headers"] = [field for field in event["headers"] if field[0] != b"content-length"]
            elif event["type"] == "http.response.body":
                event = {**event, "body": event["body"].replace(b"plain", b"marked")}
            else:
                raise RuntimeError(f"unknown event {event['type']}")
            await send(event)
        await self.app(scope, receive, marked if scope["type"] == "http" else send)

marking = Starlette(routes=[Route("/", file)], middleware=[Middleware(Marking)])
zipping = Starlette(routes=[Route("/", file)], middleware=[Middleware(GZipMiddleware)])
bare = Starlette(routes=[Route("/", file)])
adapted = ASGI3Adapter(zipping)
"""
PAGE = b"<p>plain</p>" * 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "page.html").write_bytes(PAGE)
    return tmp_path


def page(port: int, coding: str = "identity") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_WAIT)
    try:
        connection.request("GET", "/", headers={"accept-encoding": coding})
        response = connection.getresponse()
        content = response.read()
        return response.status, gzip.decompress(content) if response.headers["content-encoding"] == "gzip" else content
    finally:
        connection.close()


def test_response_middleware_changes_the_content_of_a_file_response(folder: Path) -> None:
    with running_server(folder, "app:marking") as server:
        assert page(server.port) == (200, PAGE.replace(b"plain", b"marked"))


@pytest.mark.parametrize("app", ["zipping", "adapted"])
def test_compressing_middleware_compresses_the_complete_file(app: str, folder: Path) -> None:
    with running_server(folder, f"app:{app}") as server:
        assert page(server.port, "gzip") == (200, PAGE)


def test_pathsend_response_contains_the_complete_file(folder: Path) -> None:
    with running_server(folder, "app:bare", "--pathsend") as server:
        assert page(server.port) == (200, PAGE)
