"""Plain functions where a coroutine function is expected: middleware is served, mistakes are 500 and one log line."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import GET, Conversation, settle
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import CLOSED, WAITING, HTTPExchange, HTTPGateway
from uvicorn.errors import LocalProtocolError
from uvicorn.interfaces.base import Interface
from uvicorn.settings import Settings
from uvicorn.types import Message

pytestmark = pytest.mark.any_loop

Log = pytest.LogCaptureFixture
App = Callable[..., Any]

HELLO: Message = {"status": 200, "content": b"hello"}


def channels_mistake(message: Message, channels: Message) -> None:
    channels["reply"].send(HELLO)


def asgi3_mistake(scope: Message, receive: Any, send: Any) -> None:
    send({"type": "http.response.start", "status": 200})
    send({"type": "http.response.body", "body": b"hello"})


async def consumer(message: Message) -> None:
    message["reply_channel"].send(HELLO)


@functools.wraps(consumer)
def consumer_mistake(message: Message) -> None:
    message["reply_channel"].send(HELLO)


MISTAKES = [
    pytest.param("channels", channels_mistake, "async def app(message, channels)", id="channels"),
    pytest.param("asgi3", asgi3_mistake, "async def app(scope, receive, send)", id="asgi3"),
    pytest.param("consumer", consumer_mistake, "async def app(message)", id="consumer"),
]


async def answers(app: App, interface: str, *requests: bytes) -> bytes:
    """What a client receives for its requests, one after the other."""
    conversation = Conversation(app, interface=interface)
    for request in requests:
        conversation.send(request)
        await settle()
    received = conversation.received
    await conversation.lose()
    return received


@pytest.mark.parametrize(("interface", "app", "expected"), MISTAKES)
async def test_plain_function_that_returns_none_gives_500_and_logs_one_error(
    interface: str, app: App, expected: str, caplog: Log
) -> None:
    received = await answers(app, interface, GET, GET, GET)
    assert (received.count(b"HTTP/1.1 500 "), received.count(b"HTTP/1.1 200 ")) == (3, 0)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"write '{expected}'" in record.getMessage()


@pytest.mark.parametrize(("interface", "app", "expected"), MISTAKES)
async def test_plain_function_that_returns_none_for_a_request_with_content_gives_500(
    interface: str, app: App, expected: str
) -> None:
    conversation = Conversation(app, interface=interface)
    conversation.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n")
    await settle()
    conversation.send(b"ab")
    await settle()
    assert conversation.received.startswith(b"HTTP/1.1 500 ")
    await conversation.lose()


async def test_plain_middleware_that_returns_a_coroutine_is_served(caplog: Log) -> None:
    async def inner(message: Message, channels: Message) -> None:
        await channels["reply"].send(HELLO)

    received = await answers(lambda message, channels: inner(message, channels), "channels", GET, GET)
    assert received.count(b"HTTP/1.1 200 ") == 2
    assert caplog.messages == []


async def test_plain_channels_function_may_return_the_result_of_send() -> None:
    received = await answers(lambda message, channels: channels["reply"].send(HELLO), "channels", GET, GET)
    assert received.count(b"HTTP/1.1 200 ") == 2


async def test_plain_function_may_return_any_awaitable() -> None:
    async def inner(channels: Message) -> None:
        await channels["reply"].send(HELLO)

    received = await answers(lambda message, channels: asyncio.ensure_future(inner(channels)), "channels", GET)
    assert received.startswith(b"HTTP/1.1 200 ")


async def test_streamed_response_of_a_plain_function_is_sent_in_order() -> None:
    def app(message: Message, channels: Message) -> Any:
        channels["reply"].send({"status": 200, "content": b"a", "more_content": True})
        channels["reply"].send({"content": b"b", "more_content": True})
        return channels["reply"].send({"content": b"c"})

    received = await answers(app, "channels", GET, GET)
    assert received.count(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n") == 2


async def test_invalid_response_of_a_plain_function_gives_500(caplog: Log) -> None:
    def app(message: Message, channels: Message) -> Any:
        return channels["reply"].send({"status": 200, "headers": [[b"a b", b"c"]]})

    received = await answers(app, "channels", GET, GET)
    assert received.count(b"HTTP/1.1 500 ") == 2


async def test_plain_function_that_raises_gives_500(caplog: Log) -> None:
    def app(message: Message, channels: Message) -> Any:
        raise ValueError("boom")

    assert (await answers(app, "channels", GET)).startswith(b"HTTP/1.1 500 ")
    assert caplog.text.count("ValueError: boom") == 1


def test_incomplete_HEAD_response_of_a_plain_function_is_discarded() -> None:
    exchange = HTTPExchange(HTTPGateway(), Endpoint(), "HEAD", b"/", "1.1", ((), ()), False)
    Interface(lambda: exchange.respond(200, more_content=True), Settings()).call_plain(exchange)
    assert (exchange.state, exchange.status, exchange.ended_early) == (WAITING, 0, False)


class RecordingGateway(HTTPGateway):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def send_response(self, *arguments: Any) -> None:
        self.calls.append("response")

    def send_content(self, exchange: HTTPExchange, content: bytes, more_content: bool) -> None:
        if content == b"bad":
            raise LocalProtocolError("bad content")
        self.calls.append("content")

    def send_trailers(self, *arguments: Any) -> None:
        self.calls.append("trailers")

    def want_content(self, exchange: HTTPExchange) -> None:
        self.calls.append("want")

    def content_taken(self, exchange: HTTPExchange) -> None:
        self.calls.append("taken")

    def abort(self, *arguments: Any) -> None:
        self.calls.append("abort")


def held(*steps: Callable[[HTTPExchange], object]) -> tuple[HTTPExchange, list[str]]:
    """Call a plain function that takes `steps`; return its exchange, and the calls that reached the gateway."""
    gateway = RecordingGateway()
    exchange = HTTPExchange(gateway, Endpoint(), "POST", b"/", "1.1", ((), ()), has_content=True)

    async def answered() -> None: ...

    def app() -> Any:
        for step in steps:
            step(exchange)
        gateway.calls.append("returned")
        return answered()

    Interface(app, Settings()).call_plain(exchange).close()
    return exchange, gateway.calls


def test_trailers_of_a_plain_function_are_sent_after_the_function_returns() -> None:
    _, calls = held(lambda made: made.respond(200, more_content=True), lambda made: made.write_trailers([]))
    assert calls == ["returned", "response", "trailers"]


def test_abort_call_of_a_plain_function_takes_effect_after_the_function_returns() -> None:
    _, calls = held(lambda made: made.abort("gone wrong"))
    assert calls == ["returned", "abort"]


def test_want_content_and_content_taken_are_called_before_a_plain_function_returns() -> None:
    _, calls = held(lambda made: made.gateway.want_content(made), lambda made: made.gateway.content_taken(made))
    assert calls == ["want", "taken", "returned"]


def test_invalid_content_of_a_plain_function_closes_the_response() -> None:
    made = HTTPExchange(RecordingGateway(), Endpoint(), "GET", b"/", "1.1", ((), ()), has_content=False)

    def app() -> None:
        made.respond(200, more_content=True)
        made.write(b"bad", False)
        raise ValueError("boom")

    with pytest.raises(LocalProtocolError):
        Interface(app, Settings()).call_plain(made)
    assert made.state is CLOSED
