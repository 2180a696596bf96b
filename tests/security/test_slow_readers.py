"""A slow reader holds the worker thread of its response only as long as `min_response_rate` allows."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.helpers import GET, Conversation, until
from uvicorn.adapters import ASGIAdapter
from uvicorn.server.http1_timeouts import ResponseRate
from uvicorn.server.transport import unacknowledged_bytes

closed: list[bool] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    closed.clear()


def pieces() -> Iterator[bytes]:
    try:
        for _ in range(100):
            yield b"x" * 65536
    finally:
        closed.append(True)


def wsgi(environ: Any, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    return pieces()


def consumer(message: Any) -> None:
    reply = message["reply_channel"]
    reply.send({"status": 200, "more_content": True})
    try:
        for piece in pieces():
            reply.send({"content": piece, "more_content": True})
    finally:
        closed.append(True)


async def channels(message: Any, channels: Any) -> None:
    await channels["reply"].send({"status": 200, "more_content": True})
    for piece in pieces():
        await channels["reply"].send({"content": piece, "more_content": True})


class Reader:
    """A client that reads a given number of bytes each second."""

    def __init__(self, app: Any, **settings: Any) -> None:
        self.conversation = Conversation(app, threads=1, **settings)
        self.conversation.transport.client_takes = False
        self.has_more = True

    async def begin(self) -> None:
        self.conversation.send(GET)
        await until(lambda: self.conversation.connection.write_paused)

    async def read(self, bytes_per_second: int, seconds: int) -> None:
        for _ in range(seconds):
            if self.conversation.transport.closing:
                return
            self.conversation.transport.take(bytes_per_second)
            self.conversation.clock.advance(1)
            if self.has_more:
                # The worker thread is faster than the clock.
                await until(lambda: self.conversation.connection.write_paused or self.conversation.transport.closing)

    @property
    def is_reset(self) -> bool:
        return self.conversation.transport.aborted

    async def end(self) -> None:
        await self.conversation.lose()
        await self.conversation.interface.shutdown(1)


BLOCKING: dict[str, Callable[[], Any]] = {
    "wsgi": lambda: wsgi,
    "adapter": lambda: ASGIAdapter(wsgi, threads=1),
    "consumer": lambda: consumer,
}


@pytest.mark.parametrize("kind", BLOCKING)
async def test_S5_client_that_reads_too_slowly_is_reset(kind: str) -> None:
    reader = Reader(BLOCKING[kind](), min_response_rate=500)
    await reader.begin()
    await reader.read(128, 60)
    assert not reader.is_reset
    await reader.read(128, 2)
    assert reader.is_reset
    await until(lambda: closed)
    await reader.end()


@pytest.mark.parametrize("kind", BLOCKING)
async def test_S5_a_client_that_reads_at_the_minimum_rate_is_served(kind: str) -> None:
    reader = Reader(BLOCKING[kind](), min_response_rate=500)
    await reader.begin()
    await reader.read(500, 300)
    assert not reader.is_reset
    await reader.end()


async def test_S5_client_may_read_slowly_if_min_response_rate_is_not_set() -> None:
    reader = Reader(wsgi)
    await reader.begin()
    await reader.read(1, 300)
    assert not reader.is_reset
    await reader.end()


async def test_S5_minimum_rate_does_not_apply_to_a_response_that_holds_no_thread() -> None:
    reader = Reader(channels, min_response_rate=500)
    await reader.begin()
    await reader.read(1, 300)
    assert not reader.is_reset
    await reader.end()


async def test_S5_client_that_first_reads_fast_is_reset_when_it_later_reads_slowly() -> None:
    reader = Reader(wsgi, min_response_rate=500)
    await reader.begin()
    await reader.read(10000, 60)
    await reader.read(128, 122)
    assert reader.is_reset
    await reader.end()


async def test_S5_a_client_is_not_reset_while_the_application_sends_nothing() -> None:
    begun: list[bool] = []

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"first"
        begun.append(True)
        yield from iter(lambda: b"", None)

    reader = Reader(app, min_response_rate=500)
    reader.conversation.transport.client_takes = True
    reader.has_more = False
    reader.conversation.send(GET)
    await until(lambda: begun and reader.conversation.received)
    await reader.read(0, 300)
    assert not reader.is_reset
    await reader.end()


def test_S5_response_rate_is_measured_while_bytes_are_unsent() -> None:
    rate = ResponseRate()
    for _ in range(100):
        assert not rate.check(1.0, 0, 500)
        rate.pause()
    assert [rate.check(1.0, 0, 500) for _ in range(62)].index(True) == 60


def test_S5_the_response_rate_is_averaged_over_a_minute() -> None:
    rate = ResponseRate()
    taken = [0] * 30 + [30000] * 31
    assert not any(rate.check(1.0, count, 500) for count in taken)


def test_S5_bytes_in_the_send_buffer_of_the_kernel_count_as_unread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        peer, _ = server.accept()
        with peer:
            peer.setblocking(False)
            sent = 0
            try:
                while True:
                    sent += peer.send(b"x" * 65536)
            except BlockingIOError:
                pass
            assert 0 < unacknowledged_bytes(peer) <= sent
            assert unacknowledged_bytes(client) == 0
    assert unacknowledged_bytes(client) == unacknowledged_bytes(None) == 0
