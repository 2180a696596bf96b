"""A client that still sends its request receives the complete response (RFC 9112, section 9.6)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.corpus import POST, chunked, request
from tests.helpers import GET, Conversation, Recorder, hello, settle

LARGE = request(POST, b"content-length: 8000000")
PIECE = bytes(65536)


async def answered(data: bytes = LARGE, **settings: Any) -> Conversation:
    conversation = Conversation(hello, **settings)
    conversation.send(data)
    await settle()
    return conversation


async def test_rest_of_an_upload_is_discarded_after_an_early_response() -> None:
    conversation = await answered()
    for _ in range(122):
        conversation.send(PIECE)
    assert (conversation.transport.eof_written, conversation.transport.closing) == (True, False)
    conversation.send(PIECE)
    assert conversation.transport.closing
    assert [(response.status, response.complete) for response in conversation.responses()] == [(200, True)]


async def test_rest_of_a_chunked_upload_is_discarded_up_to_max_content_bytes() -> None:
    conversation = await answered(chunked(b"5\r\nhello\r\n"), max_content_bytes=1_000_000)
    assert conversation.responses()[0].header(b"connection") == b"close"
    for _ in range(15):
        conversation.send(PIECE)
    assert not conversation.transport.closing
    conversation.send(PIECE)
    assert conversation.transport.closing


async def test_rest_of_an_unlimited_chunked_upload_is_discarded_for_30_seconds() -> None:
    conversation = await answered(chunked(b"5\r\nhello\r\n"), max_content_bytes=0)
    for _ in range(29):
        conversation.send(PIECE * 20)
        conversation.clock.advance(1)
    assert not conversation.transport.closing
    for _ in range(3):
        conversation.send(PIECE)
        conversation.clock.advance(1)
    assert conversation.transport.closing


async def test_connection_stays_open_if_the_upload_ended_before_the_response() -> None:
    conversation = await answered(chunked(b"5\r\nhello\r\n0\r\n\r\n"))
    assert conversation.responses()[0].header(b"connection") is None
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [200, 200]


async def test_upload_that_pauses_after_an_early_response_closes_the_connection() -> None:
    conversation = await answered()
    conversation.send(PIECE)
    conversation.clock.advance(4)
    assert not conversation.transport.closing
    conversation.clock.advance(3)
    assert conversation.transport.closing


async def test_slow_upload_after_an_early_response_closes_the_connection() -> None:
    conversation = await answered(min_content_rate=1000)
    for _ in range(9):
        conversation.send(bytes(900))
        conversation.clock.advance(1)
    assert not conversation.transport.closing
    for _ in range(3):
        conversation.send(bytes(900))
        conversation.clock.advance(1)
    assert conversation.transport.closing


async def test_stopping_server_closes_a_connection_whose_upload_was_answered_early() -> None:
    conversation = await answered()
    conversation.context.stopping = True
    for _ in range(3):
        conversation.send(PIECE)
        conversation.clock.advance(1)
    assert conversation.transport.closing


async def test_lingering_close_of_a_rejected_head_ends_when_too_many_bytes_arrive() -> None:
    conversation = await answered(b"\0\r\n\r\n")
    for _ in range(4):
        conversation.send(PIECE)
    assert not conversation.transport.closing
    conversation.send(PIECE)
    assert conversation.transport.closing


async def test_next_request_is_not_served_after_an_early_response_to_an_upload() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(request(POST, b"content-length: 100000"))
    await settle()
    conversation.send(bytes(100000) + GET)
    await settle()
    assert len(recorder.messages) == 1
    await conversation.lose()


@pytest.mark.parametrize("status", [401, 413, 302])
async def test_early_response_of_a_wsgi_application_is_sent_before_the_upload_ends(status: int) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(f"{status} Early", [])
        return [b"early"]

    conversation = Conversation(app, interface="wsgi", threads=1)
    conversation.send(LARGE)
    while not conversation.received:  # noqa: ASYNC110
        await asyncio.sleep(0)
    conversation.send(PIECE)
    assert [(response.status, response.content) for response in conversation.responses()] == [(status, b"early")]
    assert not conversation.transport.closing
    await conversation.lose()
    await conversation.interface.shutdown(0)
