"""Content from a loop to a worker, without a server."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import settle, until
from uvicorn.errors import ClientDisconnected
from uvicorn.exchange import Endpoint, HTTPExchange, HTTPGateway
from uvicorn.interfaces.content_reader import ContentReader
from uvicorn.interfaces.pooled import Outbox


class Silent(HTTPGateway):
    """A gateway whose content comes when the test says so, and whose responses go nowhere."""

    def want_content(self, exchange: HTTPExchange) -> None:
        pass

    def send_response(self, *response: Any) -> None:
        pass


def exchange_on(loop: asyncio.AbstractEventLoop) -> HTTPExchange:
    return HTTPExchange(Silent(), Endpoint(loop=loop), "POST", b"/", "1.1", [], has_content=True)


class Reading:
    """A worker that does `work(reader)`, and what came of it."""

    def __init__(self, work: Callable[[ContentReader], object], exchange: HTTPExchange | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.exchange = exchange or exchange_on(loop)
        self.results: list[object] = []
        self._work = work
        self._thread = threading.Thread(target=self._run, args=(ContentReader(self.exchange, Outbox(loop)),))
        self._thread.start()

    async def begun(self) -> None:
        """Return when the loop has been asked for content, and waits for it."""
        await until(lambda: len(asyncio.all_tasks()) == 2)
        await settle()

    async def result(self) -> object:
        """What it returned or raised."""
        await until(lambda: self.results)
        self._thread.join(30)
        # What hands over has its end after the worker's.
        await until(lambda: len(asyncio.all_tasks()) == 1)
        return self.results[0]

    def _run(self, reader: ContentReader) -> None:
        try:
            self.results.append(self._work(reader))
        except Exception as error:
            self.results.append(error)


def read_some(reader: ContentReader) -> object:
    return reader.read(1)


async def test_no_byte_is_lost_and_none_changes_its_place() -> None:
    source = random.Random(1)
    pieces = [source.randbytes(source.choice((1, 100, 20000, 65536, 131072))) for _ in range(200)]
    reading = Reading(lambda reader: b"".join(iter(lambda: reader.read(source.randrange(1, 100000)) or b"", b"")))
    for piece in pieces:
        reading.exchange.feed_content(piece)
        await asyncio.sleep(0)
    reading.exchange.feed_eof()
    assert await reading.result() == b"".join(pieces)


async def test_after_the_end_there_is_nothing_again_and_again() -> None:
    reading = Reading(lambda reader: [reader.read(10) for _ in range(3)])
    reading.exchange.feed_content(b"all")
    reading.exchange.feed_eof()
    assert await reading.result() == [b"all", b"", b""]


async def test_what_came_before_the_client_left_is_read_before_it_is_told() -> None:
    seen: list[Any] = []

    def work(reader: ContentReader) -> None:
        while content := reader.read(10):
            seen.append(content)

    reading = Reading(work)
    await reading.begun()
    reading.exchange.feed_content(b"some")
    reading.exchange.disconnect()
    assert isinstance(await reading.result(), ClientDisconnected)
    assert seen == [b"some"]


async def test_the_next_piece_is_left_to_the_exchange_until_the_last_one_was_read() -> None:
    read, go_on = threading.Event(), threading.Event()

    def work(reader: ContentReader) -> list[Any]:
        first = reader.read(19999)
        read.set()
        go_on.wait(30)
        return [first, reader.read(1), reader.read(20000)]

    reading = Reading(work)
    for letter in (b"a", b"b"):
        reading.exchange.feed_content(letter * 20000)
    reading.exchange.feed_eof()
    await until(read.is_set)
    await settle()
    assert reading.exchange.buffered_bytes == 20000
    go_on.set()
    assert await reading.result() == [b"a" * 19999, b"a", b"b" * 20000]


async def test_content_that_is_unread_when_the_response_ends_is_not_whole() -> None:
    read, ended = threading.Event(), threading.Event()

    def work(reader: ContentReader) -> None:
        reader.read(1)
        read.set()
        ended.wait(30)
        while reader.read(65536):
            pass

    reading = Reading(work)
    for _ in range(2):
        reading.exchange.feed_content(b"x" * 20000)
    reading.exchange.feed_eof()
    await until(read.is_set)
    reading.exchange.respond(200)
    await until(lambda: len(asyncio.all_tasks()) == 1)
    ended.set()
    assert isinstance(await reading.result(), ClientDisconnected)


def test_content_from_a_loop_that_is_gone_is_not_whole() -> None:
    loop = asyncio.new_event_loop()
    reader = ContentReader(exchange_on(loop), Outbox(loop))
    loop.close()
    with pytest.raises(ClientDisconnected):
        reader.readinto(bytearray(1))


def test_content_from_a_loop_that_stops_is_not_whole() -> None:
    async def main() -> Reading:
        reading = Reading(read_some)
        await reading.begun()
        return reading

    reading = asyncio.run(main())
    reading._thread.join(30)
    assert isinstance(reading.results[0], ClientDisconnected)


async def test_an_empty_piece_is_not_the_end() -> None:
    reading = Reading(lambda reader: reader.read(1))
    await reading.begun()
    reading.exchange.feed_content(b"")
    await settle()
    reading.exchange.feed_content(b"x")
    reading.exchange.feed_eof()
    assert await reading.result() == b"x"
