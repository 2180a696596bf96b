"""Types, methods, statuses and errors that an application sees do not depend on how packets were cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.corpus import POST, chunked, request
from tests.helpers import Conversation, read_body, until
from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter

CONTENT = b"one\ntwo\n"
REQUESTS = {
    "a length": request(POST, b"content-length: 8", content=CONTENT),
    "chunked": chunked(b"8\r\none\ntwo\n\r\n0\r\n\r\n"),
    "chunked and empty": chunked(b"0\r\n\r\n"),
    "too short": request(POST, b"content-length: 9", content=CONTENT),
    "malformed": chunked(b"8\r\none\ntwo\nX0\r\n\r\n"),
}

CUTS: dict[str, Callable[[bytes], list[bytes]]] = {
    "one packet": lambda stream: [stream],
    "head and content": lambda stream: list(stream.partition(b"\r\n\r\n")),
    "within the content": lambda stream: [stream[:-3], stream[-3:]],
    "every byte": lambda stream: [stream[at : at + 1] for at in range(len(stream))],
}

# What applications do with wsgi.input; those that cannot be done raise the same everywhere.
EXPRESSIONS = [
    "input.seekable()",
    "input.readable()",
    "input.writable()",
    "input.tell()",
    "input.seek(0)",
    "input.getvalue()",
    "input.getbuffer()",
    "input.fileno()",
    "input.truncate()",
    "input.write(b'')",
    "input.peek()",
    "input.raw",
    "input.closed",
    "input.isatty()",
    "input.name",
    "isinstance(input, io.BytesIO)",
    "input.read(0)",
    "input.readline()",
    "input.readline(2)",
    "input.read()",
    "input.read()",
    "input.readlines()",
    "list(input)",
]


def as_error(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


class Seen:
    """What an application has seen of one request."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.is_done = False

    def note(self, *what: Any) -> None:
        self.all.extend(what)

    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        import io

        source = environ["wsgi.input"]
        self.note(type(source), sorted(set(dir(source)) - set(dir(type(source))) - set(vars(source))))
        for expression in EXPRESSIONS:
            try:
                self.note((expression, eval(expression, {"input": source, "io": io})))
            except Exception as error:
                self.note((expression, as_error(error)))
        self.is_done = True
        start_response("200 OK", [])
        return [b"done"]

    async def channels(self, message: Any, channels: Any) -> None:
        self.note(sorted(message), sorted(channels), {name: type(channel) for name, channel in channels.items()})
        try:
            self.note(await read_body(message, channels))
        except Exception as error:
            self.note(as_error(error))
        self.is_done = True
        await channels["reply"].send({"status": 200, "content": b"done"})

    async def asgi3(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.note(sorted(scope), sorted(scope["extensions"] or ()))
        content, event = b"", {"more_body": True}
        while event.get("more_body"):
            event = await receive()
            content += event.get("body", b"")
        self.note(content, event["type"])
        self.is_done = True
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})

    def consumer(self, message: Any) -> None:
        self.note(sorted(message), sorted(message["content"]), message["body"], type(message["reply_channel"]))
        message["reply_channel"].send({"status": 200, "content": b"done"})

    async def async_consumer(self, message: Any) -> None:
        self.consumer(message)


def by_messages(app: Any) -> Any:
    adapter = ASGIAdapter(app)

    async def through_messages(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    through_messages.shutdown = adapter.shutdown  # type: ignore[attr-defined]
    return through_messages


WAYS: dict[str, Callable[[Seen], Any]] = {
    "wsgi": lambda seen: seen.wsgi,
    "ASGIAdapter(wsgi) by messages": lambda seen: by_messages(seen.wsgi),
    "ASGI3Adapter(wsgi)": lambda seen: ASGI3Adapter(seen.wsgi),
    "WSGIAdapter(ASGIAdapter(wsgi))": lambda seen: WSGIAdapter(ASGIAdapter(seen.wsgi)),
    "channels": lambda seen: seen.channels,
    "WSGIAdapter(channels)": lambda seen: WSGIAdapter(seen.channels),
    "ASGI3Adapter(channels)": lambda seen: ASGI3Adapter(seen.channels),
    "asgi3": lambda seen: seen.asgi3,
    "WSGIAdapter(asgi3)": lambda seen: WSGIAdapter(seen.asgi3),
    "consumer": lambda seen: seen.async_consumer,
    "consumer on threads": lambda seen: seen.consumer,
}


async def seen_of(way: str, kind: str, cut: str) -> tuple[list[Any], list[int]]:
    """What the application has seen, and the statuses that the client has."""
    seen = Seen()
    conversation = Conversation(WAYS[way](seen))
    for packet in CUTS[cut](REQUESTS[kind]):
        if packet and not conversation.transport.closing:
            conversation.send(packet)
            # The application may be called now.
            await until(lambda: not conversation.connection._advancing)
    if kind == "too short":
        # A consumer is called with whole content only; others might not be called after their client has left.
        await until(lambda: seen.all or "consumer" in way)
        conversation.send_eof()
        # Nor does a thread end because the response has.
        await until(lambda: seen.is_done or "consumer" in way)
    await until(lambda: conversation.transport.writes and not conversation.context.requests)
    await conversation.lose()
    await conversation.interface.shutdown(1)
    # A request that is refused is over, and how far the application has got with it by then depends on threads.
    return seen.all[:1] if kind == "malformed" else seen.all, conversation.statuses


@pytest.mark.parametrize("kind", REQUESTS)
@pytest.mark.parametrize("way", WAYS)
async def test_packet_boundaries_do_not_change_the_request_that_an_application_receives(way: str, kind: str) -> None:
    expected = await seen_of(way, kind, "one packet")
    for cut in CUTS:
        assert await seen_of(way, kind, cut) == expected, cut
