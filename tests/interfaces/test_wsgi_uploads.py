"""`wsgi.input` of content that is there, on its way, or cut off."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests import wsgi_apps
from tests.corpus import POST, chunked, request
from tests.helpers import Conversation, until
from tests.interfaces.wsgi_conversations import WAYS, asking, over, response_of
from uvicorn.adapters import ASGIAdapter, WSGIAdapter


@pytest.fixture(autouse=True)
def fresh() -> None:
    wsgi_apps.closed.clear()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 100000, 300000])
async def test_C11_wsgi_upload_is_read_whole(size: int, way: str) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    stream = asking("echo", b"content-length: %d" % size, method=b"POST", content=content[:size])
    assert (await response_of(stream, way)).content == b"POST " + content[:size]


@pytest.mark.parametrize("way", WAYS)
async def test_C11_chunked_wsgi_upload_is_read_whole(way: str) -> None:
    stream = chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").replace(b"POST /", b"POST /echo")
    assert (await response_of(stream, way)).content == b"POST hello world"


async def test_C11_wsgi_upload_can_be_read_by_lines() -> None:
    stream = asking("lines", b"content-length: 6", method=b"POST", content=b"a\nbc\nd")
    assert (await response_of(stream)).content == b"2:a\n3:bc\n1:d"


@pytest.mark.parametrize("way", WAYS)
async def test_C11_incomplete_wsgi_upload_raises_in_the_application(way: str) -> None:
    raised: list[BaseException] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            raised.append(error)
        start_response("200 OK", [])
        return []

    conversation = Conversation(over(app, way))
    conversation.send(request(POST, b"content-length: 100", content=b"x" * 12))
    await asyncio.sleep(0)
    conversation.send_eof()
    await until(lambda: raised and not conversation.context.requests)
    await conversation.lose()
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("way", WAYS)
async def test_C11_wsgi_application_reads_the_first_bytes_before_the_upload_ends(way: str) -> None:
    seen: list[bytes] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read(5))
        seen.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    conversation = Conversation(over(app, way))
    conversation.send(request(POST, b"content-length: 10", content=b"hello"))
    await until(lambda: seen)
    assert seen == [b"hello"]
    conversation.send(b"world")
    await until(lambda: conversation.received)
    assert seen == [b"hello", b"world"]
    await conversation.lose()
    await conversation.interface.shutdown(1)


async def asgi3_echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        event = await receive()
        more = event.get("more_body", False)
        await send({"type": "http.response.body", "body": event.get("body", b""), "more_body": more})


def wsgi_echo(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    return iter(lambda: environ["wsgi.input"].read1(100), b"")


@pytest.mark.parametrize("way", ["direct", "adapter", "messages", "WSGIAdapter(asgi3)", "WSGIAdapter(ASGIAdapter)"])
async def test_wsgi_response_is_streamed_while_the_request_content_arrives(way: str) -> None:
    apps = {
        "WSGIAdapter(asgi3)": lambda: WSGIAdapter(asgi3_echo),
        "WSGIAdapter(ASGIAdapter)": lambda: WSGIAdapter(ASGIAdapter(wsgi_echo)),
    }
    conversation = Conversation(apps[way]() if way in apps else over(wsgi_echo, way))
    conversation.send(request(POST, b"content-length: 18"))
    for piece in (b"first,", b"second", b"third."):
        conversation.send(piece)
        await until(lambda piece=piece: piece in conversation.received)  # type: ignore[misc]
    await until(lambda: conversation.responses("POST")[0].complete)
    await conversation.lose()
    await conversation.interface.shutdown(1)


INPUT_CALLS: list[tuple[str, Any]] = [
    ("read()", b"one\ntwo\n\nend"),
    ("read(-1)", b"one\ntwo\n\nend"),
    ("read(0)", b""),
    ("read(5)", b"one\nt"),
    ("read(100)", b"one\ntwo\n\nend"),
    ("readline()", b"one\n"),
    ("readline(2)", b"on"),
    ("readline(-1)", b"one\n"),
    ("readlines()", [b"one\n", b"two\n", b"\n", b"end"]),
    ("readlines(1)", [b"one\n"]),
]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("expression", "result"), INPUT_CALLS)
async def test_C11_wsgi_input_reads_like_a_file(expression: str, result: Any, late: bool) -> None:
    begun, seen = threading.Event(), []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        begun.set()
        seen.append(eval(f"input.{expression}", {"input": environ["wsgi.input"]}))
        rest = environ["wsgi.input"].read()
        seen.append((b"".join(result) if isinstance(result, list) else result) + rest)
        seen.append([environ["wsgi.input"].read(), environ["wsgi.input"].read(1), environ["wsgi.input"].readline()])
        start_response("200 OK", [])
        return []

    conversation = Conversation(app)
    content = b"one\ntwo\n\nend"
    head = request(POST, b"content-length: 12")
    if late:
        conversation.send(head)
        await until(begun.is_set)
        conversation.send(content, piece=5)
    else:
        conversation.send(head + content)
    await until(lambda: conversation.received)
    assert seen == [result, content, [b"", b"", b""]]
    await conversation.lose()
    await conversation.interface.shutdown(1)


@pytest.mark.parametrize("expression", ["read()", "read(50)", "readline()", "readlines()"])
async def test_C11_every_read_method_raises_for_an_incomplete_wsgi_upload(expression: str) -> None:
    raised: list[BaseException] = []
    begun = threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        begun.set()
        for _ in range(2):
            try:
                eval(f"input.{expression}", {"input": environ["wsgi.input"]})
            except OSError as error:
                raised.append(error)
        start_response("200 OK", [])
        return []

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 100", content=b"x" * 12))
    await until(begun.is_set)
    conversation.send_eof()
    await until(lambda: conversation.received)
    assert len(raised) == 2
    await conversation.lose()
    await conversation.interface.shutdown(1)


async def test_C11_disconnect_ends_a_wsgi_input_read_that_waits_for_content() -> None:
    begun, raised = threading.Event(), threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        begun.set()
        try:
            environ["wsgi.input"].read()
        finally:
            raised.set()
        return []

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 100"))
    await until(begun.is_set)
    await conversation.lose()
    await until(raised.is_set)
    await conversation.interface.shutdown(1)


async def test_C11_server_stops_reading_while_the_wsgi_application_reads_slowly() -> None:
    begun, release = threading.Event(), threading.Event()
    seen: list[bytes] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(environ["wsgi.input"].read(1))
        begun.set()
        release.wait(30)
        seen.append(environ["wsgi.input"].read())
        start_response("200 OK", [])
        return []

    conversation = Conversation(app)
    content = bytes(range(256)) * 8192
    conversation.send(request(POST, b"content-length: %d" % len(content)))
    sent = 0

    def send_what_is_taken() -> None:
        nonlocal sent
        while conversation.transport.reading and sent < len(content):
            conversation.send(content[sent : sent + 65536])
            sent += 65536

    send_what_is_taken()
    await until(begun.is_set)
    for _ in range(50):
        await asyncio.sleep(0)
        send_what_is_taken()
    assert sent <= 256 * 1024
    release.set()
    while not conversation.received:
        send_what_is_taken()
        await asyncio.sleep(0)
    assert b"".join(seen) == content
    await conversation.lose()
    await conversation.interface.shutdown(1)
