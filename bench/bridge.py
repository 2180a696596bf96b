"""What one call of `WSGIAdapter` costs in process: environ in, content out, no host and no socket.

Beside it a plain WSGI application that answers the same, called by the same loop: what is left of a host's rate is
decided by the difference. From one host's thread, and from eight. The process is kept on one CPU, where servers are
measured too. README.md says how to read the output.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The checkout that this file is part of, whatever else is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from uvicorn import WSGIAdapter

_CALLS = 25
_THREADS = 8
_HEADERS = [[b"content-type", b"text/plain"], [b"content-length", b"12"]]

# As gunicorn makes it for wrk's request.
_ENVIRON = {
    "wsgi.errors": sys.stderr,
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
    "wsgi.file_wrapper": list,
    "wsgi.input_terminated": True,
    "wsgi.url_scheme": "http",
    "SERVER_SOFTWARE": "gunicorn/27.0.0",
    "gunicorn.socket": None,
    "REQUEST_METHOD": "GET",
    "QUERY_STRING": "",
    "RAW_URI": "/",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "127.0.0.1:8000",
    "HTTP_CONNECTION": "keep-alive",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": "51234",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "PATH_INFO": "/",
    "SCRIPT_NAME": "",
}
_CONTENT = b"x" * 1024
_POST = _ENVIRON | {"REQUEST_METHOD": "POST", "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": str(len(_CONTENT))}


def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Respond with 12 bytes."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "12")])
    return [b"Hello, world"]


async def hello(message: Any, channels: Any) -> None:
    """Respond with 12 bytes."""
    await channels["reply"].send({"status": 200, "headers": _HEADERS, "content": b"Hello, world"})


async def echo(message: Any, channels: Any) -> None:
    """Respond with a short text after receiving the whole request content."""
    while (await channels["body"].receive())["more_content"]:
        pass
    await channels["reply"].send({"status": 200, "headers": _HEADERS, "content": b"Hello, world"})


async def stream(message: Any, channels: Any) -> None:
    """Respond with three pieces."""
    send = channels["reply"].send
    await send({"status": 200, "headers": _HEADERS, "content": b"Hello", "more_content": True})
    await send({"content": b", ", "more_content": True})
    await send({"content": b"world"})


ROWS = (
    ("plain WSGI", plain, _ENVIRON),
    ("WSGIAdapter(hello)", WSGIAdapter(hello), _ENVIRON),
    ("POST of 1 KiB", WSGIAdapter(echo), _POST),
    ("streamed in 3 pieces", WSGIAdapter(stream), _ENVIRON),
)


def call(app: Callable[..., Any], environ: dict[str, Any]) -> bytes:
    """Make one request as a host does."""
    own = environ.copy()
    own["wsgi.input"] = io.BytesIO(_CONTENT)
    iterable = app(own, lambda status, headers, exc_info=None: None)
    try:
        return b"".join(iterable)
    finally:
        if hasattr(iterable, "close"):
            iterable.close()


def microseconds(app: Callable[..., Any], environ: dict[str, Any], threads: int, seconds: float) -> float:
    """Return the time of one call, in the fastest of as many rounds as fit into `seconds`."""
    best = float("inf")
    barrier = threading.Barrier(threads + 1)
    over = False

    def host() -> None:
        while True:
            barrier.wait()
            if over:
                return
            for _ in range(_CALLS):
                call(app, environ)
            barrier.wait()

    hosts = [threading.Thread(target=host) for _ in range(threads)]
    for one in hosts:
        one.start()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        barrier.wait()
        barrier.wait()
        best = min(best, time.perf_counter() - started)
    over = True
    barrier.wait()
    for one in hosts:
        one.join()
    return best / (_CALLS * threads) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure (1)")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"Python {sys.version.split()[0]}; us for one call\n")
    print(f"{'':<22} {'1 thread':>9} {f'{_THREADS} threads':>10}")
    for name, app, environ in ROWS:
        if call(app, environ) != b"Hello, world":
            raise RuntimeError(f"{name}: wrong answer")
        one, many = (microseconds(app, environ, threads, options.seconds) for threads in (1, _THREADS))
        print(f"{name:<22} {one:9.2f} {many:10.2f}", flush=True)


if __name__ == "__main__":
    main()
