"""WebSocket connections on a recording transport: accept, keepalive, close, limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.frames import Opcode

from tests.helpers import Recorder, settle
from tests.websocket_client import WebSocketConversation


async def nothing(message: dict[str, Any], channels: dict[str, Any]) -> None:
    """Accept, and send nothing."""


async def opened(app: Any = nothing, **settings: Any) -> WebSocketConversation:
    conversation = WebSocketConversation(app, **settings)
    await conversation.open()
    return conversation


async def test_e3_an_unmasked_frame_closes_with_1002(caplog: pytest.LogCaptureFixture) -> None:
    app = Recorder(nothing)
    conversation = await opened(app)
    conversation.send(b"\x81\x02hi")
    await settle()
    assert conversation.close_code == 1002
    assert [message["channel"] for message in app.messages] == ["websocket.connect", "websocket.disconnect"]
    assert [record.getMessage() for record in caplog.records] == [
        "127.0.0.1:51234 websocket closed: frame without a mask (1002)"
    ]


async def test_e5_a_message_over_the_limit_closes_with_1009(caplog: pytest.LogCaptureFixture) -> None:
    app = Recorder(nothing)
    conversation = await opened(app, ws_max_size=1000)
    await conversation.say("x" * 1001)
    assert conversation.close_code == 1009
    assert app.messages[-1]["code"] == 1009


async def test_e6_every_ping_of_a_client_that_reads_is_answered() -> None:
    conversation = await opened()
    for number in range(10):
        conversation.client.send_ping(b"%d" % number)
    await conversation.flush()
    conversation.look()
    pongs = [bytes(frame.data) for frame in conversation.frames if frame.opcode is Opcode.PONG]
    assert pongs == [b"%d" % number for number in range(10)]


async def test_e6_client_that_resumes_reading_gets_a_pong_only_for_the_latest_ping() -> None:
    conversation = await opened()
    conversation.transport.client_takes = False
    conversation.transport.protocol.pause_writing()
    written = len(conversation.transport.writes)
    for number in range(5000):
        conversation.client.send_ping(b"%d" % number)
    await conversation.flush()
    assert len(conversation.transport.writes) == written
    conversation.transport.protocol.resume_writing()
    conversation.look()
    assert [bytes(frame.data) for frame in conversation.frames] == [b"4999"]


async def test_e7_silent_client_is_pinged_then_closed_with_1011(caplog: pytest.LogCaptureFixture) -> None:
    app = Recorder(nothing)
    conversation = await opened(app, ws_ping_interval=20.0, ws_ping_timeout=20.0)
    conversation.clock.advance(20)
    conversation.look()
    assert conversation.frames == []
    conversation.clock.advance(1)
    conversation.look()
    assert [frame.opcode for frame in conversation.frames] == [Opcode.PING]
    conversation.clock.advance(20)
    assert conversation.close_code is None
    conversation.clock.advance(1)
    await settle()
    assert conversation.close_code == 1011
    assert app.messages[-1]["code"] == 1011


async def test_client_that_answers_pings_stays_connected() -> None:
    conversation = await opened()
    for _ in range(10):
        conversation.clock.advance(21)
        conversation.look()
        await conversation.flush()
    assert conversation.close_code is None


async def test_server_sends_no_ping_if_ws_ping_interval_is_0() -> None:
    conversation = await opened(ws_ping_interval=0.0)
    conversation.clock.advance(100)
    conversation.look()
    assert conversation.frames == []


async def test_client_that_ignores_the_close_frame_is_reset_after_ws_close_timeout() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        seen.append(message)
        if message["channel"] == "websocket.connect":
            await channels["reply"].send({"accept": True, "close": True})

    seen: list[dict[str, Any]] = []
    conversation = await opened(app, ws_close_timeout=10.0)
    conversation.clock.advance(10)
    assert not conversation.transport.closing
    conversation.clock.advance(1)
    await settle()
    assert conversation.transport.aborted
    assert seen[-1]["code"] == 1006


async def test_connection_is_closed_after_the_close_frame_of_the_client() -> None:
    conversation = await opened(timeout_linger=1.0)
    conversation.client.send_close(1000)
    await conversation.flush()
    assert conversation.close_code == 1000
    assert conversation.transport.eof_written
    conversation.clock.advance(2)
    await settle()
    assert conversation.transport.closing
    assert not conversation.context.connections


async def test_websocket_client_that_reads_no_byte_is_reset(caplog: pytest.LogCaptureFixture) -> None:
    app = Recorder(nothing)
    conversation = await opened(app, timeout_write_stall=5.0, ws_ping_interval=0.0)
    conversation.transport.client_takes = False
    app.channels[0]["reply"].send({"text": "x"})
    conversation.clock.advance(5)
    assert not conversation.transport.aborted
    conversation.clock.advance(1)
    await settle()
    assert conversation.transport.aborted
    assert app.messages[-1]["code"] == 1006


async def test_a_stopping_server_notifies_the_handlers_and_closes_with_1012() -> None:
    log: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.disconnect":
            log.append((message["code"], conversation.close_code))

    conversation = await opened(app)
    for connection in tuple(conversation.context.connections):
        connection.stop()
    await settle()
    assert log[0][0] == 1012
    assert conversation.close_code == 1012


async def test_e10_reading_pauses_at_the_buffer_limit_before_the_handshake_response() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await asyncio.get_running_loop().create_future()

    conversation = await opened(app, timeout_disconnect=0.0)
    frame = b"\x82\xfe\xff\xff\0\0\0\0" + bytes(65535)
    conversation.send(frame[:65536])
    conversation.send(frame[65536:])
    assert not conversation.transport.reading
    await conversation.lose()


async def test_websocket_frames_sent_before_the_handshake_response_are_received() -> None:
    app = Recorder(nothing)
    conversation = WebSocketConversation(app)
    conversation.client.send_request(conversation.client.connect())
    early = b"\x81\x85\0\0\0\0early"
    conversation.send(b"".join(conversation.client.data_to_send()) + early)
    await settle()
    assert [message.get("text") for message in app.messages] == [None, "early"]


async def test_client_that_disconnects_during_the_handshake_ends_the_session() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await channels["reply"].send({"accept": True})

    conversation = WebSocketConversation(app)
    conversation.client.send_request(conversation.client.connect())
    conversation.send(b"".join(conversation.client.data_to_send()))
    conversation.send_eof()
    await settle()
    assert conversation.transport.writes == []
    assert not conversation.context.connections


async def test_the_access_log_has_one_line_for_a_handshake(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "uvicorn.access"):
        conversation = await opened(access_log=True)
    assert '"GET /chat HTTP/1.1" 101' in caplog.text
    assert conversation.context.requests == 0


async def test_compression_is_used_with_clients_that_offer_compression() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.receive":
            await channels["reply"].send({"text": message["text"]})

    conversation = await opened(app, compression=True)
    await conversation.say("a" * 10_000)
    assert conversation.heard == ["a" * 10_000]
    assert len(conversation.received) < 1_000


async def test_compression_can_be_turned_off() -> None:
    conversation = await opened(compression=True, ws_per_message_deflate=False)
    assert conversation.status == 101
    assert conversation.response is not None
    assert "sec-websocket-extensions" not in conversation.response.headers
