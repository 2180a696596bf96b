"""The end of WebSocket connections: deadlines, resets, and released objects."""

from __future__ import annotations

import asyncio
import gc
import socket
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from tests.helpers import GET, Conversation, Recorder, settle, until
from tests.websocket_client import Held, WebSocketConversation
from tests.websocket_streams import BINARY, CLOSE, PING, PONG, TEXT, close, frame, header
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange
from uvicorn.core.websocket_session import WebSocketSession
from uvicorn.interfaces.asgi3_websocket import WebSocketCall
from uvicorn.interfaces.channels_websocket import ChannelsListener, WebSocketReply
from uvicorn.server.http1 import HTTP1Connection
from uvicorn.server.websocket import WebSocketConnection
from uvicorn.wire.websocket.frames import WebSocketCodec

#: The first byte of a frame that no client may send.
RESERVED = 0x83


async def nothing(message: dict[str, Any], channels: dict[str, Any]) -> None:
    """Accept, and send nothing."""


async def closing(message: dict[str, Any], channels: dict[str, Any]) -> None:
    """Accept, then close."""
    if message["channel"] == "websocket.connect":
        await channels["reply"].send({"accept": True, "close": True})


async def opened(app: Any = nothing, **settings: Any) -> WebSocketConversation:
    conversation = WebSocketConversation(app, **settings)
    await conversation.open()
    return conversation


async def test_e9_client_is_reset_if_it_sends_frames_after_the_server_close_frame() -> None:
    conversation = await opened(closing, ws_close_timeout=3.0)
    for _ in range(4):
        conversation.clock.advance(1)
        conversation.send(frame(PONG))
    await settle()
    assert conversation.transport.aborted


async def test_lingering_close_after_a_close_frame_closes_the_connection_without_a_reset() -> None:
    conversation = await opened(timeout_linger=1.0)
    conversation.client.send_close(1000)
    await conversation.flush()
    conversation.clock.advance(2)
    assert conversation.transport.closing
    assert not conversation.transport.aborted
    await settle()


async def test_client_that_reads_nothing_after_its_close_frame_is_reset() -> None:
    conversation = await opened(timeout_linger=1.0, ws_close_timeout=3.0)
    conversation.transport.client_takes = False
    conversation.client.send_close(1000)
    await conversation.flush()
    conversation.clock.advance(3)
    assert not conversation.transport.closing
    conversation.clock.advance(1)
    assert conversation.transport.aborted
    await settle()


async def test_transport_that_cannot_half_close_is_closed_after_the_closing_handshake() -> None:
    conversation = await opened()
    conversation.transport.half_closes = False
    conversation.client.send_close(1000)
    await conversation.flush()
    assert conversation.close_code == 1000
    assert conversation.transport.closing
    assert not conversation.transport.aborted


async def test_e7_slow_client_is_pinged_only_after_it_has_received_the_unsent_bytes() -> None:
    app = Recorder(nothing)
    conversation = await opened(app, ws_ping_interval=5.0, ws_ping_timeout=5.0)
    conversation.transport.client_takes = False
    app.channels[0]["reply"].send({"bytes": bytes(100_000)})
    for _ in range(30):
        conversation.clock.advance(1)
        conversation.transport.take(100)
    assert not conversation.transport.closing
    assert app.messages[-1]["channel"] == "websocket.connect"
    conversation.transport.take(100_000)
    conversation.clock.advance(1)
    conversation.look()
    assert conversation.frames[-1].opcode is Opcode.PING
    await conversation.lose()


async def test_e8_client_is_pinged_while_reading_is_paused() -> None:
    conversation = await opened(Held("websocket.receive"), ws_handlers=1, ws_ping_interval=5.0, timeout_disconnect=0.0)
    await conversation.say("a")
    assert not conversation.transport.reading
    conversation.clock.advance(30)
    conversation.look()
    assert [frame.opcode for frame in conversation.frames] == [Opcode.PING] * 5
    assert conversation.close_code is None
    await conversation.lose()


async def test_application_is_notified_at_once_when_a_websocket_is_reset() -> None:
    app = Recorder(nothing)
    conversation = await opened(app)
    conversation.context.connections.pop().reset()
    assert app.channels[0]["reply"].send({"text": "x"}) is not None
    assert repr(app.channels[0]["reply"]).endswith("CLOSED>>")
    await settle()
    assert [message["channel"] for message in app.messages] == ["websocket.connect", "websocket.disconnect"]


@pytest.mark.parametrize("interface", ["channels", "asgi3"])
@pytest.mark.parametrize("ending", ["close", "loss", "refusal", "loss before the answer", "stop"])
async def test_lost_websocket_connection_is_freed_without_the_garbage_collector(ending: str, interface: str) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.connect" and ending == "refusal":
            await channels["reply"].send({"accept": False})
        elif message["channel"] == "websocket.connect" and ending == "loss before the answer":
            await asyncio.get_running_loop().create_future()

    async def asgi3(scope: Any, receive: Any, send: Any) -> None:
        if ending == "loss before the answer":
            await asyncio.get_running_loop().create_future()
        await send({"type": "websocket.close" if ending == "refusal" else "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    served = app if interface == "channels" else asgi3
    context = Conversation(served, timeout_disconnect=0.0).context
    at_first = frozenset(context.connections)
    before = set(map(id, living()))
    loop = asyncio.get_running_loop()
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    gc.collect()
    gc.disable()
    try:
        await loop.connect_accepted_socket(lambda: HTTP1Connection(context), here)
        client = ClientProtocol(parse_uri("ws://example.org/"))
        client.send_request(client.connect())
        await loop.sock_sendall(there, b"".join(client.data_to_send()))
        if ending == "loss before the answer":
            await until(lambda: context.requests)
        else:
            await loop.sock_recv(there, 65536)
        if ending == "close":
            await loop.sock_sendall(there, frame(CLOSE))
            await loop.sock_recv(there, 65536)
        elif ending == "stop":
            context.connections.difference(at_first).pop().stop()
        there.close()
        await until(lambda: context.connections == at_first)
        await settle(50)
        left = [thing for thing in living() if id(thing) not in before]
        assert left == []
    finally:
        gc.enable()


def living() -> list[Any]:
    kinds = (
        HTTP1Connection,
        Endpoint,
        HTTPExchange,
        WebSocketConnection,
        WebSocketSession,
        WebSocketCodec,
        WebSocketReply,
        ChannelsListener,
        WebSocketCall,
    )
    # isinstance() asks a weakref.proxy, which another test may have left, for what has gone.
    return [thing for thing in gc.get_objects() if issubclass(type(thing), kinds)]


async def test_ping_timeout_does_not_apply_while_reading_is_paused() -> None:
    app = Recorder(nothing)
    conversation = await opened(app, ws_ping_interval=5.0, ws_ping_timeout=5.0)
    connection = conversation.transport.protocol
    assert isinstance(connection, WebSocketConnection)
    conversation.clock.advance(6)
    conversation.look()
    assert [frame.opcode for frame in conversation.frames] == [Opcode.PING]
    connection.session.gateway.pause_receiving()
    conversation.clock.advance(60)
    assert conversation.close_code is None
    connection.session.gateway.resume_receiving()
    await settle()
    assert conversation.transport.reading
    conversation.clock.advance(6)
    assert conversation.close_code is None
    await conversation.lose()


async def test_unfinished_message_is_dropped_for_five_seconds_after_a_ping_timeout() -> None:
    conversation = await opened(ws_ping_interval=5.0, ws_ping_timeout=5.0)
    conversation.send(header(BINARY, 1000) + bytes(10))
    for _ in range(20):
        if conversation.close_code is None:
            conversation.clock.advance(1)
    assert conversation.close_code == 1011
    conversation.clock.advance(4)
    assert not conversation.transport.closing
    conversation.clock.advance(1)
    assert conversation.transport.closing
    await settle()


async def test_tls_client_that_does_not_close_is_reset_after_ws_close_timeout() -> None:
    conversation = await opened(ws_close_timeout=3.0, timeout_linger=1.0)
    conversation.transport.half_closes = False
    conversation.transport.client_takes = False
    conversation.client.send_close(1000)
    await conversation.flush()
    assert conversation.transport.closing
    # What TLS says at the end is not in its count of what is unsent.
    conversation.transport.unsent = 0
    conversation.clock.advance(3)
    assert not conversation.transport.aborted
    conversation.clock.advance(1)
    assert conversation.transport.aborted
    await settle()


@pytest.mark.parametrize("half_closes", [True, False])
async def test_input_after_a_protocol_error_is_dropped_up_to_a_limit(half_closes: bool) -> None:
    app = Recorder(nothing)
    conversation = await opened(app, max_drain_bytes=1000)
    conversation.transport.half_closes = half_closes
    conversation.send(frame(RESERVED))
    await settle()
    assert (conversation.close_code, conversation.transport.eof_written) == (1002, half_closes)
    conversation.send(bytes(4000))
    assert not conversation.transport.closing
    conversation.send(bytes(1))
    assert conversation.transport.closing
    await settle()
    assert [message["channel"] for message in app.messages] == ["websocket.connect", "websocket.disconnect"]


async def test_protocol_error_after_the_server_close_frame_ends_the_closing_handshake() -> None:
    app = Recorder(closing)
    conversation = await opened(app)
    conversation.send(frame(RESERVED))
    await settle()
    assert app.messages[-1]["code"] == 1002
    assert conversation.received.count(b"\x88\x02") == 1


async def test_messages_after_the_close_frame_of_the_server_are_dropped() -> None:
    app = Recorder(closing)
    conversation = await opened(app)
    written = len(conversation.transport.writes)
    conversation.send(frame(TEXT, b"a") + frame(BINARY, b"a") + frame(PING) + close(4001))
    await settle()
    assert len(conversation.transport.writes) == written
    assert [message.get("code") for message in app.messages] == [None, 4001]


async def test_pending_pong_is_dropped_if_a_slow_client_sends_a_close_frame() -> None:
    conversation = await opened()
    conversation.transport.client_takes = False
    conversation.transport.protocol.pause_writing()
    conversation.send(frame(PING) + frame(CLOSE))
    written = len(conversation.transport.writes)
    conversation.transport.take(1000)
    assert len(conversation.transport.writes) == written
    await conversation.lose()


async def test_deadlines_of_a_reset_websocket_are_not_checked() -> None:
    conversation = await opened()
    connection = conversation.transport.protocol
    assert isinstance(connection, WebSocketConnection)
    connection.reset()
    connection.reset()
    connection.stop()
    conversation.context.tick()
    assert conversation.transport.aborted
    await settle()


async def test_protocol_error_resets_a_transport_that_cannot_half_close() -> None:
    app = Recorder(nothing)
    conversation = await opened(app, max_drain_bytes=0)
    conversation.transport.half_closes = False
    conversation.transport.client_takes = False
    connection = conversation.transport.protocol
    assert isinstance(connection, WebSocketConnection)
    connection.session.gateway.pause_receiving()
    conversation.feed(frame(RESERVED))
    connection.session.gateway.resume_receiving()
    conversation.transport.closing = True
    await settle()
    conversation.feed(b"x")
    conversation.feed(b"x")
    conversation.send_eof()
    conversation.clock.advance(20)
    assert conversation.transport.aborted
    await settle()
    assert app.messages[-1]["code"] == 1002


async def test_reading_is_not_resumed_on_a_closing_transport() -> None:
    conversation = await opened()
    conversation.transport.half_closes = False
    connection = conversation.transport.protocol
    assert isinstance(connection, WebSocketConnection)
    connection.session.gateway.pause_receiving()
    conversation.transport.closing = True
    connection.session.gateway.resume_receiving()
    await settle()
    assert not conversation.transport.reading
    connection.reset()
    await settle()


LIMIT = 1000
PIECE = bytes(65536)


async def refused(announced: int = 8_000_000, **settings: Any) -> WebSocketConversation:
    """Return a connection that has rejected a message over the limit, of which only the beginning has arrived."""
    conversation = await opened(ws_max_size=LIMIT, **settings)
    conversation.send(frame(BINARY, bytes(announced))[:1014])
    await settle()
    assert (conversation.close_code, conversation.transport.eof_written) == (1009, True)
    return conversation


async def test_rejected_message_is_discarded_up_to_its_announced_length() -> None:
    conversation = await refused(ws_close_timeout=1.0)
    for _ in range(122):
        conversation.send(PIECE)
    assert not conversation.transport.closing
    conversation.send(frame(CLOSE))
    conversation.send_eof()
    assert conversation.transport.closing
    assert not conversation.transport.aborted
    await settle()


async def test_connection_closes_when_too_many_bytes_follow_a_rejected_message() -> None:
    conversation = await refused(1_000_000, max_drain_bytes=1000)
    conversation.send(bytes(1_000_000 - 1000 + 4000))
    assert not conversation.transport.closing
    conversation.send(bytes(1))
    assert conversation.transport.closing
    await settle()


async def test_connection_closes_when_a_rejected_message_exceeds_max_content_bytes() -> None:
    conversation = await refused(max_content_bytes=100_000, max_drain_bytes=1000)
    conversation.send(bytes(104_000))
    assert not conversation.transport.closing
    conversation.send(bytes(1))
    assert conversation.transport.closing
    await settle()


async def test_connection_closes_if_a_rejected_message_takes_over_30_s() -> None:
    conversation = await refused(max_content_bytes=0)
    for _ in range(30):
        conversation.send(bytes(10_000))
        conversation.clock.advance(1)
    assert not conversation.transport.closing
    conversation.send(bytes(10_000))
    conversation.clock.advance(1)
    assert conversation.transport.closing
    await settle()


async def test_connection_closes_if_a_client_pauses_within_a_rejected_message() -> None:
    conversation = await refused()
    conversation.clock.advance(4)
    assert not conversation.transport.closing
    conversation.clock.advance(2)
    assert conversation.transport.closing
    await settle()


async def test_connection_closes_if_a_rejected_message_is_slower_than_min_content_rate() -> None:
    conversation = await refused(min_content_rate=500)
    for _ in range(10):
        conversation.send(bytes(400))
        conversation.clock.advance(1)
    assert not conversation.transport.closing
    conversation.send(bytes(400))
    conversation.clock.advance(1)
    assert conversation.transport.closing
    await settle()


async def test_stopping_server_waits_one_second_for_the_end_of_a_rejected_message() -> None:
    conversation = await refused()
    conversation.context.stopping = True
    for _ in range(2):
        assert not conversation.transport.closing
        conversation.send(bytes(10_000))
        conversation.clock.advance(1)
    assert conversation.transport.closing
    await settle()


async def test_rest_of_a_client_message_is_discarded_after_the_server_close_frame() -> None:
    app = Recorder(nothing)
    conversation = await opened(app, write_buffer_bytes=1, max_drain_bytes=1000)
    conversation.send(frame(BINARY, bytes(500_000))[:1000])
    conversation.transport.client_takes = False
    for _ in range(300):
        app.channels[0]["reply"].send({"text": "a"})
    assert conversation.close_code == 1013
    conversation.transport.take(10_000)
    conversation.send(bytes(499_000))
    assert not conversation.transport.closing
    await conversation.lose()


async def test_half_closed_client_gets_no_answer_to_a_queued_handshake() -> None:
    held = Held("http.request")
    app = Recorder(held)
    conversation = WebSocketConversation(app)
    conversation.client.send_request(conversation.client.connect())
    conversation.send(GET + b"".join(conversation.client.data_to_send()))
    conversation.send_eof()
    await settle()
    await app.channels[0]["reply"].send({"status": 200})
    held.waiting[0].set_result(None)
    await settle()
    assert [message["channel"] for message in app.messages] == ["http.request"]
    assert (conversation.statuses, conversation.transport.closing) == ([200], True)
    assert (conversation.context.connections, conversation.context.requests) == (set(), 0)
