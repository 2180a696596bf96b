"""The applications of the gunicorn tests: one of each kind, and some that wait until a test releases them."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

begun = threading.Barrier(2)


def backlogs() -> list[int]:
    """Return the number of connections that the kernel queues for each listening TCP socket of this process."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        if not os.path.realpath(f"/proc/self/fd/{name}").rpartition("/")[2].startswith("socket:"):
            continue
        with socket.socket(fileno=os.dup(int(name))) as sock:
            if sock.family == socket.AF_INET and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
                # tcpi_sacked, which for a listening socket is that (tcp(7)).
                found.append(struct.unpack_from("I", info, 28)[0])
    return found


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def about(message: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "scheme": message["scheme"],
            "client": message["client"],
            "path": message["path"],
            "root_path": message["root_path"],
            "backlogs": backlogs(),
            "folder": os.getcwd(),
            "user": os.getuid(),
            "group": os.getgid(),
            "loop": type(asyncio.get_running_loop()).__module__,
            "variable": os.environ.get("SAID", ""),
        }
    ).encode()


async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
    """`/hold` begins a response, and ends it after the request's content. `/block` blocks the event loop."""
    reply = channels["reply"]
    if message["channel"] == "websocket.receive":
        await reply.send({"text": message["text"]})
    elif message["channel"] == "http.request":
        path = message["path"].removeprefix("/mounted")
        if path == "/hold":
            await reply.send({"status": 200, "content": b"%d " % os.getpid(), "more_content": True})
            while (await channels["body"].receive())["more_content"]:
                pass
            await reply.send({"content": b"done"})
        elif path == "/pid":
            await reply.send({"status": 200, "headers": [[b"x-pid", b"%d" % os.getpid()]]})
        elif path == "/block":
            await reply.send({"status": 200, "content": b"blocked", "more_content": True})
            await asyncio.sleep(0)
            time.sleep(1000)  # noqa: ASYNC251
        elif path == "/wait":
            await reply.send({"status": 200, "content": b"waiting", "more_content": True})
            try:
                await asyncio.Event().wait()
            finally:
                say("the handler was ended")
        else:
            await reply.send({"status": 200, "content": about(message)})


def consumer(message: dict[str, Any]) -> None:
    """Answers when two of them have begun, which takes two threads."""
    begun.wait()
    message["reply_channel"].send({"status": 200, "content": b"consumer"})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"wsgi"]


async def asgi3(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """`/file` responds with this file. `/trailers` responds with a trailer field."""
    if scope["type"] == "http":
        trailers = scope["path"] == "/trailers"
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": trailers})
        if scope["path"] == "/file":
            await send({"type": "http.response.pathsend", "path": __file__})
        else:
            await send({"type": "http.response.body", "body": b"asgi3"})
        if trailers:
            await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"5")]})


async def lifespan(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """Takes part in lifespan, and prints each event."""
    if scope["type"] == "lifespan":
        say("lifespan began")
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await asgi3(scope, receive, send)


def make() -> Callable[..., Any]:
    return wsgi


def neither(settings: Any, database: Any, cache: Any) -> None: ...


class FailingStartup:
    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None: ...

    async def startup(self) -> None:
        raise RuntimeError("the database is down")


failing = FailingStartup()
