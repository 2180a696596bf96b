"""Applications for real WSGI hosts. The first segment of the path selects the behaviour."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any
from wsgiref.util import shift_path_info
from wsgiref.validate import validator

from tests.frameworks import environ_of
from tests.helpers import read_body
from uvicorn.adapters import ASGIAdapter, WSGIAdapter

Message = dict[str, Any]
Channels = dict[str, Any]

TEXT = [[b"content-type", b"text/plain"]]

_gate: dict[str, asyncio.Event] = {}


def _say(text: str) -> None:
    """Print a line on stderr, which the test reads; some hosts use stdout themselves."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


async def _echo(message: Message, channels: Channels) -> None:
    body = await read_body(message, channels)
    head = b"%s %s %s " % (message["method"].encode(), message["raw_path"], message["query_string"])
    await channels["reply"].send({"status": 201, "headers": [*TEXT, [b"x-app", b"yes"]], "content": head + body})


async def _fields(message: Message, channels: Channels) -> None:
    shown = [[name, value] for name, value in message["headers"] if name.startswith((b"x-", b"cookie"))]
    headers = [*TEXT, [b"set-cookie", b"a=1"], [b"x-two", b"1"], [b"set-cookie", b"b=2; path=/"], [b"x-two", b"2"]]
    await channels["reply"].send({"status": 200, "headers": headers, "content": repr(sorted(shown)).encode()})


async def _stream(message: Message, channels: Channels) -> None:
    reply = channels["reply"]
    await reply.send({"status": 200, "headers": TEXT, "more_content": True})
    for number in range(5):
        await asyncio.sleep(0)
        await reply.send({"content": b"%d" % number * 20000, "more_content": True})
    await reply.send({})


async def _declared(message: Message, channels: Channels) -> None:
    headers = [*TEXT, [b"content-length", b"100000"]]
    await channels["reply"].send({"status": 200, "headers": headers, "content": b"x" * 50000, "more_content": True})
    await channels["reply"].send({"content": b"x" * 50000})


async def _broken(message: Message, channels: Channels) -> None:
    """Fail midway in a response with a content-length."""
    headers = [*TEXT, [b"content-length", b"10"]]
    await channels["reply"].send({"status": 200, "headers": headers, "content": b"half", "more_content": True})
    raise ValueError("boom")


async def _broken_stream(message: Message, channels: Channels) -> None:
    """Fail midway in a response of unknown length."""
    await channels["reply"].send({"status": 200, "headers": TEXT, "content": b"x" * 50000, "more_content": True})
    raise ValueError("boom")


async def _endless(message: Message, channels: Channels) -> None:
    """Stream until a send raises, and report the exception."""
    name = message["query_string"].decode()
    try:
        await channels["reply"].send({"status": 200, "headers": TEXT, "more_content": True})
        while True:
            await channels["reply"].send({"content": b"x" * 1000, "more_content": True})
    except BaseException as error:
        _say(f"{name} was told: {type(error).__name__}")
        raise
    finally:
        _say(f"{name} ended")


async def _wait(message: Message, channels: Channels) -> None:
    """Print a line, then respond when another request has opened the gate."""
    name = message["query_string"].decode()
    gate = _gate.setdefault(name, asyncio.Event())
    _say(f"{name} waits")
    await gate.wait()
    await channels["reply"].send({"status": 200, "headers": TEXT, "content": b"waited"})


async def _open(message: Message, channels: Channels) -> None:
    _gate.setdefault(message["query_string"].decode(), asyncio.Event()).set()
    await channels["reply"].send({"status": 200, "headers": TEXT, "content": b"open"})


async def _upload(message: Message, channels: Channels) -> None:
    """Respond with the result of the upload, which is its size or the exception."""
    name = message["query_string"].decode()
    try:
        body = await read_body(message, channels)
    except Exception as error:
        _say(f"{name} broke: {type(error).__name__}")
        raise
    _say(f"{name} is whole: {len(body)}")
    await channels["reply"].send({"status": 200, "headers": TEXT})


async def _pid(message: Message, channels: Channels) -> None:
    await channels["reply"].send({"status": 200, "headers": TEXT, "content": str(os.getpid()).encode()})


def _raising(error: type[BaseException], when: str) -> Callable[[Message, Channels], Awaitable[None]]:
    async def app(message: Message, channels: Channels) -> None:
        if when == "midway":
            await channels["reply"].send({"status": 200, "headers": TEXT, "content": b"half", "more_content": True})
        if when == "after":
            await channels["reply"].send({"status": 200, "headers": TEXT, "content": b"whole"})
        raise error

    return app


def _status(status: int) -> Callable[[Message, Channels], Awaitable[None]]:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": status, "headers": [[b"etag", b'"e"']]})

    return app


ERRORS: dict[str, type[BaseException]] = {
    "ValueError": ValueError,
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
}

APPS: dict[str, Callable[[Message, Channels], Awaitable[None]]] = {
    "fields": _fields,
    "stream": _stream,
    "declared": _declared,
    "broken": _broken,
    "broken-stream": _broken_stream,
    "endless": _endless,
    "wait": _wait,
    "open": _open,
    "upload": _upload,
    "pid": _pid,
    "204": _status(204),
    "304": _status(304),
    **{
        f"{name}-{when}": _raising(error, when)
        for name, error in ERRORS.items()
        for when in ("before", "midway", "after")
    },
}


async def app(message: Message, channels: Channels) -> None:
    """A channels application."""
    below = message["path"][len(message["root_path"]) :]
    await APPS.get(below.split("/")[1], _echo)(message, channels)


def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application that satisfies wsgiref's validator."""
    name = environ["PATH_INFO"].split("/")[1]
    if name == "stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (b"%d" % number * 20000 for number in range(5))
    if name == "empty":
        start_response("204 No Content", [])
        return []
    if name == "echo":
        length = int(environ.get("CONTENT_LENGTH") or 0)
        content = environ["wsgi.input"].read(length)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [content]
    if name == "write":
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written ")
        return [b"returned"]
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Two", "1"), ("X-Two", "2")])
    return [environ_of(environ).encode()]


class Pieces:
    """An iterable that fails or never ends, and that reports its `close`."""

    def __init__(self, environ: dict[str, Any], error: type[BaseException] | None, when: str) -> None:
        self._name = environ["QUERY_STRING"]
        self._error = error
        self._when = when

    def __iter__(self) -> Iterator[bytes]:
        yield b"half"
        if self._error is not None:
            if self._when == "midway":
                raise self._error
            return
        while True:
            yield b"x" * 1000

    def close(self) -> None:
        _say(f"{self._name} ended")
        if self._error is not None and self._when == "after":
            raise self._error


def rude(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """A WSGI application that raises, or streams until it is closed, as the path asks."""
    kind, _, when = environ["PATH_INFO"].strip("/").partition("-")
    error = ERRORS.get(kind)
    if error is not None and when == "before":
        raise error
    start_response("200 OK", [("Content-Type", "text/plain")])
    if error is None and kind != "endless":
        return [str(os.getpid()).encode()]
    return Pieces(environ, error, when)


class BelowChannels:
    """A WSGI application behind `ASGIAdapter` in a channels application."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._adapter = ASGIAdapter(app)

    async def __call__(self, message: Message, channels: Channels) -> None:
        await self._adapter(message, channels)

    async def shutdown(self) -> None:
        """Report the shutdown, once per process."""
        await self._adapter.shutdown()


rude_below_channels = BelowChannels(rude)

adapted = WSGIAdapter(app)

if "USED_BEFORE" in os.environ:
    # By the process that imports this, which may be about to fork.
    list(adapted({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda status, headers: None))


class Lifecycle:
    """Reports startup and shutdown. Its unfinished task must not delay the end of the process."""

    async def startup(self) -> None:
        self._task = asyncio.get_running_loop().create_task(asyncio.Event().wait())
        _say("started up")

    async def __call__(self, message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 200, "headers": TEXT, "content": b"served"})

    async def shutdown(self) -> None:
        _say("shut down")


lifecycle = WSGIAdapter(Lifecycle())

_MOUNTED: dict[str, Callable[..., Iterable[bytes]]] = {
    "validated": validator(adapted),
    "double": WSGIAdapter(ASGIAdapter(validator(plain))),
    "plain": validator(plain),
}


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The application behind one adapter. For some paths it is behind the validator, or behind two adapters."""
    mounted = _MOUNTED.get(environ["PATH_INFO"].split("/")[1])
    if mounted is None:
        return adapted(environ, start_response)
    shift_path_info(environ)
    return mounted(environ, start_response)
