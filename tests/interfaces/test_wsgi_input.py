"""Content from a loop to a worker, without a server."""

from __future__ import annotations

import asyncio
import io
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.helpers import ClosingLoop, settle, until
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.errors import ClientDisconnected
from uvicorn.interfaces.wsgi_input import ContentReader
from uvicorn.loop_calls import LoopCalls


class Silent(HTTPGateway):
    """A gateway whose content the test feeds, and whose responses go nowhere."""

    def __init__(self) -> None:
        self.wanted = 0
        self.pushes_content = False

    def want_content(self, exchange: HTTPExchange) -> None:
        self.wanted += 1

    def send_response(self, *response: Any) -> None:
        pass


def exchange_on(loop: asyncio.AbstractEventLoop, gateway: HTTPGateway) -> HTTPExchange:
    return HTTPExchange(gateway, Endpoint(loop=loop), "POST", b"/", "1.1", ((), ()), has_content=True)


class Reading:
    """A worker that does `work(reader)`, and what came of it."""

    def __init__(self, work: Callable[[ContentReader], object]) -> None:
        loop = asyncio.get_running_loop()
        self.gateway = Silent()
        self.exchange = exchange_on(loop, self.gateway)
        self.results: list[object] = []
        self._work = work
        self._thread = threading.Thread(target=self._run, args=(ContentReader(self.exchange, LoopCalls(loop)),))
        self._thread.start()

    async def begun(self) -> None:
        """Return when the loop has been asked for content, and waits for it."""
        await until(lambda: self.exchange.content.asked)
        await settle()

    async def result(self) -> object:
        """What it returned or raised."""
        await until(lambda: self.results)
        self._thread.join(30)
        self.exchange.disconnect()
        return self.results[0]

    def _run(self, reader: ContentReader) -> None:
        try:
            self.results.append(self._work(reader))
        except Exception as error:
            self.results.append(error)


def wanted_at_least(gateway: Silent, count: int) -> bool:
    return gateway.wanted >= count


@pytest.mark.parametrize(("pushes_content", "asked"), [(False, 2), (True, 0)])
async def test_wsgi_input_does_not_request_content_that_the_gateway_pushes(pushes_content: bool, asked: int) -> None:
    reading = Reading(lambda reader: reader.read(3))
    gateway = reading.gateway
    gateway.pushes_content = pushes_content
    await reading.begun()
    first = gateway.wanted
    for number, piece in enumerate((b"a", b"b", b"c")):
        await until(partial(wanted_at_least, gateway, first + min(number, asked)))
        reading.exchange.content.feed(piece)
    assert await reading.result() == b"abc"
    assert gateway.wanted == first + asked


def read_some(reader: ContentReader) -> object:
    return reader.read(1)


async def test_wsgi_input_returns_every_byte_in_order() -> None:
    source = random.Random(1)
    pieces = [source.randbytes(source.choice((1, 100, 20000, 65536, 131072))) for _ in range(200)]
    reading = Reading(lambda reader: b"".join(iter(lambda: reader.read(source.randrange(1, 100000)) or b"", b"")))
    for piece in pieces:
        reading.exchange.content.feed(piece)
        await asyncio.sleep(0)
    reading.exchange.content.feed_eof()
    assert await reading.result() == b"".join(pieces)


async def test_wsgi_input_returns_empty_bytes_after_its_end() -> None:
    reading = Reading(lambda reader: [reader.read(10) for _ in range(3)])
    reading.exchange.content.feed(b"all")
    reading.exchange.content.feed_eof()
    assert await reading.result() == [b"all", b"", b""]


async def test_wsgi_input_returns_arrived_content_before_it_raises_for_a_disconnect() -> None:
    seen: list[Any] = []

    def work(reader: ContentReader) -> None:
        while content := reader.read1(10):
            seen.append(content)

    reading = Reading(work)
    await reading.begun()
    reading.exchange.content.feed(b"some")
    reading.exchange.disconnect()
    assert isinstance(await reading.result(), ClientDisconnected)
    assert seen == [b"some"]


async def test_wsgi_input_does_not_count_its_first_128_KiB_as_buffered() -> None:
    may_go_on, may_end = threading.Event(), threading.Event()

    def work(reader: ContentReader) -> None:
        reader.read(1)
        may_go_on.wait(30)
        reader.read(65536)
        may_end.wait(30)

    reading = Reading(work)
    await reading.begun()
    for piece in (b"x" * 65536, b"x" * 65536, b"x" * 65536, b"x"):
        reading.exchange.content.feed(piece)
    assert reading.exchange.content.buffered_bytes == 65537
    may_go_on.set()
    await until(lambda: reading.exchange.content.buffered_bytes == 1)
    may_end.set()
    await reading.result()


async def test_wsgi_input_asks_for_more_content_when_the_worker_has_read_everything() -> None:
    reading = Reading(lambda reader: (reader.read(10), reader.read(10)))
    await reading.begun()
    for letter in (b"a", b"b"):
        wanted = reading.gateway.wanted
        reading.exchange.content.feed(letter * 10)
        if letter == b"a":
            await until(lambda wanted=wanted: reading.gateway.wanted > wanted)  # type: ignore[misc]
    assert await reading.result() == (b"a" * 10, b"b" * 10)


async def test_wsgi_input_raises_if_the_response_ended_before_all_content_arrived() -> None:
    reading = Reading(lambda reader: reader.read1(9) + reader.read())
    await reading.begun()
    reading.exchange.content.feed(b"some")
    reading.exchange.respond(200)
    reading.exchange.content.feed(b"more")
    reading.exchange.content.feed_eof()
    assert isinstance(await reading.result(), ClientDisconnected)


async def test_whole_wsgi_input_can_be_read_after_the_response() -> None:
    go_on = threading.Event()
    reading = Reading(lambda reader: (reader.read(1), go_on.wait(30), reader.read()))
    for piece in (b"all", b" of", b" it"):
        reading.exchange.content.feed(piece)
    await reading.begun()
    reading.exchange.content.feed_eof()
    reading.exchange.respond(200)
    go_on.set()
    assert await reading.result() == (b"a", True, b"ll of it")


async def test_wsgi_input_reads_lines_across_pieces_like_a_file() -> None:
    source = random.Random(2)
    content = bytes(source.choice(b"ab\n") for _ in range(3000))
    sizes = [source.choice((-1, None, 0, 1, 2, 5, 100)) for _ in range(6000)]
    expected = io.BytesIO(content)
    reading = Reading(lambda reader: [reader.readline(size) for size in sizes])
    at = 0
    while at < len(content):
        size = source.randrange(1, 50)
        reading.exchange.content.feed(content[at : at + size])
        at += size
        await asyncio.sleep(0)
    reading.exchange.content.feed_eof()
    assert await reading.result() == [expected.readline(size) for size in sizes]


async def test_wsgi_input_read1_returns_available_bytes_up_to_the_given_size() -> None:
    reading = Reading(lambda reader: [reader.read1(size) for size in (0, 2, -1, 5, 5, 5)])
    for piece in (b"abcde", b"fgh", b"ij"):
        reading.exchange.content.feed(piece)
    reading.exchange.content.feed_eof()
    assert await reading.result() == [b"", b"ab", b"cde", b"fgh", b"ij", b""]


async def test_wsgi_input_can_be_wrapped_by_io_classes() -> None:
    reading = Reading(lambda reader: io.TextIOWrapper(io.BufferedReader(reader), "utf-8").readlines())
    for piece in (b"\xc3", b"\xa4\r\n", b"b"):
        reading.exchange.content.feed(piece)
    reading.exchange.content.feed_eof()
    assert await reading.result() == ["\xe4\n", "b"]


def test_wsgi_input_raises_when_its_event_loop_has_closed() -> None:
    loop = asyncio.new_event_loop()
    reader = ContentReader(exchange_on(loop, Silent()), LoopCalls(loop))
    loop.close()
    with pytest.raises(ClientDisconnected):
        reader.readinto(bytearray(1))


def test_wsgi_input_raises_when_its_event_loop_stops() -> None:
    async def main() -> Reading:
        reading = Reading(read_some)
        await reading.begun()
        return reading

    reading = asyncio.run(main())
    reading._thread.join(30)
    assert isinstance(reading.results[0], ClientDisconnected)


def test_wsgi_input_raises_when_its_event_loop_is_closed_before_the_first_piece() -> None:
    loop = asyncio.new_event_loop()
    calls = LoopCalls(loop)
    reader = ContentReader(exchange_on(loop, Silent()), calls)
    calls._wakes = ClosingLoop(loop)
    with pytest.raises(ClientDisconnected):
        reader.readinto(bytearray(1))


async def test_empty_piece_does_not_end_wsgi_input() -> None:
    reading = Reading(lambda reader: reader.read(1))
    await reading.begun()
    reading.exchange.content.feed(b"")
    await settle()
    reading.exchange.content.feed(b"x")
    reading.exchange.content.feed_eof()
    assert await reading.result() == b"x"
