"""Responses without content are complete after their head, whatever the application sends next (RFC 9110, 9.3.2)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.corpus import request
from tests.helpers import GET, Conversation, settle, until

HEAD = request(b"HEAD /events HTTP/1.1")

# A request whose response has no content, and the status that makes it so.
WITHOUT_CONTENT = [(HEAD, 200), (GET, 204), (GET, 304)]


class Endless:
    """A channels application that streams endlessly, except to /whole."""

    def __init__(self, status: int = 200) -> None:
        self._status = status
        self.running = 0
        self.sent = 0
        self.closed = 0
        self.raised: list[type[BaseException]] = []

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        if message["path"] == "/whole":
            await reply.send({"status": 200, "content": b"whole"})
            return
        self.running += 1
        reply.on_close(self._count_closed)
        try:
            await reply.send({"status": self._status, "content": b"", "more_content": True})
            while True:
                await reply.send({"content": b"data: x\n\n", "more_content": True})
                self.sent += 1
        except BaseException as error:
            self.raised.append(type(error))
            raise
        finally:
            self.running -= 1

    def _count_closed(self) -> None:
        self.closed += 1


class ASGIEndless:
    """An ASGI application that streams endlessly, except to /whole."""

    def __init__(self, status: int = 200) -> None:
        self._status = status
        self.running = 0
        self.sent = 0
        self.events: list[str] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        status = 200 if scope["path"] == "/whole" else self._status
        await send({"type": "http.response.start", "status": status})
        if scope["path"] == "/whole":
            await send({"type": "http.response.body", "body": b"whole"})
            return
        self.running += 1
        try:
            self.events.append((await receive())["type"])
            await send({"type": "http.response.body", "body": b"x", "more_body": True})
            self.events.append((await receive())["type"])
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
                self.sent += 1
        finally:
            self.running -= 1


@pytest.mark.parametrize(("asked", "status"), WITHOUT_CONTENT)
async def test_response_without_content_is_complete_after_its_head(asked: bytes, status: int) -> None:
    app = Endless(status)
    conversation = Conversation(app)
    conversation.send(asked)
    await settle()
    assert conversation.received.endswith(b"\r\n\r\n")
    assert (conversation.context.requests, app.closed, app.running) == (0, 1, 1)
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


@pytest.mark.parametrize(("asked", "status"), WITHOUT_CONTENT)
@pytest.mark.parametrize("kind", [Endless, ASGIEndless])
async def test_next_request_cancels_a_handler_that_runs_after_a_response_without_content(
    kind: Any, asked: bytes, status: int
) -> None:
    app = kind(status)
    conversation = Conversation(app)
    conversation.send(asked)
    await until(lambda: app.sent > 3)
    conversation.send(request(b"GET /whole HTTP/1.1"))
    await settle()
    method = asked.split()[0].decode()
    assert [response.content for response in conversation.responses(method, "GET")] == [b"", b"whole"]
    assert (app.running, len(conversation.context.continuing)) == (0, 0)


async def test_next_pipelined_request_cancels_the_handler_of_a_HEAD_request() -> None:
    app = Endless()
    conversation = Conversation(app)
    conversation.send(HEAD * 20 + request(b"GET /whole HTTP/1.1"))
    await settle(200)
    assert (app.running, len(conversation.responses(*["HEAD"] * 20, "GET"))) == (0, 21)


async def test_content_after_a_response_to_HEAD_is_dropped_without_a_log_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Endless()
    conversation = Conversation(app)
    conversation.send(HEAD)
    await until(lambda: app.sent > 100)
    assert (app.raised, caplog.text) == ([], "")
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


async def test_asgi_receive_returns_http_disconnect_after_a_response_without_content() -> None:
    app = ASGIEndless()
    conversation = Conversation(app)
    conversation.send(HEAD)
    await settle()
    assert app.events == ["http.request", "http.disconnect"]
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


async def test_handler_that_continues_after_its_response_is_cancelled_after_a_timeout() -> None:
    app = Endless()
    conversation = Conversation(app, timeout_disconnect=0)
    conversation.send(HEAD)
    await until(lambda: app.raised)
    await settle()
    assert app.raised == [asyncio.CancelledError]
    assert len(conversation.context.continuing) == 0
    await conversation.lose()


async def test_stopping_server_cancels_a_handler_that_continues_after_its_response() -> None:
    app = Endless()
    conversation = Conversation(app)
    conversation.send(HEAD)
    await settle()
    conversation.context.stop()
    await settle()
    assert app.raised == [asyncio.CancelledError]
    conversation.send(HEAD)
    await until(lambda: len(app.raised) == 2)
    await conversation.lose()


async def test_handler_that_continues_after_its_response_counts_towards_limit_concurrency() -> None:
    app = Endless()
    conversation = Conversation(app, limit_concurrency=2)
    conversation.send(HEAD)
    await settle()
    other, transport = conversation.connect()
    other.data_received(HEAD)
    await settle()
    assert len(conversation.context.continuing) == 2
    other.data_received(request(b"GET /whole HTTP/1.1"))
    await settle()
    # The handler of this connection's HEAD is cancelled for the next request, but has not ended yet.
    assert b"503" in b"".join(transport.writes)
    await conversation.lose()
    transport.reset()
    await settle()
    await conversation.interface.tasks.finish(0)


async def test_wsgi_iterable_is_closed_after_a_response_without_content() -> None:
    closed = threading.Event()

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("204 No Content", [])
        try:
            while True:
                yield b"x"
        finally:
            closed.set()

    conversation = Conversation(app, interface="wsgi", threads=1)
    conversation.send(GET)
    await until(closed.is_set)
    await until(lambda: conversation.received)
    assert conversation.received.endswith(b"\r\n\r\n")
    await settle()
    await conversation.interface.shutdown(0)


async def test_wsgi_application_that_keeps_writing_to_a_HEAD_response_is_cancelled() -> None:
    writes = 0
    raised: list[type[BaseException]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        nonlocal writes
        write = start_response("200 OK", [])
        try:
            while environ["REQUEST_METHOD"] == "HEAD":
                write(b"x")
                writes += 1
                time.sleep(0)
        except BaseException as error:
            raised.append(type(error))
            raise
        return [b"whole"]

    conversation = Conversation(app, interface="wsgi", threads=1)
    conversation.send(HEAD)
    await until(lambda: writes > 3 and len(conversation.context.continuing) == 1)
    assert raised == []
    conversation.send(GET)
    await until(lambda: b"whole" in conversation.received)
    assert [error.__name__ for error in raised] == ["ClientDisconnected"]
    await until(lambda: not len(conversation.context.continuing))
    await settle()
    await conversation.interface.shutdown(0)


async def test_next_request_after_HEAD_raises_ChannelClosed_in_a_sync_consumer() -> None:
    sent = 0
    raised: list[type[BaseException]] = []

    def app(message: dict[str, Any]) -> None:
        nonlocal sent
        reply = message["reply_channel"]
        if message["method"] == "GET":
            reply.send({"status": 200, "content": b"whole"})
            return
        try:
            reply.send({"status": 200, "more_content": True})
            while True:
                reply.send({"content": b"x", "more_content": True})
                sent += 1
                time.sleep(0)
        except BaseException as error:
            raised.append(type(error))
            raise

    conversation = Conversation(app, interface="consumer", threads=1)
    conversation.send(HEAD)
    await until(lambda: sent > 3 and len(conversation.context.continuing) == 1)
    conversation.send(GET)
    await until(lambda: b"whole" in conversation.received)
    assert [error.__name__ for error in raised] == ["ChannelClosed"]
    await until(lambda: not len(conversation.context.continuing))
    await settle()
    await conversation.interface.shutdown(0)


async def test_next_request_after_HEAD_cancels_a_coroutine_consumer() -> None:
    running = 0

    async def app(message: dict[str, Any]) -> None:
        nonlocal running
        if message["method"] == "GET":
            message["reply_channel"].send({"status": 200, "content": b"whole"})
            return
        running += 1
        try:
            message["reply_channel"].send({"status": 200, "more_content": True})
            await asyncio.sleep(3600)
        finally:
            running -= 1

    conversation = Conversation(app, interface="consumer")
    conversation.send(HEAD)
    await settle()
    assert running == 1
    conversation.send(GET)
    await settle()
    assert (running, conversation.responses("HEAD", "GET")[1].content) == (0, b"whole")
