"""HTTP/1.1 connections on a recording transport. Requirements by id are in tests/security."""

from __future__ import annotations

import asyncio
import gc
import socket
import weakref
from typing import Any

import pytest

from tests.corpus import HANDSHAKE, POST, chunked, request
from tests.helpers import GET, Conversation, Recorder, echo, hello, settle


async def test_complete_response_is_one_write() -> None:
    conversation = Conversation(hello)
    conversation.send(GET)
    await settle()
    assert len(conversation.transport.writes) == 1


async def test_content_of_a_large_response_is_not_copied() -> None:
    content = b"x" * 1_000_000

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": content})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert len(conversation.transport.writes) == 2
    assert conversation.responses()[0].content == content


async def test_head_of_a_streamed_response_is_sent_at_once() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        await asyncio.Event().wait()

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.received.endswith(b"\r\n\r\n")
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


async def test_http_1_0_connection_is_closed_unless_the_client_requests_keep_alive() -> None:
    conversation = Conversation(hello)
    conversation.send(request(b"GET / HTTP/1.0", b"connection: keep-alive"))
    await settle()
    assert not conversation.transport.closing
    conversation.send(request(b"GET / HTTP/1.0"))
    await settle()
    assert conversation.transport.closing
    assert conversation.statuses == [200, 200]


async def test_connection_closes_at_the_end_of_a_stream_to_an_http_1_0_client() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"a", "more_content": True})
        await channels["reply"].send({"content": b"b"})

    conversation = Conversation(app)
    conversation.send(request(b"GET / HTTP/1.0", b"connection: keep-alive"))
    await settle()
    (response,) = conversation.responses()
    assert (response.content, response.header(b"transfer-encoding"), response.complete) == (b"ab", None, True)
    assert conversation.transport.closing


async def test_exception_in_a_stream_to_an_http_1_0_client_resets_the_connection() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"a", "more_content": True})
        raise ValueError("boom")

    conversation = Conversation(app)
    conversation.send(request(b"GET / HTTP/1.0"))
    await settle()
    assert conversation.transport.aborted


async def test_pipelined_GET_is_answered_after_a_response_to_HEAD() -> None:
    conversation = Conversation(echo)
    conversation.send(request(b"HEAD / HTTP/1.1") + GET)
    await settle()
    first, second = conversation.responses("HEAD", "GET")
    assert (first.content, second.content) == (b"", b"GET / ")


async def test_request_content_is_read_while_the_response_is_streamed() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        while True:
            chunk = await channels["body"].receive()
            await channels["reply"].send({"content": chunk["content"], "more_content": chunk["more_content"]})
            if not chunk["more_content"]:
                break

    conversation = Conversation(app)
    conversation.send(chunked(b"3\r\nabc\r\n"))
    await settle()
    assert conversation.received.endswith(b"3\r\nabc\r\n")
    conversation.send(b"1\r\nd\r\n0\r\n\r\n")
    await settle()
    assert conversation.responses()[0].content == b"abcd"


async def test_malformed_request_content_during_a_streamed_response_resets_the_connection() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        while (await channels["body"].receive())["more_content"]:
            pass

    conversation = Conversation(app)
    conversation.send(chunked(b"3\r\nabc\r\n"))
    await settle()
    conversation.send(b"zz\r\n")
    await settle()
    assert conversation.transport.aborted
    assert conversation.context.requests == 0


async def test_100_continue_is_not_sent_after_the_response_has_begun() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        await channels["body"].receive()
        await channels["reply"].send({})

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 1", b"expect: 100-continue"))
    await settle()
    conversation.send(b"x")
    await settle()
    assert conversation.statuses == [200]
    await conversation.lose()


async def test_receive_does_not_return_the_content_of_the_next_request() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(request(POST, b"content-length: 1", content=b"x"))
    await settle()
    conversation.send(request(POST, b"content-length: 1", b"expect: 100-continue"))
    body = recorder.channels[0]["body"]
    assert (await body.receive())["content"] == b"x"
    assert (await body.receive())["more_content"] is False
    await conversation.lose()


async def test_all_waiting_sends_return_when_the_client_reads_again() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        reply.send({"status": 200, "content": b"x" * 100000, "more_content": True})
        await asyncio.gather(*(reply.send({"content": b"y" * 100000, "more_content": True}) for _ in range(2)))
        await reply.send({})

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 20)
    await settle()
    assert conversation.responses()[0].complete


async def test_failed_write_ends_a_handler_that_sends_in_an_endless_loop() -> None:
    sends = 0

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        nonlocal sends
        await channels["reply"].send({"status": 200, "more_content": True})
        # As asyncio does when a write has failed: closing, and connection_lost in the loop's next iteration.
        conversation.transport.closing = True
        while True:
            sends += 1
            await channels["reply"].send({"content": b"x", "more_content": True})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert sends == 2
    conversation.connection.connection_lost(None)


async def test_client_that_half_closes_in_the_middle_of_a_head_gets_no_response() -> None:
    conversation = Conversation(hello)
    conversation.send(GET + b"GET / HT")
    await settle()
    conversation.send_eof()
    assert conversation.transport.closing
    assert conversation.statuses == [200]


async def test_incomplete_pipelined_head_closes_the_connection_after_the_previous_response() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_reply.wait()
        await hello(message, channels)

    conversation = Conversation(app)
    conversation.send(GET + b"GET / HT")
    conversation.send_eof()
    may_reply.set()
    await settle()
    assert conversation.statuses == [200]
    assert conversation.transport.closing


async def test_malformed_pipelined_request_is_rejected_after_the_previous_response() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_reply.wait()
        await hello(message, channels)

    conversation = Conversation(app)
    conversation.send(GET + b"\0")
    await settle()
    assert conversation.received == b""
    may_reply.set()
    await settle()
    assert conversation.statuses == [200, 400]
    await conversation.lose()


async def test_paused_reading_resumes_during_the_lingering_close_of_a_rejected_request() -> None:
    conversation = Conversation(lambda message, channels: asyncio.sleep(3600), interface="channels")
    conversation.send(chunked(b"11170\r\n" + b"x" * 70000 + b"\r\n"), piece=1 << 20)
    assert not conversation.transport.reading
    conversation.connection.data_received(b"zz\r\n")
    assert conversation.transport.reading
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


async def test_lingering_close_ends_when_the_client_half_closes() -> None:
    conversation = Conversation(hello)
    conversation.send(b"\n")
    assert not conversation.transport.closing
    conversation.send_eof()
    assert conversation.transport.closing


async def test_lingering_close_ends_after_its_timeout() -> None:
    conversation = Conversation(hello)
    conversation.send(b"\n")
    conversation.clock.advance(2)
    assert conversation.transport.closing


async def test_second_reset_of_a_connection_does_nothing() -> None:
    conversation = Conversation(hello)
    conversation.connection.reset()
    conversation.connection.reset()
    await settle()
    assert conversation.transport.aborted


async def test_connection_whose_socket_rejects_SO_LINGER_is_aborted() -> None:
    class Gone:
        family = socket.AF_INET

        def setsockopt(self, *option: Any) -> None:
            raise OSError("gone")

    conversation = Conversation(hello)
    conversation.transport._extra["socket"] = Gone()  # type: ignore[attr-defined]
    conversation.connection.reset()
    await settle()
    assert conversation.transport.aborted


async def test_transport_that_cannot_half_close_is_closed_after_the_lingering_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conversation = Conversation(hello)
    monkeypatch.setattr(conversation.transport, "can_write_eof", lambda: False)
    conversation.send(b"\n")
    assert not conversation.transport.eof_written
    conversation.clock.advance(2)
    assert conversation.transport.closing


async def test_write_timeout_of_a_streamed_response_ends_its_handler() -> None:
    ended: list[bool] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        try:
            await channels["reply"].send({"status": 200, "more_content": True})
            while True:
                await channels["reply"].send({"content": b"x" * 100000, "more_content": True})
        finally:
            ended.append(True)

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    conversation.clock.advance(61)
    await settle()
    assert (conversation.transport.aborted, ended) == (True, [True])


async def test_connection_above_limit_concurrency_gets_503_and_is_closed() -> None:
    conversation = Conversation(hello, limit_concurrency=1)
    connection, transport = conversation.connect()
    connection.data_received(request(POST, b"content-length: 5", content=b"he"))
    await settle()
    assert transport.writes[0].startswith(b"HTTP/1.1 503 ")
    assert transport.eof_written
    transport.reset()
    await conversation.lose()


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (("127.0.0.1", 80), ("127.0.0.1", 80)),
        (("::1", 80, 0, 0), ("::1", 80)),
        ("/run/app.sock", None),
        ("", None),
        (None, None),
    ],
)
async def test_each_address_in_a_message_is_a_host_port_pair_or_None(name: Any, expected: Any) -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.transport._extra.update(sockname=name, peername=name)  # type: ignore[attr-defined]
    conversation.connection.connection_made(conversation.transport)
    conversation.send(GET)
    await settle()
    assert (recorder.messages[0]["server"], recorder.messages[0]["client"]) == (expected, expected)


async def test_D7_pipelined_requests_wait_while_the_client_reads_no_response() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder, write_buffer_bytes=1000)
    conversation.transport.client_takes = False
    conversation.send(GET * 100)
    await settle()
    assert len(recorder.messages) < 20
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 20)
    await settle(500)
    assert conversation.statuses == [200] * 100


async def test_D7_requests_sent_one_by_one_wait_while_the_client_reads_no_response() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder, write_buffer_bytes=1000)
    conversation.transport.client_takes = False
    for _ in range(100):
        conversation.send(GET)
        await settle(2)
    assert len(recorder.messages) < 20
    conversation.send_eof()
    assert not conversation.transport.closing
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 20)
    await settle(500)
    assert conversation.statuses == [200] * 100
    assert conversation.transport.closing


async def test_D7_malformed_request_of_a_slow_client_is_rejected_after_earlier_responses() -> None:
    conversation = Conversation(hello, write_buffer_bytes=100)
    conversation.transport.client_takes = False
    conversation.send(GET + b"\0")
    await settle()
    assert conversation.statuses == [200]
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 20)
    await settle()
    assert conversation.statuses == [200, 400]
    await conversation.lose()


async def test_D7_lost_connection_discards_its_queued_requests() -> None:
    conversation = Conversation(hello, write_buffer_bytes=100)
    conversation.transport.client_takes = False
    conversation.send(GET * 3)
    await settle()
    await conversation.lose()
    assert (conversation.context.connections, conversation.context.requests) == (set(), 0)


async def stream_first(message: dict[str, Any], channels: dict[str, Any]) -> None:
    await channels["reply"].send({"status": 200, "content": b"a", "more_content": True})


async def test_sends_after_a_connection_reset_do_not_lower_the_request_count_again() -> None:
    clients: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        clients.append(channels["reply"])
        await stream_first(message, channels)

    conversation = Conversation(app, max_unsent_bytes=1000)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    for more_content in (True, True, False):
        clients[0].send({"content": b"x" * 100000, "more_content": more_content})
    await settle()
    assert conversation.context.requests == 0
    assert conversation.transport.aborted


async def test_pipelined_requests_are_not_served_after_the_client_has_disconnected() -> None:
    recorder = Recorder(stream_first)
    conversation = Conversation(recorder)
    conversation.send(GET + request(b"POST /2 HTTP/1.1"))
    await settle()
    conversation.transport.closing = True
    recorder.channels[0]["reply"].send({"content": b"end"})
    await settle()
    assert len(recorder.messages) == 1
    conversation.connection.connection_lost(None)


async def test_stream_is_aborted_if_the_application_drops_the_reply_channel(caplog: pytest.LogCaptureFixture) -> None:
    conversation = Conversation(stream_first)
    conversation.send(GET)
    await settle()
    assert conversation.transport.aborted
    assert "left the response unfinished" in caplog.text


async def test_stream_continues_while_the_application_keeps_the_reply_channel() -> None:
    recorder = Recorder(stream_first)
    conversation = Conversation(recorder, reply_timeout=0)
    conversation.send(GET)
    await settle()
    conversation.clock.advance(1000)
    await settle()
    recorder.channels[0]["reply"].send({"content": b"b"})
    assert conversation.responses()[0].content == b"ab"


async def test_A15_response_makes_the_server_read_and_discard_the_rest_of_the_content() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["path"] == "/":
            await may_reply.wait()
        await hello(message, channels)

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 120000", content=b"x" * 70000), piece=1 << 20)
    assert not conversation.transport.reading
    may_reply.set()
    await settle()
    assert conversation.transport.reading
    conversation.send(b"x" * 50000 + request(b"GET /next HTTP/1.1"))
    await settle()
    assert conversation.statuses == [200, 200]


async def test_pipelined_head_larger_than_the_read_buffer_is_served() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_reply.wait()
        await hello(message, channels)

    conversation = Conversation(app, read_buffer_bytes=100)
    second = request(b"GET /2 HTTP/1.1", b"cookie: " + b"x" * 1500)
    conversation.send(GET + second[:1000])
    assert not conversation.transport.reading
    may_reply.set()
    await settle()
    conversation.send(second[1000:])
    await settle()
    assert conversation.statuses == [200, 200]


async def test_reading_pauses_while_content_of_a_second_pipelined_request_is_unread() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["method"] == "POST":
            await may_reply.wait()
        await hello(message, channels)

    conversation = Conversation(app, read_buffer_bytes=100)
    conversation.send(GET + request(POST, b"content-length: 1000", content=b"x" * 1000), piece=1 << 20)
    await settle()
    assert (conversation.statuses, conversation.transport.reading) == ([200], False)
    may_reply.set()
    await settle()
    assert (conversation.statuses, conversation.transport.reading) == ([200, 200], True)


async def test_reading_resumes_when_the_application_has_received_the_buffered_content() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        await channels["body"].receive()
        await asyncio.Event().wait()

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 100000", content=b"x" * 100000), piece=1 << 20)
    assert not conversation.transport.reading
    await settle()
    assert conversation.transport.reading
    await conversation.lose()
    await conversation.interface.tasks.finish(0)


async def test_lingering_close_does_not_end_while_the_client_reads_the_response() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"x" * 1000000})

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(request(POST, b"content-length: 400000"))
    await settle()
    for _ in range(30):
        conversation.clock.advance(1)
        conversation.transport.take(10000)
    assert not conversation.transport.closing
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 20)
    conversation.clock.advance(5)
    assert conversation.transport.closing


async def test_slow_client_that_reads_some_bytes_each_second_is_not_reset() -> None:
    recorder = Recorder(stream_first)
    conversation = Conversation(recorder)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    for _ in range(100):
        recorder.channels[0]["reply"].send({"content": b"x" * 1000, "more_content": True})
        conversation.transport.take(900)
        conversation.clock.advance(1)
    assert not conversation.transport.aborted
    await conversation.lose()


async def test_connection_ends_once_after_a_reset_and_malformed_content() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await stream_first(message, channels)
        conversation.connection.reset()

    conversation = Conversation(app)
    conversation.send(chunked(b"zz\r\n"))
    await settle()
    # On 3.11 handlers start an iteration later, after the refusal; either ends the connection, but not both.
    assert conversation.transport.aborted != conversation.transport.eof_written
    await conversation.lose()


@pytest.mark.any_loop
@pytest.mark.parametrize("host", [None, b"host: a/b@c d"])
async def test_A11_request_with_an_absolute_target_needs_a_valid_host_field(host: bytes | None) -> None:
    conversation = Conversation(hello)
    conversation.send(request(b"GET http://x/ HTTP/1.1", host=host))
    assert conversation.statuses == [400]
    await conversation.lose()


async def test_A18_upgrade_field_with_websocket_in_a_list_starts_a_handshake() -> None:
    conversation = Conversation(hello)
    conversation.send(
        request(b"GET / HTTP/1.1", b"connection: upgrade", b"upgrade: websocket, x", *HANDSHAKE[2:]) + GET
    )
    await settle()
    assert conversation.statuses == [200]
    await conversation.lose()


async def test_minimum_content_rate_does_not_apply_to_a_half_closed_client() -> None:
    may_reply = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await may_reply.wait()
        await hello(message, channels)

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 5", content=b"he"))
    conversation.send_eof()
    conversation.clock.advance(4)
    may_reply.set()
    await settle()
    assert conversation.statuses == [200]


async def test_lost_connection_is_freed_without_the_garbage_collector() -> None:
    conversation = Conversation(hello)
    connection, transport = conversation.connect()
    connection.data_received(GET)
    await settle()
    transport.reset()
    await settle()
    freed = weakref.ref(connection._parser)
    gc.disable()
    try:
        transport.protocol = None  # type: ignore[assignment]
        del connection, transport
        assert freed() is None
    finally:
        gc.enable()


async def test_failed_deadline_check_does_not_prevent_the_check_of_other_connections(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = Conversation(hello)
    connection, transport = conversation.connect()

    class Broken:
        def tick(self) -> None:
            raise ValueError("boom")

        def served(self) -> None: ...

        def stop(self) -> None: ...

        def reset(self, reason: str = "") -> None:
            conversation.context.connections.discard(self)

    conversation.context.connections.add(Broken())
    conversation.clock.advance(12)
    assert conversation.transport.closing
    assert transport.closing
    assert caplog.text.count("checking the deadlines of a connection failed; resetting the connection") == 1
