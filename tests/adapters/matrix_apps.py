"""The same small application for each kind of interface.

`/get`, `/upload` (how much, and its checksum), `/streamed` (in pieces), `/endless` (reports its end), `/error`,
`/midway` (fails in the middle), `/state` (whether startup has been), and a websocket that echoes where there is one.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Final

from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter

PIECES: Final = (b"one, ", b"two, ", b"three")
STARTED: Final = "startup has been"

Message = dict[str, Any]
Respond = Callable[[int, bytes, bool], Awaitable[Any]]

_state = "not started"


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


async def startup() -> None:
    """The startup of the kinds that have one."""
    global _state
    _state = STARTED


async def shutdown() -> None:
    """The shutdown of the kinds that have one."""
    say("shutdown has been")


def digest(content: bytes) -> bytes:
    """Return the size and the checksum of content."""
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}".encode()


async def answer(path: str, read: Callable[[], Awaitable[bytes]], send: Callable[..., Awaitable[Any]]) -> None:
    """The common part of the asynchronous kinds; `send(content, more, status)`."""
    if path == "/get":
        await send(b"got", False, 200)
    elif path == "/upload":
        await send(digest(await read()), False, 200)
    elif path == "/streamed":
        for piece in PIECES:
            await send(piece, True, 200)
            await asyncio.sleep(0)
        await send(b"", False, 200)
    elif path == "/endless":
        try:
            while True:
                await send(b"still here\n" * 100, True, 200)
                await asyncio.sleep(0.01)
        finally:
            say("the endless response has ended")
    elif path == "/midway":
        await send(b"half" * 1000, True, 200)
        raise ValueError("midway")
    elif path == "/state":
        await send(_state.encode(), False, 200)
    else:
        raise ValueError("an error")


def replying(reply: Any) -> Callable[..., Awaitable[Any]]:
    """Return the `send` of `answer` for a reply channel."""
    begun = False

    async def send(content: bytes, more: bool, status: int) -> None:
        nonlocal begun
        message: Message = {"content": content, "more_content": more}
        if not begun:
            begun = True
            message |= {"status": status, "headers": [[b"content-type", b"text/plain"]]}
        await reply.send(message)

    return send


async def channels_app(message: Message, channels: Message) -> None:
    """The channels application."""
    reply = channels["reply"]

    async def read() -> bytes:
        content = bytes(message.get("body", b""))
        while "body" in channels:
            chunk = await channels["body"].receive()
            content += chunk["content"]
            if not chunk["more_content"]:
                break
        return content

    if message["channel"] == "websocket.connect":
        await reply.send({"accept": True})
    elif message["channel"] == "websocket.receive":
        await reply.send({"text": message["text"], "bytes": message["bytes"]})
    elif message["channel"] == "websocket.disconnect":
        say(f"the websocket has ended with {message['code']}")
    else:
        await answer(message["path"], read, replying(reply))


async def consumer_app(message: Message) -> None:
    """The consumer."""

    async def read() -> bytes:
        return bytes(message["body"])

    await answer(message["path"], read, replying(message["reply_channel"]))


async def asgi3_app(scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        await receive()
        await startup()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await shutdown()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event.get("text"), "bytes": event.get("bytes")})
        say(f"the websocket has ended with {event['code']}")
    else:
        begun = False

        async def read() -> bytes:
            content, more = b"", True
            while more:
                event = await receive()
                content += event["body"]
                more = event["more_body"]
            return content

        async def sending(content: bytes, more: bool, status: int) -> None:
            nonlocal begun
            if not begun:
                begun = True
                headers = [(b"content-type", b"text/plain")]
                await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": content, "more_body": more})

        await answer(scope["path"], read, sending)


class Endless:
    """A WSGI response that reports `close`."""

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield b"still here\n" * 100
            time.sleep(0.01)

    def close(self) -> None:
        say("the endless response has ended")


def midway() -> Iterator[bytes]:
    yield b"half" * 1000
    raise ValueError("midway")


def wsgi_app(environ: Message, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    responses: dict[str, Callable[[], Iterable[bytes]]] = {
        "/get": lambda: [b"got"],
        "/upload": lambda: [digest(environ["wsgi.input"].read())],
        "/streamed": lambda: iter(PIECES),
        "/endless": Endless,
        "/midway": midway,
    }
    response = responses[environ["PATH_INFO"]]()
    start_response("200 OK", [("content-type", "text/plain")])
    return response


app: Any
for app in (channels_app, consumer_app):
    app.startup, app.shutdown = startup, shutdown

# As each host takes them: `<kind>_on_<host>`.

channels_on_server = channels_app
consumer_on_server = consumer_app
wsgi_on_server = wsgi_app
asgi3_on_server = asgi3_app

channels_on_wsgi = WSGIAdapter(channels_app)
consumer_on_wsgi = WSGIAdapter(consumer_app)
wsgi_on_wsgi = wsgi_app
asgi3_on_wsgi = WSGIAdapter(asgi3_app)

channels_on_asgi3 = ASGI3Adapter(channels_app, timeout_half_closed=0.1)
consumer_on_asgi3 = ASGI3Adapter(consumer_app, timeout_half_closed=0.1)
wsgi_on_asgi3 = ASGI3Adapter(wsgi_app, timeout_half_closed=0.1)
asgi3_on_asgi3 = asgi3_app


def below_channels(app: Any) -> Any:
    """Return a channels application that passes everything to the channels application `app`."""

    async def middleware(message: Message, channels: Message) -> None:
        await app(message, channels)

    middleware.startup, middleware.shutdown = app.startup, app.shutdown  # type: ignore[attr-defined]
    return middleware


channels_on_channels = below_channels(channels_app)
consumer_on_channels = below_channels(ASGIAdapter(consumer_app, interface="consumer"))
wsgi_on_channels = below_channels(ASGIAdapter(wsgi_app))
asgi3_on_channels = below_channels(ASGIAdapter(asgi3_app, interface="asgi3"))
