"""Requirements A1 to A19: bytes are parsed in one way only, so no request can hide inside another request."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import httptools
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.corpus import HANDSHAKE, INVALID, POST, VALID, chunked, request
from tests.helpers import GET, Conversation, Recorder, echo, hello, read_body, settle

# Requirements whose streams have a valid head: the application has begun to read when the fault arrives.
FAULTY_CONTENT = ("A5", "A6", "A7", "A8")


@pytest.mark.any_loop
@pytest.mark.parametrize("name", [name for name in INVALID if not name.startswith(FAULTY_CONTENT)])
async def test_request_with_an_invalid_head_never_reaches_the_application(name: str) -> None:
    """Covers A1 to A4, A9 to A13, A16, A18, C8 and D1. Each stream's name begins with its requirement."""
    stream, status = INVALID[name]
    recorder = Recorder(echo)
    conversation = Conversation(recorder)
    conversation.send(stream)
    await settle()
    (response,) = conversation.responses()
    assert (response.status, response.header(b"connection"), response.complete) == (status, b"close", True)
    assert recorder.messages == []
    assert conversation.transport.eof_written
    await conversation.lose()


@pytest.mark.any_loop
@pytest.mark.parametrize("name", [name for name in INVALID if name.startswith(FAULTY_CONTENT)])
async def test_application_never_gets_a_complete_request_with_invalid_content(name: str) -> None:
    """Covers A5 to A8. Each stream's name begins with its requirement."""
    stream, status = INVALID[name]
    bodies: list[bytes] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        bodies.append(await read_body(message, channels))

    conversation = Conversation(app)
    conversation.send(stream)
    await settle()
    (response,) = conversation.responses()
    assert (response.status, response.header(b"connection"), response.complete) == (status, b"close", True)
    assert bodies == []
    await conversation.lose()


@pytest.mark.any_loop
@pytest.mark.parametrize("name", VALID)
async def test_every_valid_request_stream_is_served(name: str) -> None:
    conversation = Conversation(echo)
    conversation.send(VALID[name])
    await settle()
    assert all(status in (100, 200) for status in conversation.statuses)
    await conversation.lose()


@pytest.mark.any_loop
async def test_A6_mutated_chunk_framing_gives_the_original_content_or_400() -> None:
    body = b"5\r\nhello\r\n6;ab=c\r\n world\r\na\r\n, and all.\r\n0\r\n\r\n"
    # Positions that do not affect the framing: the content itself, and the inside of an extension.
    free = {*range(3, 8), *range(18, 24), *range(29, 39), *range(12, 16)}
    assert (body[3:8], body[18:24], body[29:39], body[12:16]) == (b"hello", b" world", b", and all.", b"ab=c")
    for position in range(len(body)):
        for value in range(256):
            mutated = body[:position] + bytes([value]) + body[position + 1 :]
            bodies: list[bytes] = []

            async def app(message: Any, channels: Any, bodies: list[bytes] = bodies) -> None:
                bodies.append(await read_body(message, channels))
                await channels["reply"].send({"status": 200})

            conversation = Conversation(app)
            conversation.send(chunked(mutated) + GET)
            await settle(4)
            if bodies and position not in free:
                assert bodies[0] == b"hello world, and all.", mutated
            if not bodies:
                assert conversation.statuses in ([400], []), mutated
            await conversation.lose()


async def test_A7_chunk_extensions_within_their_limit_are_ignored() -> None:
    conversation = Conversation(echo)
    conversation.send(chunked((b"1;" + b"a" * 200 + b"\r\nx\r\n") * 40 + b"0\r\n\r\n"))
    await settle()
    assert conversation.responses()[0].content == b"POST / " + b"x" * 40


async def test_A8_trailers_are_not_merged_into_headers() -> None:
    recorder = Recorder(echo)
    conversation = Conversation(recorder)
    conversation.send(chunked(b"0\r\nx-evil: 1\r\n\r\n"))
    await settle()
    assert conversation.statuses == [200]
    assert [name for name, value in recorder.messages[0]["headers"]] == [b"host", b"transfer-encoding"]


async def test_A11_the_authority_of_an_absolute_target_replaces_the_host_field() -> None:
    recorder = Recorder(echo)
    conversation = Conversation(recorder)
    conversation.send(request(b"GET http://real.example:81/a?b HTTP/1.1", host=b"host: other.example"))
    await settle()
    message = recorder.messages[0]
    assert [value for name, value in message["headers"] if name == b"host"] == [b"real.example:81"]
    assert (message["path"], message["query_string"]) == ("/a", b"b")


async def test_A14_server_ignores_requests_after_a_refused_request() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(request(b"GET / HTTP/1.1", b"a : b") + GET * 100)
    conversation.send(GET * 100)
    await settle()
    assert (conversation.statuses, recorder.messages) == ([400], [])
    await conversation.lose()


async def test_A14_server_ignores_requests_after_malformed_content() -> None:
    recorder = Recorder(echo)
    conversation = Conversation(recorder)
    conversation.send(chunked(b"5\r\nhelloX\r\n") + GET * 100)
    await settle()
    assert (conversation.statuses, len(recorder.messages)) == ([400], 1)
    await conversation.lose()


async def test_A15_server_serves_the_next_request_after_unread_content() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(request(POST, b"content-length: 60000"))
    await settle()
    assert conversation.statuses == [200]
    conversation.send(b"x" * 60000 + request(b"GET /next HTTP/1.1"))
    await settle()
    assert [message["path"] for message in recorder.messages] == ["/", "/next"]


async def test_A15_unread_content_above_the_drain_limit_closes_the_connection() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(request(POST, b"content-length: 70000"))
    await settle()
    assert conversation.responses()[0].header(b"connection") == b"close"
    conversation.send(b"x" * 70000 + GET)
    await settle()
    assert len(recorder.messages) == 1
    await conversation.lose()


async def test_A15_unread_chunks_are_never_parsed_as_a_request() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(chunked(b""))
    await settle()
    # The length of the rest is unknown.
    assert conversation.responses()[0].header(b"connection") == b"close"
    assert conversation.transport.eof_written
    for _ in range(70):
        conversation.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
    conversation.send(b"0\r\n\r\n" + GET)
    await settle()
    assert len(recorder.messages) == 1
    await conversation.lose()


async def test_A15_connection_is_closed_when_unread_content_arrives_too_slowly() -> None:
    conversation = Conversation(hello)
    conversation.send(request(POST, b"content-length: 10", content=b"x"))
    await settle()
    conversation.clock.advance(3)
    assert conversation.transport.eof_written
    await conversation.lose()


@pytest.mark.any_loop
async def test_A15_unread_content_is_never_parsed_as_the_next_request() -> None:
    source = random.Random(15)
    for _ in range(2000):
        size = source.choice((0, 1, 10, 1000, 70000))
        content = request(b"GET /smuggled HTTP/1.1") * (size // 10) if source.random() < 0.5 else b"x" * size
        content = content[:size]
        if source.random() < 0.5:
            first = request(POST, b"content-length: %d" % size, content=content)
        else:
            pieces = [content[start : start + 500] for start in range(0, size, 500)]
            first = chunked(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")
        recorder = Recorder(source.choice((hello, echo)))
        conversation = Conversation(recorder)
        stream = first + request(b"GET /next HTTP/1.1")
        while stream and conversation.transport.reading:
            cut = source.choice((1000, 65536))
            conversation.send(stream[:cut])
            stream = stream[cut:]
            if source.random() < 0.3 or not conversation.transport.reading:
                await settle(4)
        await settle(4)
        assert [message["path"] for message in recorder.messages] in (["/"], ["/", "/next"])
        await conversation.lose()


async def test_A16_100_continue_is_sent_when_the_application_reads() -> None:
    may_read = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_read.wait()
        await echo(message, channels)

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 2", b"expect: 100-Continue"))
    await settle()
    assert conversation.received == b""
    may_read.set()
    await settle()
    assert conversation.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    conversation.send(b"a")
    await settle()
    conversation.send(b"b")
    await settle()
    assert conversation.statuses == [100, 200]


async def test_A16_response_sent_before_100_continue_closes_the_connection() -> None:
    conversation = Conversation(hello)
    conversation.send(request(POST, b"content-length: 2", b"expect: 100-continue"))
    await settle()
    (response,) = conversation.responses()
    assert (response.status, response.header(b"connection")) == (200, b"close")
    await conversation.lose()


async def test_A16_no_100_continue_is_sent_to_a_client_of_http_1_0() -> None:
    conversation = Conversation(echo)
    conversation.send(request(b"POST / HTTP/1.0", b"content-length: 1", b"expect: 100-continue"))
    await settle()
    assert conversation.received == b""
    conversation.send(b"x")
    await settle()
    assert conversation.statuses == [200]


async def test_A16_no_100_continue_is_sent_for_a_request_with_empty_content() -> None:
    conversation = Conversation(echo)
    conversation.send(request(POST, b"content-length: 0", b"expect: 100-continue"))
    await settle()
    assert conversation.statuses == [200]


async def test_A17_a_thousand_pipelined_requests_are_handled_in_order_one_at_a_time() -> None:
    source = random.Random(17)
    running = 0

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        nonlocal running
        running += 1
        assert running == 1
        for _ in range(source.randint(0, 3)):
            await asyncio.sleep(0)
        running -= 1
        await channels["reply"].send({"status": 200, "content": message["path"].encode()})

    conversation = Conversation(app)
    conversation.send(b"".join(request(b"GET /%d HTTP/1.1" % number) for number in range(1000)))
    await settle(8000)
    assert [response.content for response in conversation.responses()] == [b"/%d" % number for number in range(1000)]


async def test_A17_reading_pauses_until_queued_pipelined_requests_are_answered() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_reply.wait()
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(GET + GET * 2000, piece=1 << 20)
    assert conversation.transport.reading
    conversation.send(GET * 1000, piece=1 << 20)
    assert not conversation.transport.reading
    may_reply.set()
    await settle(10000)
    assert len(conversation.statuses) == 3001
    assert conversation.transport.reading


async def test_A18_an_upgrade_to_h2c_is_ignored() -> None:
    conversation = Conversation(echo)
    conversation.send(request(POST, b"connection: upgrade", b"upgrade: h2c", b"content-length: 1", content=b"x") + GET)
    await settle()
    assert conversation.statuses == [200, 200]


async def test_A18_bytes_after_a_rejected_upgrade_are_not_parsed() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(request(b"GET / HTTP/1.1", *HANDSHAKE) + GET)
    await settle()
    assert (conversation.statuses, len(recorder.messages)) == ([200], 1)
    assert conversation.responses()[0].header(b"connection") == b"close"
    await conversation.lose()


def test_A19_installed_httptools_version_is_allowed_by_setup_py() -> None:
    setup = (Path(__file__).parents[2] / "setup.py").read_text()
    (line,) = [line for line in setup.splitlines() if '"httptools' in line]
    requirement = Requirement(line.strip().strip('",'))
    assert requirement.specifier.contains(Version(httptools.__version__))
    assert not requirement.specifier.contains(Version("0.7.1"))


@pytest.mark.any_loop
@pytest.mark.parametrize("name", ["A1 length and coding", "A3", "A9 LF after a field", "A9 folded field", "A4 +5"])
async def test_A19_server_refuses_invalid_framing_that_llhttp_accepts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llhttp cannot be made to have the fault, so a parser that accepts everything replaces it."""

    class Lenient:
        def __init__(self, protocol: Any) -> None:
            self._protocol = protocol

        def feed_data(self, data: bytes) -> None:
            for line in data.split(b"\r\n")[1:-2]:
                field, colon, value = line.partition(b":")
                if colon:
                    self._protocol.on_header(field, value.strip())

    monkeypatch.setattr(httptools, "HttpRequestParser", Lenient)
    streams = {**{key: value[0] for key, value in INVALID.items()}, "A4 +5": INVALID["A4 b'+5'"][0]}
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(streams[name])
    await settle()
    assert (conversation.statuses, recorder.messages) == ([400], [])
    await conversation.lose()
