"""Requirements E1 to E11 limit what a WebSocket client can do.

`faults/` measures the limits that have figures. `scripts/autobahn` runs a test suite for E6.
"""

from __future__ import annotations

import asyncio
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.corpus import HANDSHAKE, request
from tests.helpers import Conversation, Recorder, hello, settle
from tests.websocket_client import WebSocketConversation
from tests.websocket_streams import BINARY, BINARY_PART, INVALID, LAST, MORE, PING, RSV1, TEXT, close, frame, header

Message = dict[str, Any]
Channels = dict[str, Any]

MEBIBYTE = 1 << 20
GET = b"GET /chat HTTP/1.1"


async def nothing(message: Message, channels: Channels) -> None:
    """Accept, and send nothing."""


async def echo(message: Message, channels: Channels) -> None:
    if message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"], "bytes": message["bytes"]})


async def opened(app: Any = nothing, **settings: Any) -> WebSocketConversation:
    conversation = WebSocketConversation(app, **settings)
    await conversation.open()
    return conversation


async def answer(*fields: bytes, host: bytes = b"host: example.org", app: Any = nothing, **settings: Any) -> int:
    """Return the status of the response to a handshake with `fields`."""
    conversation = Conversation(app, **settings)
    conversation.send(request(GET, *fields, host=host))
    await settle()
    # Parsed by hand: h11 does not parse a 101 response.
    status = int(conversation.received.split(b" ", 2)[1])
    await conversation.lose()
    return status


# E1


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"example.org", b"http://example.org"),
        (b"example.org:8000", b"https://example.org:8001"),
        (b"Example.org", b"HTTP://EXAMPLE.ORG"),
        (b"127.0.0.1:8000", b"http://localhost:8001"),
        (b"localhost:8000", b"http://127.0.0.1:8002"),
        (b"[::1]:8000", b"http://127.8.8.8"),
        (b"[2001:db8::1]:8000", b"http://[2001:db8::1]"),
    ],
)
async def test_E1_a_websocket_from_a_page_of_the_same_host_is_accepted(host: bytes, origin: bytes) -> None:
    assert await answer(*HANDSHAKE, b"origin: " + origin, host=b"host: " + host) == 101


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("host", "origin"),
    [
        (b"example.org", b"http://evil.example"),
        (b"example.org", b"http://sub.example.org"),
        (b"example.org", b"http://example.org.evil.example"),
        (b"example.org", b"http://example.org@evil.example"),
        (b"example.org", b"http://evil.example/example.org"),
        (b"example.org", b"file://example.org"),
        (b"example.org", b"example.org"),
        (b"example.org", b"null"),
        (b"example.org", b""),
        (b"localhost", b"http://localhost.evil.example"),
        (b"localhost", b"http://127.0.0.1.evil.example"),
        (b"localhost", b"http://0.0.0.0"),
        (b"192.168.0.1", b"http://localhost"),
    ],
)
async def test_E1_websocket_from_a_foreign_host_is_refused(host: bytes, origin: bytes) -> None:
    app = Recorder(nothing)
    assert await answer(*HANDSHAKE, b"origin: " + origin, host=b"host: " + host, app=app) == 403
    assert app.messages == []


async def test_E1_websocket_without_an_origin_field_is_accepted() -> None:
    assert await answer(*HANDSHAKE) == 101


async def test_E1_configured_origins_apply_instead_of_the_comparison_with_the_host() -> None:
    settings: dict[str, Any] = {"ws_allowed_origins": "https://a.example,https://b.example"}
    assert await answer(*HANDSHAKE, b"origin: https://b.example", **settings) == 101
    assert await answer(*HANDSHAKE, b"origin: https://example.org", **settings) == 403


async def test_E1_log_line_for_a_refused_origin_names_the_allowed_origins_option(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await answer(*HANDSHAKE, b"origin: http://evil.example")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "--ws-allowed-origins" in record.getMessage()


async def test_E1_ASGI_applications_accept_any_origin_unless_origins_are_configured() -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    origin = b"origin: https://a.example"
    assert await answer(*HANDSHAKE, origin, app=app) == 101
    assert await answer(*HANDSHAKE, origin, app=app, ws_allowed_origins="https://b.example") == 403


# E2


@pytest.mark.any_loop
@pytest.mark.parametrize(
    "field",
    [
        b"sec-websocket-protocol: \xff",
        b"sec-websocket-protocol: caf\xc3\xa9",
        b"sec-websocket-protocol: a b",
        b"sec-websocket-protocol: a,,\x22",
        b"sec-websocket-protocol: a, a",
        b"sec-websocket-extensions: permessage-deflate; =",
        b"sec-websocket-extensions: permessage-deflate; client_max_window_bits=\x22",
        b"sec-websocket-extensions: \xff",
        b"sec-websocket-version: 13",
        b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
    ],
)
async def test_E2_a_malformed_or_repeated_handshake_field_is_refused(field: bytes) -> None:
    assert await answer(*HANDSHAKE, field) == 400


@pytest.mark.any_loop
@pytest.mark.parametrize("key", [b"", b"x", b"A" * 24, b"A" * 22 + b"=", b"A" * 21 + b"\xc3\xa9==", b"A" * 43 + b"="])
async def test_E2_a_websocket_key_that_is_not_16_bytes_in_base64_is_refused(key: bytes) -> None:
    assert await answer(*HANDSHAKE[:3], b"sec-websocket-key: " + key) == 400


@pytest.mark.any_loop
@pytest.mark.parametrize("version", [b"0", b"8", b"14", b"013", b"13.0", b"1" * 5000])
async def test_E2_handshake_with_an_unsupported_version_gets_426(version: bytes) -> None:
    conversation = Conversation(nothing)
    conversation.send(request(GET, *HANDSHAKE[:2], HANDSHAKE[3], b"sec-websocket-version: " + version))
    await settle()
    (response,) = conversation.responses()
    assert (response.status, response.header(b"sec-websocket-version")) == (426, b"13")
    assert response.header(b"upgrade") == b"websocket"
    await conversation.lose()


@pytest.mark.any_loop
@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"OPTIONS", b"get"])
async def test_E2_only_GET_opens_a_websocket(method: bytes) -> None:
    conversation = Conversation(nothing)
    conversation.send(request(method + b" /chat HTTP/1.1", *HANDSHAKE))
    await settle()
    assert conversation.received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    await conversation.lose()


async def test_E2_a_websocket_upgrade_in_HTTP_1_0_is_ignored() -> None:
    app = Recorder(hello)
    conversation = Conversation(app)
    conversation.send(request(b"GET /chat HTTP/1.0", *HANDSHAKE))
    await settle()
    assert [message["channel"] for message in app.messages] == ["http.request"]
    await conversation.lose()


async def test_E2_handshake_with_content_is_rejected_before_the_application_is_called() -> None:
    app = Recorder(nothing)
    conversation = Conversation(app)
    conversation.send(request(GET, *HANDSHAKE, b"content-length: 8", content=frame(TEXT, b"hi")))
    await settle()
    assert (conversation.statuses, app.messages) == ([400], [])
    await conversation.lose()


# E3


@pytest.mark.any_loop
@pytest.mark.parametrize("before", [b"", frame(TEXT, b"a"), frame(BINARY_PART, b"a"), frame(PING)])
async def test_E3_unmasked_frame_at_any_position_closes_with_1002(before: bytes) -> None:
    codes = []
    for unmasked in (b"\x81\x02hi", b"\x82\x00", b"\x80\x01a", b"\x89\x00", b"\x88\x02\x03\xe8"):
        conversation = await opened()
        conversation.send(before + unmasked)
        await settle()
        codes.append(conversation.close_code)
        await conversation.lose()
    assert codes == [1002] * 5


# E4


async def test_E4_compression_bomb_closes_with_1009_without_filling_the_memory() -> None:
    stream = zlib.compressobj(9, wbits=-12)
    first, again = [stream.compress(bytes(MEBIBYTE)) + stream.flush(zlib.Z_SYNC_FLUSH) for _ in range(2)]
    # A gibibyte in a megabyte, as it would arrive.
    bomb = frame(BINARY | RSV1, first + again * 1023, mask=bytes(4))
    app = Recorder(nothing)
    conversation = await opened(app, compression=True, ws_max_size=MEBIBYTE)
    tracemalloc.start()
    conversation.send(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    await settle()
    assert conversation.close_code == 1009
    assert peak < 2 * MEBIBYTE
    await conversation.lose()
    assert [message["channel"] for message in app.messages] == ["websocket.connect", "websocket.disconnect"]


# E5


async def test_E5_oversized_frame_is_rejected_before_its_payload_arrives() -> None:
    conversation = await opened(ws_max_size=1000)
    conversation.send(frame(BINARY_PART, b"x" * 600) + header(LAST, 401))
    await settle()
    assert conversation.close_code == 1009
    await conversation.lose()


async def test_E5_message_exactly_at_the_size_and_fragment_limits_is_accepted() -> None:
    app = Recorder(nothing)
    conversation = await opened(app, ws_max_size=1000, ws_max_fragments=10)
    conversation.send(frame(BINARY_PART, b"x" * 100) + frame(MORE, b"x" * 100) * 8 + frame(LAST, b"x" * 100))
    await settle()
    assert app.messages[-1].get("bytes") == b"x" * 1000
    await conversation.lose()


async def test_E5_endless_empty_fragments_are_refused() -> None:
    conversation = await opened()
    conversation.send(frame(BINARY_PART) + frame(MORE) * 1023)
    for _ in range(15):
        await settle()
        conversation.send(frame(MORE) * 1024)
    await settle()
    assert conversation.close_code is None
    conversation.send(frame(MORE))
    await settle()
    assert conversation.close_code == 1009
    await conversation.lose()


# E6


@pytest.mark.any_loop
async def test_E6_application_gets_one_disconnect_with_the_close_code_of_a_protocol_error() -> None:
    answers = {}
    for name, (stream, _, compression) in INVALID.items():
        app = Recorder(nothing)
        conversation = await opened(app, compression=compression, ws_max_size=1000, ws_max_fragments=10)
        conversation.send(stream)
        await settle()
        code = conversation.close_code
        await conversation.lose()
        ends = [message["code"] for message in app.messages if message["channel"] == "websocket.disconnect"]
        answers[name] = (code, ends)
    assert answers == {name: (code, [code]) for name, (_, code, _) in INVALID.items()}


async def test_E6_messages_before_a_protocol_error_are_answered() -> None:
    conversation = await opened(echo)
    conversation.send(frame(TEXT, b"before") + frame(TEXT | RSV1, b"fault") + frame(TEXT, b"after"))
    await settle()
    assert (conversation.heard, conversation.close_code) == (["before"], 1002)
    await conversation.lose()


async def test_E6_protocol_error_followed_by_FIN_closes_with_1002() -> None:
    app = Recorder(nothing)
    conversation = await opened(app)
    conversation.send(frame(TEXT | RSV1))
    conversation.send_eof()
    await settle()
    assert (conversation.close_code, app.messages[-1]["code"]) == (1002, 1002)


async def test_E6_pongs_for_a_client_that_does_not_read_stay_within_the_buffer_limit() -> None:
    conversation = await opened()
    conversation.transport.client_takes = False
    for _ in range(1000):
        conversation.send(frame(PING, b"x" * 125) * 10)
    # The write buffer's 64 KiB, and the pong that exceeded them.
    assert conversation.transport.unsent <= 65536 + 127
    await conversation.lose()


# E7


async def test_E7_awaited_sends_stay_within_the_write_buffer_limit() -> None:
    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            for _ in range(10_000):
                await channels["reply"].send({"bytes": b"x" * 1000})

    conversation = WebSocketConversation(app, timeout_disconnect=0.0)
    conversation.transport.client_takes = False
    await conversation.open()
    await settle()
    assert 65536 < conversation.transport.unsent <= 65536 + 1004
    await conversation.lose()


@pytest.mark.parametrize("size", [1, 1000, 100_000, MEBIBYTE])
async def test_E7_too_many_unsent_messages_close_the_websocket_with_1013(size: int) -> None:
    app = Recorder(nothing)
    conversation = await opened(app)
    conversation.transport.client_takes = False
    for _ in range(100_000):
        app.channels[0]["reply"].send({"bytes": b"x" * size})
        if conversation.transport.eof_written:
            break
    assert conversation.close_code == 1013
    # The limit of unsent bytes, and the close frame.
    assert conversation.transport.unsent <= (4 << 20) + 4
    await conversation.lose()


async def test_E7_a_client_that_does_not_answer_pings_is_closed() -> None:
    conversation = await opened()
    conversation.clock.advance(41)
    assert conversation.close_code is None
    conversation.clock.advance(1)
    assert conversation.close_code == 1011
    await conversation.lose()


# E8


@pytest.mark.parametrize("size", [0, 100, 60_000])
async def test_E8_reading_pauses_when_the_application_handles_messages_too_slowly(size: int) -> None:
    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.receive":
            await asyncio.get_running_loop().create_future()

    recorder = Recorder(app)
    conversation = await opened(recorder, timeout_disconnect=0.0)
    sent, message = 0, frame(BINARY, bytes(size))
    while conversation.transport.reading and sent < 10_000:
        conversation.send(message)
        sent += 1
        await settle(2)
    # The connect event, and 16 messages that the application is handling.
    assert (len(recorder.messages), sent) == (17, 16)
    await conversation.lose()


async def test_E8_messages_buffered_while_reading_is_paused_are_handled_in_order() -> None:
    may_end = asyncio.Event()

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.receive":
            await may_end.wait()

    recorder = Recorder(app)
    conversation = await opened(recorder)
    conversation.send(b"".join(frame(TEXT, b"%d" % number) for number in range(1000)))
    await settle()
    assert (len(recorder.messages), conversation.transport.reading) == (17, False)
    may_end.set()
    await settle(1000)
    assert [message["text"] for message in recorder.messages[1:]] == [str(number) for number in range(1000)]
    assert conversation.transport.reading
    await conversation.lose()


async def test_E8_a_flood_of_control_frames_does_not_block_other_connections() -> None:
    conversation = await opened()
    writes = len(conversation.transport.writes)
    conversation.send(frame(PING) * 1000)
    assert (len(conversation.transport.writes) - writes, conversation.transport.reading) == (256, False)
    await settle()
    assert (len(conversation.transport.writes) - writes, conversation.transport.reading) == (1000, True)
    await conversation.lose()


async def test_E8_close_frame_of_the_client_is_handled_after_a_flood_of_frames() -> None:
    app = Recorder(nothing)
    conversation = await opened(app)
    app.channels[0]["reply"].send({"close": 3000})
    conversation.send(frame(PING) * 1000 + frame(TEXT, b"unheard") + close(3000))
    assert not conversation.transport.reading
    await settle()
    assert [message["channel"] for message in app.messages] == ["websocket.connect", "websocket.disconnect"]
    assert app.messages[-1]["code"] == 3000
    await conversation.lose()


async def test_E8_pings_on_a_broken_connection_are_not_answered() -> None:
    """The event loop would log a line for each pong."""
    conversation = await opened()
    conversation.transport.closing = True
    # The test fails if the server answers.
    conversation.transport.protocol.data_received(frame(PING) * 1000)
    conversation.transport.reset()
    await settle()


# E9


async def _say_close(conversation: WebSocketConversation) -> None:
    conversation.client.send_close(1000)
    await conversation.flush()


async def _end(conversation: WebSocketConversation) -> None:
    conversation.send_eof()


async def _answer_the_close(conversation: WebSocketConversation) -> None:
    await conversation.say("close")
    conversation.look()
    await conversation.flush()


async def _do_not_answer_the_close(conversation: WebSocketConversation) -> None:
    await conversation.say("close")
    conversation.clock.advance(30)


async def _fail_and_reset(conversation: WebSocketConversation) -> None:
    await conversation.say("fail")


async def _reset_while_a_handler_runs(conversation: WebSocketConversation) -> None:
    await conversation.say("wait")


async def _reset(conversation: WebSocketConversation) -> None:
    conversation.transport.reset()


async def _close_and_reset(conversation: WebSocketConversation) -> None:
    await _say_close(conversation)
    conversation.transport.reset()


async def _be_silent(conversation: WebSocketConversation) -> None:
    conversation.clock.advance(60)


async def _read_nothing(conversation: WebSocketConversation) -> None:
    conversation.transport.client_takes = False
    await conversation.say("echo")
    conversation.clock.advance(120)


async def _break_the_protocol(conversation: WebSocketConversation) -> None:
    conversation.send(b"\xff\xff")


async def _stop_the_server(conversation: WebSocketConversation) -> None:
    for connection in tuple(conversation.context.connections):
        connection.stop()


async def _close_while_the_server_stops(conversation: WebSocketConversation) -> None:
    await _stop_the_server(conversation)
    await _say_close(conversation)


@pytest.mark.parametrize(
    "end",
    [
        _say_close,
        _end,
        _answer_the_close,
        _do_not_answer_the_close,
        _fail_and_reset,
        _reset_while_a_handler_runs,
        _reset,
        _close_and_reset,
        _be_silent,
        _read_nothing,
        _break_the_protocol,
        _stop_the_server,
        _close_while_the_server_stops,
    ],
)
@pytest.mark.parametrize("endless", [False, True], ids=["connect returns", "connect does not return"])
async def test_E9_the_application_gets_one_disconnect_for_an_accepted_websocket(
    end: Callable[[WebSocketConversation], Awaitable[None]], endless: bool
) -> None:
    async def app(message: Message, channels: Channels) -> None:
        text = message.get("text")
        if message["channel"] == "websocket.connect":
            await channels["reply"].send({"accept": True})
        if text == "close":
            await channels["reply"].send({"close": 3000})
        elif text == "fail":
            raise ValueError
        elif text == "wait" or (endless and message["channel"] == "websocket.connect"):
            await asyncio.get_running_loop().create_future()
        elif text:
            await channels["reply"].send({"text": text})

    recorder = Recorder(app)
    conversation = await opened(recorder, timeout_disconnect=0.0)
    await end(conversation)
    await settle()
    await conversation.lose()
    await asyncio.sleep(0)
    channels = [message["channel"] for message in recorder.messages]
    assert channels.count("websocket.disconnect") == 1
    assert channels[-1] == "websocket.disconnect"


@pytest.mark.parametrize("answer", [{"accept": False}, {"status": 401}, {"close": True}])
async def test_E9_application_gets_no_disconnect_after_it_rejects_a_websocket(answer: Message) -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send(answer)

    recorder = Recorder(app)
    conversation = await opened(recorder)
    await conversation.lose()
    assert [message["channel"] for message in recorder.messages] == ["websocket.connect"]


# E10


@pytest.mark.parametrize("piece", [1000, 65536])
async def test_E10_frames_before_the_handshake_response_are_buffered_up_to_the_read_limit(piece: int) -> None:
    may_decide = asyncio.Event()

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            await may_decide.wait()

    recorder = Recorder(app)
    conversation = await opened(recorder)
    stream = frame(TEXT, b"early") * 100_000
    sent = 0
    while conversation.transport.reading:
        conversation.send(stream[sent : sent + piece])
        sent += piece
    assert sent <= 65536 + piece
    may_decide.set()
    await settle()
    assert recorder.messages[1]["text"] == "early"
    await conversation.lose()


async def test_E10_handshake_is_rejected_if_the_application_does_not_answer_in_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: Message, channels: Channels) -> None:
        await asyncio.get_running_loop().create_future()

    conversation = await opened(app, ws_accept_timeout=0.0, timeout_disconnect=0.0)
    while not conversation.status:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert conversation.status == 403
    await conversation.lose()


async def test_E10_exception_in_the_connect_handler_rejects_the_handshake_with_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: Message, channels: Channels) -> None:
        raise ValueError

    conversation = await opened(app)
    assert conversation.status == 500
    await conversation.lose()


# E11


async def test_E11_no_frame_of_the_server_is_masked() -> None:
    conversation = await opened(echo)
    head = len(conversation.received)
    conversation.send(frame(TEXT, b"a") + frame(BINARY, b"b") + frame(PING, b"c"))
    await settle()
    conversation.clock.advance(21)
    conversation.client.send_close()
    await conversation.flush()
    frames = conversation.received[head:]
    kinds = []
    while frames:
        kinds.append(frames[0])
        assert frames[1] < 0x80
        frames = frames[2 + frames[1] :]
    # Whether a pong or an echo comes first is up to the event loop.
    assert sorted(kinds) == [0x81, 0x82, 0x88, 0x89, 0x8A]
    await conversation.lose()
