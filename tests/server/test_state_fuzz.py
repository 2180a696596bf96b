"""Conversations with random pipelines, pieces and ends leave no objects behind.

A state of one exchange, such as a half-closed client or a stopping server, has to hold for the next exchange on the
connection. With enough seeds the tests reach each pair of a state and an event.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.corpus import POST, chunked, request
from tests.helpers import GET, Conversation, FakeTransport, settle
from uvicorn.errors import ClientDisconnected

REQUESTS = [
    GET,
    request(b"HEAD /stream HTTP/1.1"),
    request(b"GET /stream HTTP/1.1"),
    request(b"GET /wait HTTP/1.1"),
    request(b"GET /fail HTTP/1.1"),
    request(b"GET /turn HTTP/1.0", b"connection: keep-alive"),
    request(b"GET / HTTP/1.1", b"connection: close"),
    request(POST, b"content-length: 5", content=b"hello"),
    request(POST, b"content-length: 5", content=b"hel"),
    request(b"POST /unread HTTP/1.1", b"content-length: 5", content=b"hello"),
    request(b"POST /unread HTTP/1.1", b"content-length: 100000", content=b"hello"),
    request(POST, b"content-length: 5", b"expect: 100-continue"),
    chunked(b"5\r\nhello\r\n0\r\n\r\n"),
    chunked(b"5\r\nhello\r\n"),
    chunked(b"zz\r\n"),
    b"\0\r\n\r\n",
]

ENDS = ["eof", "lose", "stall", "stop", "eof then lose", "stop then eof", "abandon"]


async def channels_app(message: dict[str, Any], channels: dict[str, Any]) -> None:
    reply, path = channels["reply"], message["path"]
    if path == "/wait":
        await asyncio.sleep(3600)
    if path == "/turn":
        await asyncio.sleep(0)
    if path == "/fail":
        raise ValueError("boom")
    if "body" in channels and path != "/unread":
        chunk = await channels["body"].receive()
        while chunk["content"] is not None and chunk["more_content"]:
            chunk = await channels["body"].receive()
    await reply.send({"status": 200, "content": b"hello", "more_content": path == "/stream"})
    while path == "/stream":
        await reply.send({"content": b"x" * 1000, "more_content": True})
        await asyncio.sleep(0)


async def consumer_app(message: dict[str, Any]) -> None:
    reply, path = message["reply_channel"], message["path"]
    if path == "/wait":
        await asyncio.sleep(3600)
    if path == "/fail":
        raise ValueError("boom")
    await reply.send({"status": 200, "content": message["body"], "more_content": path == "/stream"})
    while path == "/stream":
        await reply.send({"content": b"x" * 1000, "more_content": True})
        await asyncio.sleep(0)


async def asgi3_app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    path, more = scope["path"], scope["path"] != "/unread"
    if path == "/wait":
        await asyncio.sleep(3600)
    if path == "/fail":
        raise ValueError("boom")
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise ClientDisconnected("left")
        more = event["more_body"]
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello", "more_body": path == "/stream"})
    while path == "/stream":
        await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
        await asyncio.sleep(0)


def wsgi_app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    path = environ["PATH_INFO"]
    if path == "/fail":
        raise ValueError("boom")
    if path != "/unread":
        environ["wsgi.input"].read()
    start_response("200 OK", [])
    yield b"hello"
    while path in ("/stream", "/wait"):
        yield b""


def thread_app(message: dict[str, Any]) -> None:
    reply, path = message["reply_channel"], message["path"]
    if path == "/fail":
        raise ValueError("boom")
    reply.send({"status": 200, "content": message["body"], "more_content": path == "/stream"})
    while path == "/stream":
        reply.send({"content": b"x" * 1000, "more_content": True})


def ignore_writes_after_the_end(transport: FakeTransport) -> None:
    """Ignore writes after the connection is lost, as the transports of event loops do."""
    write = transport.write
    transport.write = lambda data: None if transport.closing else write(data)  # type: ignore[method-assign]


async def converse(app: Callable[..., Any], interface: str, seed: int) -> None:
    """Hold one conversation with the given seed."""
    chance = random.Random(seed)
    pooled = interface == "wsgi" or app is thread_app
    settings: dict[str, Any] = {"interface": interface, "timeout_disconnect": 0}
    if pooled:
        settings["threads"] = 2
    if chance.random() < 0.2:
        settings["limit_concurrency"] = 1
    conversation = Conversation(app, **settings)
    ignore_writes_after_the_end(conversation.transport)
    conversation.transport.client_takes = chance.random() < 0.7
    data = b"".join(chance.choice(REQUESTS) for _ in range(chance.randrange(1, 6)))
    cut = chance.choice([len(data), chance.randrange(len(data) + 1)])
    at = 0
    while at < cut and not conversation.transport.closing:
        size = chance.choice([1, 7, 100, len(data)])
        if conversation.transport.reading:
            conversation.feed(data[at : min(at + size, cut)])
            at += size
        if chance.random() < 0.3:
            await settle(chance.randrange(4))
        if not conversation.transport.reading:
            break
    for step in chance.choice(ENDS).split(" then "):
        match step:
            case "eof":
                conversation.send_eof()
            case "lose":
                await conversation.lose()
            case "stall":
                conversation.clock.advance(70)
            case "stop":
                conversation.context.stop()
                conversation.connection.stop()
        await settle(chance.randrange(4))
    if chance.random() < 0.5:
        conversation.transport.client_takes = True
        conversation.transport.take(1 << 30)
    # The client has gone now, if it had not before; the time for what is half-closed passes.
    conversation.send_eof()
    await settle()
    for _ in range(140):
        conversation.clock.advance(1)
        await asyncio.sleep(0)
    await settle()
    context = conversation.context
    left = (len(context.connections), context.requests)
    assert left == (0, 0), (
        f"seed {seed}: (connections, requests) left are {left}, phase {conversation.connection.phase}"
    )
    turns = 0
    while conversation.interface.tasks.running or len(context.continuing):
        await asyncio.sleep(0.001 if pooled else 0)
        turns += 1
        assert turns < 5000, f"seed {seed}: handlers are left"
    if pooled:
        await conversation.interface.shutdown(0)


KINDS: dict[str, tuple[Callable[..., Any], str, int]] = {
    "channels": (channels_app, "channels", 400),
    "consumer": (consumer_app, "consumer", 200),
    "asgi3": (asgi3_app, "asgi3", 400),
    "wsgi": (wsgi_app, "wsgi", 60),
    "plain consumer": (thread_app, "consumer", 60),
}


@pytest.mark.parametrize("block", range(4))
@pytest.mark.parametrize("kind", KINDS)
async def test_connection_leaves_no_objects_behind_after_it_ends(kind: str, block: int) -> None:
    app, interface, count = KINDS[kind]
    for seed in range(block * count // 4, (block + 1) * count // 4):
        await converse(app, interface, seed)


@pytest.mark.parametrize("kind", ["channels", "asgi3"])
@pytest.mark.parametrize("end", ["eof", "lose"])
async def test_connection_cut_at_any_byte_of_pipelined_requests_leaks_nothing(kind: str, end: str) -> None:
    app, interface, _ = KINDS[kind]
    data = GET + request(POST, b"content-length: 5", content=b"hello") + chunked(b"5\r\nhello\r\n0\r\n\r\n") + GET
    for cut in range(len(data) + 1):
        conversation = Conversation(app, interface=interface, timeout_disconnect=0)
        if cut:
            conversation.send(data[:cut])
        if end == "eof":
            conversation.send_eof()
        else:
            await conversation.lose()
        await settle()
        conversation.clock.advance(7)
        await settle()
        assert (len(conversation.context.connections), conversation.context.requests) == (0, 0), f"cut at {cut}"
