"""Requirements D1 to D16 limit what one client can use. `faults/` measures the limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.corpus import POST, chunked, request
from tests.helpers import GET, Conversation, Recorder, echo, hello, read_body, settle
from uvicorn.settings import Limits
from uvicorn.wire.http1.parser import HTTP1RequestParser


async def test_D1_header_above_the_size_limit_is_refused_before_it_is_stored() -> None:
    conversation = Conversation(hello)
    conversation.send(b"GET / HTTP/1.1\r\na: ")
    fed = 0
    while not conversation.received:
        conversation.send(b"b" * 1024)
        fed += 1024
    assert conversation.statuses == [431]
    assert fed <= 65536 + 1024
    await conversation.lose()


async def test_D1_server_drops_input_after_a_rejected_request_head() -> None:
    conversation = Conversation(hello)
    conversation.send(b"GET / HTTP/1.1\r\na: " + b"b" * 70000)
    dropped = 0
    while not conversation.transport.closing:
        conversation.send(b"b" * 65536)
        dropped += 65536
    assert dropped <= 6 * 65536


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("at_limit", "keyword"),
    [
        (request(b"GET /" + b"a" * (65536 - 14) + b" HTTP/1.1"), "max_request_line_bytes"),
        (request(b"GET / HTTP/1.1", b"a: " + b"b" * (65536 - 9 - 5)), "max_header_bytes"),
        (request(b"GET / HTTP/1.1", *[b"a: b"] * 499), "max_header_fields"),
    ],
)
async def test_D1_request_head_above_a_limit_is_rejected(at_limit: bytes, keyword: str) -> None:
    conversation = Conversation(hello)
    conversation.send(at_limit)
    await settle()
    assert conversation.statuses == [200]
    stricter = Conversation(hello, **{keyword: getattr(Limits(), keyword) - 1})
    stricter.send(at_limit)
    await settle()
    assert stricter.statuses in ([414], [431])
    await stricter.lose()


async def test_D2_received_bytes_do_not_extend_the_deadline_of_a_request_head() -> None:
    conversation = Conversation(hello)
    conversation.send(b"GET / HTTP/1.1\r\na: ")
    for _ in range(10):
        conversation.clock.advance(1)
        conversation.send(b"b")
    assert conversation.received == b""
    conversation.clock.advance(1)
    assert conversation.statuses == [408]
    await conversation.lose()


async def test_D2_deadline_of_a_second_head_begins_when_its_first_byte_arrives() -> None:
    conversation = Conversation(hello)
    conversation.send(GET)
    await settle()
    conversation.clock.advance(4)
    conversation.send(b"G")
    conversation.clock.advance(10)
    assert conversation.statuses == [200]
    conversation.clock.advance(1)
    assert conversation.statuses == [200, 408]
    await conversation.lose()


async def test_D2_silent_connection_is_closed_without_a_response() -> None:
    conversation = Conversation(hello)
    conversation.clock.advance(11)
    assert conversation.transport.closing
    assert conversation.received == b""


async def test_D3_application_gets_a_disconnect_when_the_content_stalls() -> None:
    chunks: list[dict[str, Any]] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        while not chunks or chunks[-1]["more_content"]:
            chunks.append(await channels["body"].receive())

    conversation = Conversation(app, min_content_rate=0)
    conversation.send(request(POST, b"content-length: 10", content=b"abc"))
    await settle()
    conversation.clock.advance(20)
    assert conversation.received == b""
    conversation.clock.advance(1)
    await settle()
    assert conversation.statuses == [408]
    assert chunks == [{"content": b"abc", "more_content": True}, {"closed": True, "more_content": False}]
    await conversation.lose()


async def test_D3_content_below_the_minimum_rate_is_refused_after_ten_seconds() -> None:
    conversation = Conversation(echo)
    conversation.send(request(POST, b"content-length: 100000"))
    for _ in range(10):
        conversation.send(b"x" * 100)
        await settle()
        conversation.clock.advance(1)
    assert conversation.received == b""
    conversation.send(b"x" * 100)
    conversation.clock.advance(1)
    assert conversation.statuses == [408]
    await conversation.lose()


async def test_D3_content_above_the_minimum_rate_has_no_deadline() -> None:
    conversation = Conversation(echo)
    conversation.send(request(POST, b"content-length: 60000"))
    for _ in range(100):
        conversation.send(b"x" * 600)
        await settle()
        conversation.clock.advance(1)
    assert conversation.statuses == [200]


async def test_D3_paused_reading_does_not_count_towards_the_content_rate() -> None:
    conversation = Conversation(lambda message, channels: asyncio.sleep(3600), interface="channels")
    conversation.send(request(POST, b"content-length: 1000000", content=b"x" * 70000), piece=1 << 20)
    assert not conversation.transport.reading
    conversation.clock.advance(100)
    assert conversation.received == b""
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


async def test_D4_send_waits_above_the_high_water_mark_of_the_write_buffer() -> None:
    sent: list[int] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        for number in range(4):
            await channels["reply"].send({"content": b"x" * 40000, "more_content": True})
            sent.append(number)
        await channels["reply"].send({})

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    assert sent == [0]
    conversation.transport.client_takes = True
    conversation.transport.take(100000)
    await settle()
    assert sent == [0, 1, 2, 3]


async def test_D4_a_client_that_reads_no_response_byte_for_a_minute_is_reset() -> None:
    conversation = Conversation(hello)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    conversation.clock.advance(60)
    assert not conversation.transport.aborted
    conversation.clock.advance(1)
    assert conversation.transport.aborted


async def test_D4_a_client_that_reads_a_response_slowly_is_not_reset() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"x" * 100000})

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    for _ in range(90):
        conversation.clock.advance(1)
        conversation.transport.take(1)
    assert not conversation.transport.aborted
    await conversation.lose()


async def test_D5_server_pauses_reading_above_64_KiB_of_unread_content() -> None:
    may_read = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_read.wait()
        body = await read_body(message, channels)
        await channels["reply"].send({"status": 200, "content": b"%d" % len(body)})

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 200000"))
    conversation.send(b"x" * 65536)
    assert conversation.transport.reading
    conversation.send(b"x")
    assert not conversation.transport.reading
    may_read.set()
    await settle()
    assert conversation.transport.reading
    left = 200000 - 65537
    while left:
        conversation.send(b"x" * min(left, 65536))
        left -= min(left, 65536)
        await settle()
    assert conversation.responses()[0].content == b"200000"


@pytest.mark.parametrize("first", [1, 65536, 131072])
@pytest.mark.parametrize("then", [b"", b"\r\n"])
async def test_D5_at_most_128_KiB_of_unread_content_are_buffered(first: int, then: bytes) -> None:
    """The event loop reads into the receive buffer until reading is paused."""
    conversation = Conversation(lambda message, channels: asyncio.sleep(3600), interface="channels")
    # The bytes after content of 2 bytes are held unparsed.
    conversation.send(request(POST, b"content-length: 1000000" if not then else b"content-length: 2"))
    conversation.send(then or b"x")
    conversation.connection.buffer_updated(first - 1 or 1)
    read = first
    while conversation.transport.reading:
        count = len(conversation.connection.get_buffer(-1))
        conversation.connection.buffer_updated(count)
        read += count
    assert 65536 < read <= 131072 + 1
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


class CountingSink:
    def __init__(self) -> None:
        self.calls = 0

    def on_request(self) -> None:
        self.calls += 1

    def on_content(self, content: bytes) -> None:
        self.calls += 1

    def on_message_complete(self) -> None:
        self.calls += 1


def test_D6_parser_delivers_the_content_of_many_tiny_chunks_in_one_call() -> None:
    sink = CountingSink()
    parser = HTTP1RequestParser(sink, Limits())
    parser.receive_data(chunked(b"1\r\nx\r\n" * 10000 + b"0\r\n\r\n"))
    assert sink.calls == 3


async def test_D7_reading_stops_during_a_flood_of_pipelined_requests() -> None:
    conversation = Conversation(lambda message, channels: asyncio.sleep(3600), interface="channels")
    sent = 0
    flood = GET * 100
    while conversation.transport.reading:
        conversation.send(flood)
        sent += len(flood)
    assert sent <= 65536 + 2 * len(flood)
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


@pytest.mark.any_loop
async def test_D8_request_head_that_arrives_byte_by_byte_is_scanned_once() -> None:
    """Counts work instead of time. Each byte may be searched a bounded number of times."""

    class CountingBuffer(bytearray):
        looked_at = 0

        def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
            CountingBuffer.looked_at += (len(self) if end is None else min(end, len(self))) - start
            return super().find(sub, start) if end is None else super().find(sub, start, end)

    parser = HTTP1RequestParser(CountingSink(), Limits())
    parser.buffer = CountingBuffer()
    stream = b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 90 + b"c: " + b"d" * 60000
    for position in range(len(stream)):
        parser.receive_data(stream[position : position + 1])
    assert CountingBuffer.looked_at < 8 * len(stream)


async def test_D9_number_above_20_digits_in_a_request_is_never_passed_to_int(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    longest = 0

    def watched_int(text: Any, base: int = 10) -> int:
        nonlocal longest
        longest = max(longest, len(text))
        return int(text, base)

    monkeypatch.setattr("uvicorn.wire.http1.parser.int", watched_int, raising=False)
    monkeypatch.setattr("uvicorn.wire.http1.chunked.int", watched_int, raising=False)
    for stream in (
        request(POST, b"content-length: " + b"0" * 17 + b"5", content=b"hello"),
        request(POST, b"content-length: " + b"1" * 60000),
        chunked(b"0" * 15 + b"5\r\nhello\r\n" + b"0" * 15 + b"\r\n\r\n"),
        chunked(b"1" * 60000),
    ):
        conversation = Conversation(hello)
        conversation.send(stream)
        await settle()
        await conversation.lose()
    assert 0 < longest <= 20


async def test_D10_client_above_the_concurrency_limit_gets_503_with_retry_after() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_reply.wait()
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app, limit_concurrency=1)
    conversation.send(GET)
    connection, transport = conversation.connect()
    connection.data_received(GET)
    await settle()
    assert transport.writes[0].startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in transport.writes[0]
    assert transport.closing
    may_reply.set()
    await settle()
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [200, 200]


async def test_D11_an_idle_connection_is_closed_after_the_keep_alive_timeout() -> None:
    conversation = Conversation(hello, timeout_keep_alive=5)
    conversation.send(GET)
    await settle()
    conversation.clock.advance(5)
    assert not conversation.transport.closing
    conversation.clock.advance(1)
    assert conversation.transport.closing


async def test_D11_jitter_gives_two_connections_different_keep_alive_timeouts() -> None:
    conversation = Conversation(hello, timeout_keep_alive=100)
    conversation.clock.jitter = lambda: 1.0  # type: ignore[method-assign]
    connection, transport = conversation.connect()
    conversation.send(GET)
    await settle()
    connection.data_received(GET)
    await settle()
    conversation.clock.advance(102)
    assert (conversation.transport.closing, transport.closing) == (True, False)
    conversation.clock.advance(10)
    assert transport.closing


async def test_D11_connection_with_a_request_in_progress_is_not_closed_as_idle() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_reply.wait()
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(GET)
    conversation.clock.advance(1000)
    may_reply.set()
    await settle()
    assert conversation.statuses == [200]


@pytest.mark.any_loop
async def test_D12_mutated_streams_raise_no_exception_in_the_event_loop() -> None:
    """tests/conftest.py fails a test that leaves a task or reaches the loop's exception handler."""
    import random

    from tests.corpus import INVALID, VALID, WEBSOCKET

    source = random.Random(12)
    seeds = [*VALID.values(), WEBSOCKET, *(stream for stream, status in INVALID.values() if len(stream) < 3000)]
    for _ in range(3000):
        stream = bytearray(source.choice(seeds))
        for _ in range(source.randint(1, 4)):
            position = source.randrange(len(stream))
            match source.randrange(4):
                case 0:
                    stream[position] = source.randrange(256)
                case 1:
                    del stream[position]
                case 2:
                    stream.insert(position, source.choice(b"\r\n\0 \t:;,0aA\xff"))
                case _:
                    stream[position:position] = source.choice(seeds)[:200]
            if not stream:
                stream += b"\0"
        conversation = Conversation(source.choice((hello, echo)))
        conversation.send(bytes(stream), piece=source.choice((1, 7, 100, 65536)))
        await settle(3)
        if source.random() < 0.5:
            conversation.send_eof()
        conversation.clock.advance(source.choice((0, 1, 30)))
        await settle(3)
        # h11 parses every complete response.
        for response in conversation.responses():
            assert response.status in (100, 200, 400, 403, 408, 413, 414, 417, 431, 501, 505)
        await conversation.lose()


async def test_D13_stopping_server_answers_a_request_in_flight() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_reply.wait()
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(GET)
    conversation.context.stopping = True
    conversation.connection.stop()
    assert not conversation.transport.closing
    may_reply.set()
    await settle()
    assert conversation.responses()[0].header(b"connection") == b"close"
    assert conversation.transport.closing


async def test_D13_an_idle_connection_is_closed_when_the_server_stops() -> None:
    conversation = Conversation(hello)
    conversation.send(GET)
    await settle()
    conversation.clock.advance(2)
    conversation.connection.stop()
    assert conversation.transport.closing


async def test_D13_stopping_server_answers_one_more_request_of_an_active_connection() -> None:
    conversation = Conversation(hello)
    conversation.send(GET)
    await settle()
    conversation.context.stopping = True
    conversation.connection.stop()
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [200, 200]
    assert conversation.transport.closing


async def test_D16_a_half_closed_client_gets_its_response() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_reply.wait()
        await channels["reply"].send({"status": 200, "content": b"hello"})

    conversation = Conversation(app)
    conversation.send(GET)
    conversation.send_eof()
    may_reply.set()
    await settle()
    assert [(response.status, response.complete) for response in conversation.responses()] == [(200, True)]
    assert conversation.transport.closing


async def test_D16_pipelined_requests_of_a_half_closed_client_are_all_answered() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(GET * 5)
    conversation.send_eof()
    await settle(100)
    assert conversation.statuses == [200] * 5
    assert conversation.transport.closing


async def test_D16_a_truncated_upload_of_a_half_closed_client_is_answered_with_400() -> None:
    recorder = Recorder(echo)
    conversation = Conversation(recorder)
    conversation.send(request(POST, b"content-length: 5", content=b"hel"))
    await settle()
    conversation.send_eof()
    await settle()
    assert conversation.statuses == [400]
    assert conversation.transport.closing


STATES = {
    "accepted": b"",
    "in the request line": b"GET / HT",
    "in the fields": b"GET / HTTP/1.1\r\nhost: ",
    "between fields and content": request(POST, b"content-length: 5"),
    "in content": request(POST, b"content-length: 5", content=b"he"),
    "in a chunk size": chunked(b"5"),
    "in a chunk": chunked(b"5\r\nhe"),
    "in trailers": chunked(b"0\r\nx: "),
    "application running": request(b"GET /wait HTTP/1.1"),
    "response begun": request(b"GET /begin HTTP/1.1"),
    "idle": GET,
    "refused": b"\n",
    "draining": request(b"POST /unread HTTP/1.1", b"content-length: 5"),
    "pipelined": request(b"GET /wait HTTP/1.1") + GET,
}


async def of_all_kinds(message: dict[str, Any], channels: dict[str, Any]) -> None:
    if message["path"] == "/begin":
        await channels["reply"].send({"status": 200, "more_content": True})
    if message["path"] in ("/begin", "/wait"):
        await asyncio.Event().wait()
    await (hello if message["path"] == "/unread" else echo)(message, channels)


@pytest.mark.parametrize("fault", ["reset", "half-close", "stall", "garbage", "stop", "cancel"])
@pytest.mark.parametrize("state", STATES)
async def test_D16_connection_fault_leaks_no_connection_and_no_request(state: str, fault: str) -> None:
    conversation = Conversation(of_all_kinds)
    if STATES[state]:
        conversation.send(STATES[state])
    await settle()
    match fault:
        case "reset":
            conversation.transport.reset()
        case "half-close":
            conversation.send_eof()
        case "stall":
            conversation.clock.advance(60)
        case "garbage":
            conversation.send(b"\0\xff\r\n\r\n")
        case "stop":
            conversation.context.stopping = True
            conversation.clock.advance(1)
            conversation.connection.stop()
        case "cancel":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
    await settle()
    await conversation.lose()
    await conversation.interface.tasks.finish(0)
    assert conversation.context.connections == set()
    assert conversation.context.requests == 0
