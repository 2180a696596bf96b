"""The part of a connection that HTTP/1.1 and WebSocket share."""

from __future__ import annotations

import asyncio

import pytest

from tests.helpers import Conversation, hello, settle
from uvicorn.server.connection import TransportConnection


class PlainConnection(TransportConnection):
    """A connection without a protocol, on the transport of a conversation."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(conversation.context, conversation.context.clock.now)
        self._transport = conversation.transport
        self.closes = 0

    def _close(self) -> None:
        self.closes += 1

    def resume_writing(self) -> None:
        self.write_paused = False
        self._wake_drainers()

    def linger(self, most: int) -> None:
        self._linger_bytes = most

    def drop(self, count: int) -> None:
        self._discard(count)

    def has_lingered(self) -> bool:
        return self._has_lingered()

    def has_stalled(self, unsent: int, written: int = 0) -> bool:
        self._written = written
        return self._has_stalled(unsent)


def stalled(*steps: tuple[int, int], seconds: float) -> list[bool]:
    """Return whether the client counts as stalled at each tick, given the unsent and the written bytes at that tick."""
    conversation = Conversation(hello, timeout_write_stall=seconds)
    connection = PlainConnection(conversation)
    results = []
    for unsent, written in steps:
        conversation.clock.advance(1)
        results.append(connection.has_stalled(unsent, written))
    return results


async def test_drain_call_returns_at_once_while_writing_is_not_paused() -> None:
    await asyncio.wait_for(PlainConnection(Conversation(hello)).drain(), 10)


async def test_all_drain_calls_return_when_writing_resumes() -> None:
    connection = PlainConnection(Conversation(hello))
    connection.pause_writing()
    drains = [asyncio.ensure_future(connection.drain()) for _ in range(2)]
    await settle()
    assert not any(drain.done() for drain in drains)
    connection.resume_writing()
    await settle()
    assert all(drain.done() for drain in drains)


async def test_a_cancelled_drain_call_leaves_no_waiter_behind() -> None:
    connection = PlainConnection(Conversation(hello))
    connection.pause_writing()
    drain = asyncio.ensure_future(connection.drain())
    await settle()
    drain.cancel()
    await settle()
    assert not connection._drainers


async def test_connection_tracks_awaited_sends_only_while_writing_is_paused() -> None:
    connection = PlainConnection(Conversation(hello))
    assert connection.last_send() is None
    connection.pause_writing()
    assert connection.last_send() is not None


async def test_client_counts_as_stalled_if_it_takes_no_byte_within_the_write_timeout() -> None:
    assert stalled(*[(10, 0)] * 7, seconds=5) == [False] * 5 + [True] * 2


async def test_write_timeout_begins_again_after_the_client_has_received_every_byte() -> None:
    steps = [(unsent, 0) for unsent in (10, 10, 10, 0, 10, 10, 10, 10)]
    assert stalled(*steps, seconds=5) == [False] * 8


async def test_client_that_reads_one_byte_per_check_does_not_count_as_stalled() -> None:
    assert stalled((500, 900), (499, 900), (498, 900), seconds=1) == [False] * 3


async def test_byte_received_by_the_client_restarts_the_write_timeout() -> None:
    steps = [(500, 900), (500, 900), (499, 900), (499, 900), (499, 900)]
    assert stalled(*steps, seconds=2) == [False] * 4 + [True]


async def test_later_writes_do_not_restart_the_write_timeout() -> None:
    assert stalled((500, 900), (700, 1100), (900, 1300), seconds=2) == [False, False, True]


async def test_client_that_reads_slower_than_the_server_writes_does_not_count_as_stalled() -> None:
    assert stalled((500, 900), (600, 1100), (700, 1300), seconds=1) == [False] * 3


async def test_write_timeout_begins_at_the_first_check_after_bytes_become_unsent() -> None:
    assert stalled((1, 0), (1, 0), seconds=1) == [False, True]


async def test_too_much_input_during_a_lingering_close_closes_the_connection() -> None:
    connection = PlainConnection(Conversation(hello))
    connection.linger(100)
    closes = []
    for count in (100, 1):
        connection.drop(count)
        closes.append(connection.closes)
    assert closes == [0, 1]


async def test_lingering_close_ends_after_its_time_limit() -> None:
    conversation = Conversation(hello)
    connection = PlainConnection(conversation)
    assert not connection.has_lingered()
    conversation.clock.advance(int(conversation.context.settings.linger_seconds) + 1)
    assert connection.has_lingered()


async def test_close_method_of_the_connection_base_class_is_not_implemented() -> None:
    conversation = Conversation(hello)
    connection = TransportConnection(conversation.context, 0.0)
    with pytest.raises(NotImplementedError):
        connection._close()
