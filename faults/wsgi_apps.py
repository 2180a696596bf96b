"""The WSGI applications and adapters that are served during faults. Copied beside `app.py`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import app

from uvicorn import ASGIAdapter, Route, Router, WSGIAdapter
from uvicorn.concurrency.worker_pool import WorkerPool

Environ = dict[str, Any]


class Endless:
    """Endless pieces, `pause` seconds apart; it reports `close`."""

    def __init__(self, piece: bytes, pause: float = 0) -> None:
        self._piece = piece
        self._pause = pause

    def __iter__(self) -> Iterator[bytes]:
        try:
            while True:
                yield self._piece
                time.sleep(self._pause)
        finally:
            print("stopped", time.monotonic(), flush=True)

    def close(self) -> None:
        print("closed", time.monotonic(), flush=True)


class EndlessIterator(Endless):
    """Endless pieces from an iterator that, unlike a generator, Python does not close when it is dropped."""

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        time.sleep(self._pause)
        return self._piece


def _pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // len(app.CHUNK)):
        yield app.CHUNK


def serve(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    headers = [("content-type", "text/plain")]
    content: Iterable[bytes] = [b"Hello, world"]
    if path == "/length":
        received, read = 0, environ["wsgi.input"].read
        while piece := read(65536):
            received += len(piece)
        content = [str(received).encode()]
    elif path == "/download":
        size = int(environ["QUERY_STRING"])
        start_response("200 OK", [*headers, ("content-length", str(size))])
        return _pieces(size)
    elif path == "/endless":
        content = Endless(app.CHUNK)
    elif path == "/endless-drops":
        content = EndlessIterator(b"x" * 100, 0.05)
    if isinstance(content, list):
        headers.append(("content-length", str(len(content[0]))))
    start_response("200 OK", headers)
    return content


async def download(message: app.Message, channels: app.Message) -> None:
    size = int(message["query_string"])
    reply = channels["reply"]
    await reply.send(
        {"status": 200, "headers": [[b"content-length", b"%d" % size]], "content": b"", "more_content": True}
    )
    for piece in _pieces(size):
        await reply.send({"content": piece, "more_content": True})
    await reply.send({"content": b"", "more_content": False})


async def endless_drops(message: app.Message, channels: app.Message) -> None:
    try:
        await app.stream(channels["reply"], -1, b"x" * 100, pause=0.05)
    finally:
        print("ended", time.monotonic(), flush=True)


async def serve_async(message: app.Message, channels: app.Message) -> None:
    handlers = {**app.HANDLERS, "/download": download, "/endless-drops": endless_drops}
    await handlers[message["path"]](message, channels)


# For WSGI hosts.
bridged = WSGIAdapter(serve_async)

_adapter = ASGIAdapter(serve)


async def routed(message: app.Message, channels: app.Message) -> None:
    """An adapter that is called with messages; itself it would be served directly."""
    await _adapter(message, channels)


pools = Router(Route("/health", serve, threads=2), default=serve)

_pool = WorkerPool(threads=40, queue=160)
_release = threading.Event()
_blocked = 0
_counting = threading.Lock()


def websocket(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Echo the messages of a WebSocket. Respond to other requests like `serve`."""
    if "uvicorn.websocket" not in environ:
        return serve(environ, start_response)
    websocket = environ["uvicorn.websocket"]
    for message in websocket:
        websocket.send(message)
    return []


def block(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    global _blocked
    with _counting:
        _blocked += 1
    _release.wait()
    start_response("200 OK", [("content-length", "8")])
    return [b"released"]


_blocking = ASGIAdapter(block, executor=_pool)


async def mixed(message: app.Message, channels: app.Message) -> None:
    """An async application that passes one path to a WSGI application."""
    path = message["path"]
    if path == "/block":
        await _blocking(message, channels)
    elif path == "/state":
        await channels["reply"].send({"status": 200, "content": b"%d %d" % (_blocked, _pool.waiting)})
    elif path == "/release":
        _release.set()
        await channels["reply"].send({"status": 200, "content": b""})
    else:
        await app.serve(message, channels)


def early(environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
    """Respond without reading the content."""
    start_response("401 Unauthorized", [("Content-Type", "text/plain")])
    return [b"who are you"]


def read(environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
    """Read all content, then respond."""
    content = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(str(len(content)))))])
    return [str(len(content)).encode()]
