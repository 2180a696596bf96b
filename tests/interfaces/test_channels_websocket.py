"""`websocket.connect`, `receive` and `disconnect` by the rules of the interface document."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from tests.helpers import Recorder, settle, until
from tests.websocket_client import Held, WebSocketConversation
from uvicorn.errors import ChannelClosed, LocalProtocolError

Message = dict[str, Any]
Channels = dict[str, Any]


async def echo(message: Message, channels: Channels) -> None:
    """As the second of the project's documents has it: never accepts explicitly."""
    if message["channel"] == "websocket.receive":
        await channels["reply"].send({"text": message["text"]})


class Answering:
    """Answers the connect event with a message, keeps what comes after it."""

    def __init__(self, *answers: Message) -> None:
        self.answers = answers
        self.messages: list[Message] = []

    async def __call__(self, message: Message, channels: Channels) -> None:
        self.messages.append(message)
        if message["channel"] == "websocket.connect":
            for answer in self.answers:
                await channels["reply"].send(answer)

    @property
    def events(self) -> list[str]:
        return [message["channel"].removeprefix("websocket.") for message in self.messages]


async def opened(app: Any, **settings: Any) -> WebSocketConversation:
    conversation = WebSocketConversation(app, **settings)
    await conversation.open()
    return conversation


async def test_channels_websocket_messages_have_all_expected_keys() -> None:
    app = Recorder(echo)
    conversation = await opened(app, path="/a%20b?c=d", subprotocols=["chat"])
    await conversation.say("hi", b"\x00")
    conversation.client.send_close(4000, "bye")
    await conversation.flush()
    connect, text, data, disconnect = app.messages
    headers = connect.pop("headers")
    assert [b"host", b"example.org"] in headers
    assert connect == {
        "channel": "websocket.connect",
        "scheme": "ws",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=d",
        "root_path": "",
        "subprotocols": ["chat"],
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 51234),
        "order": 0,
    }
    assert text == {"channel": "websocket.receive", "path": "/a b", "text": "hi", "bytes": None, "order": 1}
    assert data == {"channel": "websocket.receive", "path": "/a b", "text": None, "bytes": b"\x00", "order": 2}
    assert disconnect == {
        "channel": "websocket.disconnect",
        "path": "/a b",
        "code": 4000,
        "reason": "bye",
        "order": 3,
    }


async def test_websocket_handlers_share_one_reply_channel() -> None:
    app = Recorder(echo)
    conversation = await opened(app)
    await conversation.say("a")
    await conversation.lose()
    replies = [channels["reply"] for channels in app.channels]
    assert len(set(replies)) == 1 and len(replies) == 3
    assert len({id(channels) for channels in app.channels}) == 3
    assert replies[0].name.startswith("reply.")


async def test_connect_handler_that_returns_without_a_reply_accepts_the_websocket() -> None:
    conversation = await opened(echo)
    await conversation.say("hello")
    assert (conversation.status, conversation.heard) == (101, ["hello"])


async def test_connect_handler_without_a_reply_gives_403_if_implicit_accept_is_off() -> None:
    conversation = await opened(echo, ws_implicit_accept=False)
    assert conversation.status == 403


@pytest.mark.parametrize(
    ("answer", "status", "heard", "code"),
    [
        ({"accept": True}, 101, [], None),
        ({"accept": True, "text": "a"}, 101, ["a"], None),
        ({"accept": True, "bytes": b"a", "close": True}, 101, [b"a"], 1000),
        ({"accept": True, "close": 4001}, 101, [], 4001),
        ({"text": "a"}, 101, ["a"], None),
        ({"bytes": b"a"}, 101, [b"a"], None),
        ({"text": "a", "close": 3000}, 101, ["a"], 3000),
        ({"accept": False}, 403, [], None),
        ({"accept": False, "text": "a"}, 403, [], None),
        ({"close": True}, 403, [], None),
        ({"close": 4000}, 403, [], None),
        ({}, 101, [], None),
        ({"text": ""}, 101, [], None),
        ({"text": None, "bytes": None}, 101, [], None),
    ],
)
async def test_reply_of_the_connect_handler_accepts_or_rejects_the_handshake(
    answer: Message, status: int, heard: list[Any], code: int | None
) -> None:
    conversation = await opened(Answering(answer))
    assert (conversation.status, conversation.heard, conversation.close_code) == (status, heard, code)


async def test_empty_text_and_empty_bytes_are_sent_as_websocket_messages() -> None:
    conversation = await opened(Answering({"accept": True}, {"text": ""}, {"bytes": b""}))
    assert conversation.heard == ["", b""]


async def test_channels_accept_sends_the_subprotocol_and_headers_of_the_application() -> None:
    answer = {"accept": True, "subprotocol": "b", "headers": [[b"Set-Cookie", b"a=1"]]}
    conversation = await opened(Answering(answer), subprotocols=["a", "b"])
    assert conversation.status == 101
    assert conversation.client.subprotocol == "b"
    assert conversation.response is not None
    assert conversation.response.headers["set-cookie"] == "a=1"


async def test_channels_accept_of_an_unoffered_subprotocol_gives_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversation = await opened(Answering({"accept": True, "subprotocol": "c"}), subprotocols=["a"])
    assert conversation.status == 500
    assert "subprotocol" in caplog.text


async def test_connect_reply_with_a_sec_websocket_protocol_header_gives_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = {"accept": True, "headers": [[b"sec-websocket-protocol", b"a"]]}
    conversation = await opened(Answering(answer), subprotocols=["a"])
    assert conversation.status == 500
    assert "expected the subprotocol in 'subprotocol'" in caplog.text


async def test_channels_response_rejects_the_handshake() -> None:
    answer = {"status": 401, "headers": [[b"www-authenticate", b"Basic"]], "content": b"who?"}
    conversation = await opened(Answering(answer))
    assert conversation.status == 401
    assert conversation.responses()[0].content == b"who?"


async def test_channels_streamed_response_rejects_the_handshake() -> None:
    conversation = await opened(Answering({"status": 403, "more_content": True}, {"content": b"no"}, {}))
    assert conversation.responses()[0].content == b"no"
    assert conversation.responses()[0].complete


@pytest.mark.parametrize(
    "messages", [({"status": 401, "body": b"who?"},), ({"status": 401, "more_content": True}, {"body": b""})]
)
async def test_denial_response_with_content_under_a_wrong_key_is_logged(
    messages: tuple[Message, ...], caplog: pytest.LogCaptureFixture
) -> None:
    await opened(Answering(*messages))
    assert "reply.send: expected the content as bytes in 'content', got {" in caplog.text


async def test_second_response_to_a_handshake_raises(caplog: pytest.LogCaptureFixture) -> None:
    conversation = await opened(Answering({"status": 403, "more_content": True}, {"status": 200}))
    assert not conversation.responses()[0].complete
    assert "expected a chunk without 'status'" in caplog.text


async def test_connect_handler_that_raises_gives_500(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: Message, channels: Channels) -> None:
        raise ValueError("boom")

    conversation = await opened(app)
    assert conversation.status == 500
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_system_exit_of_a_connect_handler_gives_500(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def app(message: Message, channels: Channels) -> Any:
        raise error

    conversation = await opened(app, interface="channels")
    assert conversation.status == 500


async def test_channels_handshake_is_rejected_after_the_accept_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: Message, channels: Channels) -> None:
        await asyncio.get_running_loop().create_future()

    conversation = await opened(app, ws_accept_timeout=0.0, timeout_disconnect=0.0)
    await until(lambda: conversation.received)
    assert conversation.status == 403
    assert "no decision on the handshake within" in caplog.text


async def test_websocket_messages_are_not_received_before_accept() -> None:
    decided = asyncio.Event()
    seen: list[str] = []

    async def app(message: Message, channels: Channels) -> None:
        seen.append(message["channel"])
        if message["channel"] == "websocket.connect":
            await decided.wait()

    conversation = await opened(app)
    # A client must not, but may, send before it has been answered.
    early = WebSocketConversation(app)
    conversation.send(b"\x81\x82\0\0\0\0hi")
    await settle()
    assert seen == ["websocket.connect"]
    decided.set()
    await settle()
    assert seen == ["websocket.connect", "websocket.receive"]
    del early


async def test_websocket_messages_are_handled_while_the_connect_handler_runs() -> None:
    seen: list[str] = []

    async def app(message: Message, channels: Channels) -> None:
        seen.append(message["channel"])
        if message["channel"] == "websocket.connect":
            await channels["reply"].send({"accept": True})
            await asyncio.get_running_loop().create_future()

    conversation = await opened(app, timeout_disconnect=0.0)
    await conversation.say("a")
    await conversation.lose()
    assert seen == ["websocket.connect", "websocket.receive", "websocket.disconnect"]


async def test_exception_in_a_receive_handler_does_not_close_the_websocket(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: Message, channels: Channels) -> None:
        if message.get("text") == "bad":
            raise ValueError("boom")
        await echo(message, channels)

    conversation = await opened(app)
    await conversation.say("bad", "good")
    assert conversation.heard == ["good"]
    assert caplog.text.count("Traceback") == 1


async def test_websocket_reading_pauses_when_the_handler_limit_is_reached() -> None:
    waiting: list[asyncio.Future[None]] = []

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.receive":
            waiting.append(asyncio.get_running_loop().create_future())
            await waiting[-1]

    conversation = await opened(app, ws_handlers=2)
    await conversation.say("1", "2", "3", "4")
    assert (len(waiting), conversation.transport.reading) == (2, False)
    waiting[0].set_result(None)
    await settle()
    assert (len(waiting), conversation.transport.reading) == (3, False)
    for future in waiting[1:]:
        future.set_result(None)
    await settle()
    assert (len(waiting), conversation.transport.reading) == (4, True)
    await conversation.lose()
    waiting[-1].cancel()


async def test_websocket_reading_pauses_while_unhandled_messages_exceed_1_MiB() -> None:
    app = Held("websocket.receive")
    conversation = await opened(app)
    await conversation.say("a" * (1 << 19), b"b" * (1 << 19))
    assert (len(app.waiting), conversation.transport.reading) == (2, True)
    await conversation.say("c", "d")
    assert (len(app.waiting), conversation.transport.reading) == (3, False)
    app.waiting[0].set_result(None)
    await settle()
    assert (len(app.waiting), conversation.transport.reading) == (4, True)
    for future in app.waiting[1:]:
        future.set_result(None)
    await conversation.lose()


async def test_websocket_handler_gets_a_single_message_of_16_MiB() -> None:
    app = Held("websocket.receive")
    conversation = await opened(app)
    await conversation.say(b"a" * (16 << 20))
    assert (len(app.waiting), conversation.transport.reading) == (1, False)
    app.waiting[0].set_result(None)
    await settle()
    assert conversation.transport.reading
    await conversation.lose()


async def test_messages_are_handled_one_after_another_if_ws_handlers_is_1() -> None:
    log: list[str] = []

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.receive":
            log.append("begin " + message["text"])
            await asyncio.sleep(0)
            log.append("end " + message["text"])

    conversation = await opened(app, ws_handlers=1)
    await conversation.say("1", "2", "3")
    await settle()
    assert log == [f"{what} {number}" for number in (1, 2, 3) for what in ("begin", "end")]


async def test_rejected_websocket_handshake_causes_no_disconnect_event() -> None:
    app = Answering({"accept": False})
    conversation = await opened(app)
    await conversation.lose()
    assert app.events == ["connect"]


async def test_accepted_websocket_causes_one_disconnect_event() -> None:
    app = Answering({"accept": True})
    conversation = await opened(app)
    conversation.client.send_close(1001)
    await conversation.flush()
    conversation.send_eof()
    await conversation.lose()
    assert app.events == ["connect", "disconnect"]
    assert app.messages[-1]["code"] == 1001


async def test_lost_websocket_connection_has_close_code_1006() -> None:
    app = Answering({"accept": True})
    conversation = await opened(app)
    await conversation.lose()
    assert app.messages[-1]["code"] == 1006


async def test_application_that_closes_a_websocket_gets_a_disconnect_event() -> None:
    app = Answering({"accept": True, "close": 4002, "reason": "so long"})
    conversation = await opened(app)
    assert conversation.close_code == 4002
    assert conversation.client.close_rcvd is not None
    assert conversation.client.close_rcvd.reason == "so long"
    await conversation.flush()
    assert app.events == ["connect", "disconnect"]
    assert app.messages[-1]["code"] == 4002


async def test_client_messages_after_the_close_frame_of_the_server_are_ignored() -> None:
    app = Answering({"accept": True, "close": True})
    conversation = await opened(app)
    conversation.send(b"\x81\x88\0\0\0\0too late")
    await settle()
    assert app.events == ["connect"]


async def test_message_sent_outside_the_websocket_handler_is_dropped_after_a_disconnect() -> None:
    app = Recorder(echo)
    conversation = await opened(app)
    reply = app.channels[0]["reply"]
    await conversation.lose()
    written = len(conversation.transport.writes)
    for _ in range(2000):
        await reply.send({"text": "hello?"})
    assert len(conversation.transport.writes) == written


async def test_endless_send_loop_ends_with_ChannelClosed_after_the_disconnect() -> None:
    ended: list[BaseException] = []

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            try:
                while True:
                    await channels["reply"].send({"text": "tick"})
            except asyncio.CancelledError as error:
                ended.append(error)
                raise

    conversation = await opened(app)
    await settle()
    await conversation.lose()
    await until(lambda: ended)
    assert isinstance(ended[0], ChannelClosed)


async def test_task_started_by_a_websocket_handler_is_cancelled_after_the_disconnect() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def send_times(channel: Any) -> None:
        while True:
            await channel.send({"text": "now"})
            await asyncio.sleep(0)

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            tasks.append(asyncio.get_running_loop().create_task(send_times(channels["reply"])))

    # The first send comes before the handler has returned, and accepts.
    conversation = await opened(app)
    await conversation.lose()
    await until(lambda: tasks[0].done())
    assert tasks[0].cancelled()


async def test_in_memory_chat_delivers_messages_while_clients_come_and_go() -> None:
    clients: set[Any] = set()

    async def chat_server(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            clients.add(channels["reply"])
        elif message["channel"] == "websocket.receive":
            for client in clients:
                await client.send({"text": message["text"]})
        elif message["channel"] == "websocket.disconnect":
            clients.remove(channels["reply"])

    staying = await opened(chat_server)
    slow = await opened(chat_server)
    slow.transport.client_takes = False
    for number in range(50):
        passing = await opened(chat_server)
        await passing.say(f"{number}")
        await passing.lose()
    assert staying.heard == [str(number) for number in range(50)]
    assert len(clients) == 2


async def test_send_outside_the_handler_returns_at_once_when_the_client_is_slow() -> None:
    log: list[str] = []
    channel: list[Any] = []

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            channel.append(channels["reply"])
            await channels["reply"].send({"bytes": b"x" * 100_000})
            log.append("sent")

    conversation = WebSocketConversation(app)
    conversation.transport.client_takes = False
    await conversation.open()
    assert log == []
    await asyncio.wait_for(channel[0].send({"text": "from elsewhere"}), 30)
    conversation.transport.take(1 << 20)
    await settle()
    assert log == ["sent"]


@pytest.mark.parametrize(("size", "most"), [(1, 256), (1 << 20, 3)])
async def test_websocket_client_that_never_reads_is_disconnected(
    size: int, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    app = Recorder(echo)
    conversation = await opened(app)
    reply = app.channels[0]["reply"]
    conversation.transport.client_takes = False
    conversation.transport.unsent = 1
    reply.send({"bytes": b"x" * 70_000})
    for _ in range(10_000):
        reply.send({"bytes": b"x" * size})
    await settle()
    assert conversation.transport.unsent < 4 << 20
    assert "reads too slowly" in caplog.text
    assert app.messages[-1]["code"] == 1013
    assert len(conversation.heard) <= most + 1
    assert conversation.close_code == 1013


async def test_websocket_send_may_be_called_from_another_thread() -> None:
    app = Recorder(echo)
    conversation = await opened(app)
    reply = app.channels[0]["reply"]
    await asyncio.to_thread(lambda: reply.send({"text": "from a thread"}))
    assert conversation.heard == ["from a thread"]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"status": 200}, "expected a message without 'status', got {'status'}"),
        ({"txt": "a"}, "expected 'accept', 'text', 'bytes' or 'close', got {'txt'}"),
        ({}, "expected .* got {}"),
        ({"text": "a", "bytes": b"b"}, "got both"),
        ({"text": b"a"}, "'text' as str"),
        ({"bytes": "a"}, "'bytes' as bytes"),
        ({"close": 999}, "close code"),
        ({"close": 1006}, "close code"),
        ({"close": 1000, "reason": "é" * 62}, "123 bytes"),
    ],
)
async def test_invalid_websocket_message_raises_an_error_that_names_the_reason(message: Message, expected: str) -> None:
    app = Recorder(echo)
    conversation = await opened(app)
    with pytest.raises(LocalProtocolError, match=expected):
        app.channels[0]["reply"].send(message)
    await conversation.lose()


async def test_connect_reply_with_a_misspelled_accept_key_gives_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"acept": False})

    assert (await opened(app)).status == 500
    assert "expected 'accept', 'text', 'bytes' or 'close', got {'acept'}" in caplog.text


@pytest.mark.parametrize("ending", ["refused", "failed", "lost", "closed"])
async def test_every_end_of_a_websocket_calls_the_on_close_callback_once(
    ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[str] = []

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            channels["reply"].on_close(lambda: called.append("closed"))
            if ending == "refused":
                await channels["reply"].send({"accept": False})
            if ending == "failed":
                raise ValueError

    conversation = await opened(app)
    if ending == "closed":
        conversation.client.send_close()
        await conversation.flush()
    await conversation.lose()
    assert called == ["closed"]


async def test_websocket_handler_that_continues_after_a_disconnect_is_cancelled() -> None:
    ended: list[str] = []

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.receive":
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

    conversation = await opened(app, timeout_disconnect=0.0)
    await conversation.say("a")
    await conversation.lose()
    await until(lambda: ended)


async def test_exception_in_a_disconnect_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.disconnect":
            raise ValueError("boom")

    conversation = await opened(app)
    with caplog.at_level(logging.ERROR):
        await conversation.lose()
    assert caplog.text.count("Traceback") == 1
