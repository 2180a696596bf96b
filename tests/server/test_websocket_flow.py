"""Flow control and order of messages on a WebSocket connection, in both directions."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.helpers import Recorder, settle
from tests.websocket_client import Held, WebSocketConversation
from tests.websocket_streams import PING, RSV1, TEXT, close, frame
from uvicorn.server.websocket import WebSocketConnection
from uvicorn.wire.websocket.encoder import TEXT_FRAME
from uvicorn.wire.websocket.encoder import frame as encode_frame

#: The first byte of a frame that no client may send.
RESERVED = 0x83


async def nothing(message: dict[str, Any], channels: dict[str, Any]) -> None:
    """Accept, and send nothing."""


async def opened(app: Any = nothing, **settings: Any) -> WebSocketConversation:
    conversation = WebSocketConversation(app, **settings)
    await conversation.open()
    return conversation


async def test_messages_sent_before_and_after_the_accept_are_received_in_order() -> None:
    held = Held("websocket.connect")
    app = Recorder(held)
    conversation = await opened(app)
    conversation.send(frame(TEXT, b"1"))
    app.channels[0]["reply"].send({"accept": True})
    # What was read after the application had been woken, and in the same iteration of the loop.
    conversation.feed(frame(TEXT, b"2"))
    await settle()
    assert [message.get("text") for message in app.messages] == [None, "1", "2"]
    held.waiting[0].set_result(None)
    await settle()


async def test_protocol_error_received_while_reading_is_paused_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = Held("websocket.receive")
    conversation = await opened(app, ws_handlers=1)
    conversation.send(frame(TEXT, b"a") + frame(RESERVED))
    await settle()
    assert conversation.close_code is None
    app.waiting[0].set_result(None)
    await settle()
    assert conversation.close_code == 1002
    assert "websocket closed" in caplog.text


async def test_close_frame_of_the_client_is_read_while_a_handler_runs() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.receive":
            await channels["reply"].send({"close": 4001})
            await asyncio.get_running_loop().create_future()
        elif message["channel"] == "websocket.disconnect":
            codes.append(message["code"])

    codes: list[int] = []
    conversation = await opened(app, ws_handlers=1, timeout_disconnect=0.0)
    await conversation.say("a")
    assert conversation.transport.reading
    conversation.look()
    await conversation.flush()
    assert codes == [4001]
    await conversation.lose()


async def test_close_by_the_application_drops_queued_messages() -> None:
    app = Held("websocket.receive")
    recorder = Recorder(app)
    conversation = await opened(recorder, ws_handlers=1, timeout_disconnect=0.0)
    conversation.send(frame(TEXT, b"1") + frame(TEXT, b"2") + close(4001))
    await settle()
    assert not conversation.transport.reading
    recorder.channels[0]["reply"].send({"close": True})
    await settle()
    assert [message.get("text", message.get("code")) for message in recorder.messages] == [None, "1", 4001]
    await conversation.lose()


async def test_pause_receiving_call_cancels_an_earlier_resume_that_has_not_run() -> None:
    app = Recorder(nothing)
    conversation = await opened(app)
    connection = conversation.transport.protocol
    assert isinstance(connection, WebSocketConnection)
    connection.session.gateway.pause_receiving()
    conversation.feed(frame(TEXT, b"a"))
    connection.session.gateway.resume_receiving()
    connection.session.gateway.pause_receiving()
    await settle()
    assert (len(app.messages), conversation.transport.reading) == (1, False)
    connection.session.gateway.resume_receiving()
    connection.session.gateway.resume_receiving()
    await settle()
    assert (len(app.messages), conversation.transport.reading) == (2, True)
    await conversation.lose()


async def test_messages_received_during_a_pause_are_dropped_at_a_disconnect() -> None:
    app = Recorder(nothing)
    conversation = await opened(app)
    connection = conversation.transport.protocol
    assert isinstance(connection, WebSocketConnection)
    connection.session.gateway.pause_receiving()
    conversation.feed(frame(TEXT, b"a"))
    connection.session.gateway.resume_receiving()
    connection.reset()
    await settle()
    assert [message["channel"] for message in app.messages] == ["websocket.connect", "websocket.disconnect"]


async def test_websocket_message_sent_after_a_failed_write_is_dropped() -> None:
    app = Recorder(nothing)
    conversation = await opened(app)
    conversation.transport.reset()
    app.channels[0]["reply"].send({"text": "x"})
    conversation.feed(frame(PING))
    await settle()
    assert app.messages[-1]["code"] == 1006


@pytest.mark.parametrize("ending", ["taken", "lost", "cancelled"])
async def test_client_read_or_disconnect_or_task_cancellation_ends_a_blocked_send(ending: str) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.connect":
            waiting.append(asyncio.current_task())
            await channels["reply"].send({"bytes": bytes(100_000)})
            log.append("sent")

    log: list[str] = []
    waiting: list[asyncio.Task[Any] | None] = []
    conversation = WebSocketConversation(app)
    conversation.transport.client_takes = False
    await conversation.open()
    assert log == []
    if ending == "cancelled":
        assert waiting[0] is not None
        waiting[0].cancel()
    if ending == "lost":
        await conversation.lose()
    else:
        conversation.transport.take(1 << 20)
    await settle()
    assert log == ([] if ending == "cancelled" else ["sent"])
    await conversation.lose()


async def test_drain_returns_at_once_if_every_byte_has_been_sent() -> None:
    conversation = await opened()
    connection = conversation.transport.protocol
    assert isinstance(connection, WebSocketConnection)
    await connection.session.drain()
    await conversation.lose()


@pytest.mark.parametrize(("size", "most"), [(1, 256), (1000, 10)])
async def test_r17_websocket_closes_with_1013_above_the_limit_of_unsent_messages_or_bytes(size: int, most: int) -> None:
    app = Recorder(nothing)
    conversation = await opened(app, write_buffer_bytes=1, max_unsent_bytes=10_000)
    conversation.transport.client_takes = False
    reply = app.channels[0]["reply"]
    reply.send({"bytes": b"xx"})
    for _ in range(1000):
        reply.send({"bytes": bytes(size)})
    assert len(conversation.heard) <= 1 + most
    assert conversation.close_code == 1013
    await settle()
    assert app.messages[-1]["code"] == 1013
    conversation.clock.advance(11)
    assert conversation.transport.aborted
    await settle()


async def test_text_and_binary_messages_reach_the_listener() -> None:
    app = Recorder(nothing)
    conversation = await opened(app)
    await conversation.say("a", b"b")
    conversation.client.send_pong(b"c")
    await conversation.flush()
    assert [(message["text"], message["bytes"]) for message in app.messages[1:]] == [("a", None), (None, b"b")]
    await conversation.lose()


async def test_reading_pauses_after_each_of_several_messages_in_one_packet() -> None:
    app = Held("websocket.receive")
    conversation = await opened(app, ws_handlers=1)
    conversation.send(frame(TEXT, b"1") + frame(TEXT, b"2") + frame(TEXT, b"3"))
    for number in range(3):
        await settle()
        assert (len(app.waiting), conversation.transport.reading) == (number + 1, False)
        app.waiting[number].set_result(None)
    await settle()
    assert conversation.transport.reading
    await conversation.lose()


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize("length", [5, 5000])
async def test_cached_frame_of_a_long_message_is_not_sent_if_compression_is_negotiated(
    compression: bool, length: int
) -> None:
    text = "a" * length

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"text": text})

    conversation = WebSocketConversation(app, compression=compression)
    last = conversation.context.last_frame
    last.message, last.frame = text, encode_frame(TEXT_FRAME, text.encode())
    await conversation.open()
    start = conversation.transport.writes[-1][0]
    assert bool(start & RSV1) is (compression and length > 1000)
    assert conversation.heard == [text]


async def test_client_that_reads_as_fast_as_the_server_writes_is_not_reset() -> None:
    app = Recorder(nothing)
    conversation = await opened(app, timeout_write_stall=5.0, ws_ping_interval=0.0)
    conversation.transport.client_takes = False
    send = app.channels[0]["reply"].send
    send({"text": "a" * 10_000})
    for _ in range(10):
        conversation.clock.advance(1)
        send({"text": "a" * 100})
        conversation.transport.take(len(conversation.transport.writes[-1]))
    assert not conversation.transport.aborted
    conversation.clock.advance(6)
    assert conversation.transport.aborted
    await settle()
