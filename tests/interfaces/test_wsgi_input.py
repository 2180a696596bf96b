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
from uvicorn.errors import ClientDisconnected
from uvicorn.exchange import Endpoint, HTTPExchange, HTTPGateway
from uvicorn.interfaces.wsgi import ContentReader


@pytest.fixture(autouse=True)
def fresh() -> None:
    wsgi_apps.closed.clear()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [0, 1, 100000, 300000])
async def test_C11_content_is_read_whole(size: int, way: str) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    stream = asking("echo", b"content-length: %d" % size, method=b"POST", content=content[:size])
    assert (await response_of(stream, way)).content == b"POST " + content[:size]


@pytest.mark.parametrize("way", WAYS)
async def test_C11_chunked_content_is_read_whole(way: str) -> None:
    stream = chunked(b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n").replace(b"POST /", b"POST /echo")
    assert (await response_of(stream, way)).content == b"POST hello world"


async def test_C11_content_can_be_read_by_lines() -> None:
    stream = asking("lines", b"content-length: 6", method=b"POST", content=b"a\nbc\nd")
    assert (await response_of(stream)).content == b"2:a\n3:bc\n1:d"


@pytest.mark.parametrize("way", WAYS)
async def test_C11_a_truncated_upload_raises_in_the_application(way: str) -> None:
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
async def test_C11_the_application_sees_the_first_bytes_before_the_upload_ends(way: str) -> None:
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
async def test_C11_input_is_read_as_a_file_is(expression: str, result: Any, late: bool) -> None:
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
async def test_C11_no_way_of_reading_takes_a_truncated_upload_for_the_whole(expression: str) -> None:
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


async def test_C11_a_worker_that_waits_for_content_is_freed_when_the_client_leaves() -> None:
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


def exchange_on(loop: asyncio.AbstractEventLoop) -> HTTPExchange:
    return HTTPExchange(HTTPGateway(), Endpoint(loop=loop), "POST", b"/", "1.1", [], has_content=True)


def test_C11_content_from_a_loop_that_is_gone_is_not_whole() -> None:
    loop = asyncio.new_event_loop()
    exchange = exchange_on(loop)
    loop.close()
    with pytest.raises(ClientDisconnected):
        ContentReader(exchange, loop).readinto(bytearray(1))


class Silent(HTTPGateway):
    """A gateway whose content never comes."""

    def want_content(self, exchange: HTTPExchange) -> None:
        pass


def test_C11_content_from_a_loop_that_stops_is_not_whole() -> None:
    raised: list[BaseException] = []
    begun = threading.Event()

    def read(reader: ContentReader) -> None:
        begun.set()
        try:
            reader.readinto(bytearray(1))
        except OSError as error:
            raised.append(error)

    async def main() -> threading.Thread:
        loop = asyncio.get_running_loop()
        exchange = HTTPExchange(Silent(), Endpoint(loop=loop), "POST", b"/", "1.1", [], has_content=True)
        thread = threading.Thread(target=read, args=(ContentReader(exchange, loop),))
        thread.start()
        await until(lambda: len(asyncio.all_tasks()) == 2)
        return thread

    asyncio.run(main()).join(30)
    assert raised
