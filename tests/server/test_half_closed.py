"""After a client has closed its side, running requests are notified at once and have a limited time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.corpus import POST, request
from tests.helpers import GET, Conversation, hello, settle, until
from uvicorn.errors import ClientDisconnected


class Waiting:
    """A channels application that begins an event stream if `begins`, then waits for an hour."""

    def __init__(self, *, begins: bool = False) -> None:
        self._begins = begins
        self.calls = 0
        self.closed: list[str] = []
        self.ended: list[type[BaseException]] = []

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        self.calls += 1
        channels["reply"].on_close(lambda: self.closed.append(message["path"]))
        try:
            if self._begins:
                await channels["reply"].send({"status": 200, "more_content": True})
            await asyncio.sleep(3600)
        except BaseException as error:
            self.ended.append(type(error))
            raise


async def test_on_close_callback_is_called_when_the_client_half_closes() -> None:
    app = Waiting()
    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    conversation.send_eof()
    assert app.closed == ["/"]
    await conversation.lose()
    assert app.closed == ["/"]
    await conversation.interface.tasks.finish(0)


async def test_on_close_method_calls_the_callback_at_once_for_a_half_closed_client() -> None:
    called: list[str] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        channels["reply"].on_close(lambda: called.append("closed"))
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(GET)
    conversation.send_eof()
    await settle()
    assert called == ["closed"]


@pytest.mark.parametrize("begins", [False, True])
async def test_half_closed_timeout_ends_the_request_and_aborts_the_connection(begins: bool) -> None:
    app = Waiting(begins=begins)
    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    conversation.send_eof()
    conversation.clock.advance(4)
    assert not conversation.transport.closing
    conversation.clock.advance(3)
    assert conversation.transport.aborted
    assert conversation.context.requests == 0
    await settle()
    await conversation.interface.tasks.finish(0)


async def test_half_closed_connection_is_reset_at_once_if_timeout_half_closed_is_0() -> None:
    app = Waiting()
    conversation = Conversation(app, timeout_half_closed=0)
    conversation.send(GET)
    await settle()
    conversation.send_eof()
    assert (conversation.transport.aborted, app.closed) == (True, ["/"])
    await settle()
    await conversation.interface.tasks.finish(0)


async def test_abort_of_a_half_closed_exchange_cancels_the_handler() -> None:
    app = Waiting()
    conversation = Conversation(app, timeout_disconnect=0)
    conversation.send(GET)
    await settle()
    conversation.send_eof()
    conversation.clock.advance(7)
    await until(lambda: app.ended)
    assert app.ended == [asyncio.CancelledError]


async def test_half_closed_client_gets_a_response_that_ends_before_the_timeout() -> None:
    go = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"a", "more_content": True})
        await go.wait()
        await channels["reply"].send({"content": b"b"})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    conversation.send_eof()
    conversation.clock.advance(4)
    go.set()
    await settle()
    assert [(response.content, response.complete) for response in conversation.responses()] == [(b"ab", True)]


async def test_asgi_application_receives_complete_content_before_the_disconnect() -> None:
    events: list[dict[str, Any]] = []
    go = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await go.wait()
        events.extend([await receive(), await receive()])

    conversation = Conversation(app, interface="asgi3")
    conversation.send(request(POST, b"content-length: 2", content=b"ab"))
    await settle()
    await conversation.lose()
    go.set()
    await settle()
    assert events == [{"type": "http.request", "body": b"ab", "more_body": False}, {"type": "http.disconnect"}]


async def test_asgi_application_receives_http_disconnect_when_the_client_half_closes() -> None:
    events: list[str] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        events.extend([(await receive())["type"], (await receive())["type"]])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    conversation = Conversation(app, interface="asgi3")
    conversation.send(GET)
    await settle()
    assert events == []
    conversation.send_eof()
    await settle()
    assert events == ["http.request", "http.disconnect"]
    assert conversation.statuses == [200]


async def test_channels_application_gets_http_disconnect_once_after_a_half_close() -> None:
    messages: list[str] = []

    class App:
        wants_http_disconnect = True

        async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
            messages.append(message["channel"])
            if message["channel"] == "http.request":
                await channels["body"].receive()
                await asyncio.sleep(3600)

    conversation = Conversation(App())
    conversation.send(request(POST, b"content-length: 1", content=b"x"))
    await settle()
    conversation.send_eof()
    await settle()
    assert messages == ["http.request", "http.disconnect"]
    await conversation.lose()
    assert messages == ["http.request", "http.disconnect"]
    await conversation.interface.tasks.finish(0)


async def test_streamed_response_does_not_end_when_the_http_disconnect_handler_returns() -> None:
    go = asyncio.Event()

    class App:
        wants_http_disconnect = True

        async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
            if message["channel"] == "http.request":
                await go.wait()
                await channels["reply"].send({"status": 200})

    conversation = Conversation(App(), reply_timeout=0)
    conversation.send(GET)
    await settle()
    conversation.send_eof()
    await settle()
    go.set()
    await settle()
    assert conversation.statuses == [200]


async def test_application_gets_ClientDisconnected_for_truncated_pipelined_content() -> None:
    """To read the missing content raises. A wait for it would last until the server stops."""
    outcomes: list[object] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        if "body" in channels:
            try:
                outcomes.append((await channels["body"].receive())["content"])
                outcomes.append((await channels["body"].receive())["content"])
            except ClientDisconnected as error:
                outcomes.append(type(error))
                return
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(GET + request(POST, b"content-length: 5", content=b"ab"))
    conversation.send_eof()
    await settle()
    assert outcomes == [b"ab", ClientDisconnected]
    assert conversation.context.requests == 0


async def test_queued_request_is_not_served_after_the_half_closed_timeout() -> None:
    app = Waiting()
    conversation = Conversation(app)
    conversation.send(GET * 3)
    await settle()
    conversation.send_eof()
    conversation.clock.advance(7)
    await settle()
    assert app.calls == 1
    await conversation.interface.tasks.finish(0)


async def test_pipelined_requests_share_one_half_closed_timeout() -> None:
    replies: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        replies.append(channels["reply"])

    conversation = Conversation(app)
    conversation.send(GET * 3)
    await settle()
    conversation.send_eof()
    conversation.clock.advance(4)
    replies[0].send({"status": 200})
    await settle()
    conversation.clock.advance(2)
    assert (len(replies), conversation.transport.aborted) == (2, True)


@pytest.mark.parametrize("yields", [b"", b"x"])
async def test_half_closed_timeout_closes_a_wsgi_stream_at_its_next_yield(yields: bytes) -> None:
    go = threading.Event()
    closed = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        try:
            go.wait()
            while True:
                yield yields
        finally:
            closed.set()

    conversation = Conversation(app, interface="wsgi", threads=1)
    conversation.send(GET)
    await until(lambda: b"first" in conversation.received)
    conversation.send_eof()
    conversation.clock.advance(7)
    go.set()
    await until(closed.is_set)
    await settle()
    assert conversation.transport.aborted
    await conversation.interface.shutdown(0)


async def test_wsgi_input_of_a_pipelined_request_raises_after_a_half_close() -> None:
    """Earlier, 16 such connections blocked all worker threads for ever."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [b"read"]

    conversation = Conversation(app, interface="wsgi", threads=1)
    conversation.send(GET + request(POST, b"content-length: 5"))
    conversation.send_eof()
    await until(lambda: conversation.context.requests == 0 and conversation.context.begun == 2)
    assert conversation.statuses == [200, 400]
    await settle()
    await conversation.interface.shutdown(0)


async def test_malformed_pipelined_head_of_a_half_closed_client_gets_an_error_response() -> None:
    conversation = Conversation(hello)
    conversation.send(GET + b"\0\r\n\r\n")
    conversation.send_eof()
    await settle()
    assert conversation.statuses == [200, 400]
    assert conversation.transport.closing
