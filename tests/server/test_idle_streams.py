"""A stopping server ends idle event streams, whose clients reconnect; other responses keep the grace period."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.corpus import request
from tests.helpers import GET, Conversation, settle, until

EVENTS = [[b"content-type", b"text/event-stream; charset=utf-8"]]


class Stream:
    """A channels application that begins a response, then sends when the test asks for it."""

    def __init__(self, headers: list[list[bytes]], content: bytes = b"data: 1\n\n") -> None:
        self._headers = headers
        self._content = content
        self.reply: Any = None
        self.raised: list[type[BaseException]] = []

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        self.reply = channels["reply"]
        first = {"status": 200, "headers": self._headers, "content": self._content, "more_content": True}
        await self.reply.send(first)
        try:
            await asyncio.sleep(3600)
        except BaseException as error:
            self.raised.append(type(error))
            raise


async def stopping(app: Any, data: bytes = GET, **settings: Any) -> Conversation:
    conversation = Conversation(app, **settings)
    conversation.send(data)
    await settle()
    conversation.context.stop()
    return conversation


async def test_a_stopping_server_ends_an_idle_event_stream_and_cancels_its_handler() -> None:
    app = Stream(EVENTS)
    conversation = await stopping(app)
    conversation.clock.advance(4)
    conversation.connection.stop()
    await until(lambda: app.raised)
    assert [(response.content, response.complete) for response in conversation.responses()] == [(b"data: 1\n\n", True)]
    assert (app.raised, conversation.transport.closing) == ([asyncio.CancelledError], True)


async def test_stopping_server_closes_the_connection_of_an_idle_http_1_0_event_stream() -> None:
    app = Stream(EVENTS)
    conversation = await stopping(app, request(b"GET / HTTP/1.0"))
    conversation.clock.advance(4)
    conversation.connection.stop()
    await until(lambda: app.raised)
    assert (conversation.transport.closing, conversation.transport.aborted) == (True, False)


async def test_stopping_server_does_not_end_an_active_event_stream() -> None:
    app = Stream(EVENTS)
    conversation = await stopping(app)
    for _ in range(5):
        conversation.clock.advance(1)
        app.reply.send({"content": b"data: 2\n\n", "more_content": True})
        conversation.connection.stop()
    await settle()
    assert (app.raised, conversation.transport.closing) == ([], False)
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


@pytest.mark.parametrize(
    "headers",
    [
        [[b"content-type", b"text/plain"]],
        [],
        # Ending it would be a response that is cut short.
        [*EVENTS, [b"content-length", b"1000"]],
    ],
)
async def test_stopping_server_lets_ordinary_streams_continue_in_the_grace_period(
    headers: list[list[bytes]],
) -> None:
    app = Stream(headers)
    conversation = await stopping(app)
    conversation.clock.advance(20)
    conversation.connection.stop()
    await settle()
    assert (app.raised, conversation.transport.closing) == ([], False)
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


async def test_asgi_receive_returns_no_disconnect_event_when_the_server_stops() -> None:
    events: list[str] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200})
        events.append((await receive())["type"])

    conversation = await stopping(app)
    conversation.clock.advance(10)
    conversation.connection.stop()
    await settle()
    assert events == []
    await conversation.lose()


async def test_stopping_server_closes_an_idle_wsgi_event_stream_at_its_next_yield() -> None:
    go = threading.Event()
    closed = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("content-type", "text/event-stream")])
        try:
            yield b"data: 1\n\n"
            go.wait()
            while True:
                yield b""
        finally:
            closed.set()

    conversation = Conversation(app, interface="wsgi", threads=1)
    conversation.send(GET)
    await until(lambda: b"data" in conversation.received)
    conversation.context.stop()
    conversation.clock.advance(4)
    conversation.connection.stop()
    assert conversation.responses()[0].complete
    go.set()
    await until(closed.is_set)
    await settle()
    await conversation.interface.shutdown(0)
