"""What becomes of handlers, tasks and half-said things when a handshake is refused or a connection ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.helpers import Recorder, settle, until
from tests.websocket_client import Held, WebSocketConversation
from uvicorn.errors import ChannelClosed, LocalProtocolError

Message = dict[str, Any]
Channels = dict[str, Any]


async def opened(app: Any, **settings: Any) -> WebSocketConversation:
    conversation = WebSocketConversation(app, **settings)
    await conversation.open()
    return conversation


async def silent(message: Message, channels: Channels) -> None:
    """Accepts, and sends nothing."""


async def undecided(message: Message, channels: Channels) -> None:
    """Never decides."""
    await asyncio.get_running_loop().create_future()


class Ticking:
    """An application that starts a task which sends for ever, and then answers the handshake."""

    def __init__(self, *answers: Message, waits: bool = False) -> None:
        self.task: asyncio.Task[None] | None = None
        self._answers = answers
        self._waits = waits

    async def __call__(self, message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            for answer in self._answers:
                await channels["reply"].send(answer)
            self.task = asyncio.get_running_loop().create_task(self._tick(channels["reply"]))
            if self._waits:
                await asyncio.get_running_loop().create_future()

    async def _tick(self, reply: Any) -> None:
        while True:
            await reply.send({})
            await asyncio.sleep(0)

    @property
    def has_ended(self) -> bool:
        return self.task is not None and self.task.done()


@pytest.mark.parametrize(
    "answer", [{"accept": False}, {"status": 401}, {"status": 401, "more_content": True}], ids=["no", "401", "begun"]
)
async def test_disconnect_cancels_the_background_task_of_a_rejected_websocket(answer: Message) -> None:
    app = Ticking(answer)
    conversation = await opened(app)
    await conversation.lose()
    await until(lambda: app.has_ended)
    assert app.task is not None and app.task.cancelled()


async def test_background_task_is_cancelled_if_the_client_leaves_before_accept() -> None:
    app = Ticking(waits=True)
    conversation = await opened(app, timeout_disconnect=0.0)
    await conversation.lose()
    await until(lambda: app.has_ended)
    assert app.task is not None and app.task.cancelled()


async def test_connect_handler_may_continue_after_a_rejection() -> None:
    log: list[str] = []

    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"accept": False})
        await channels["reply"].send({"text": "dropped"})
        log.append("cleaned up")

    conversation = await opened(app)
    assert (conversation.status, log) == (403, ["cleaned up"])


async def test_websocket_reply_channel_is_open_until_the_disconnect_handler_returns() -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    replies: list[Any] = []
    over: list[bool] = []

    async def app(message: Message, channels: Channels) -> None:
        replies.append(channels["reply"])
        if message["channel"] == "websocket.connect":
            await channels["reply"].send({"accept": True})
            await gate
        elif message["channel"] == "websocket.disconnect":
            gate.set_result(None)
            await settle(5)
            over.append(channels["reply"].over)

    conversation = await opened(app)
    await conversation.lose()
    assert (over, replies[0].over) == ([False], True)


async def test_websocket_handler_limit_holds_when_all_handlers_end_at_once() -> None:
    gates: list[asyncio.Event] = [asyncio.Event()]
    running = most = 0

    async def app(message: Message, channels: Channels) -> None:
        nonlocal running, most
        if message["channel"] == "websocket.receive":
            running += 1
            most = max(most, running)
            await gates[-1].wait()
            running -= 1

    conversation = await opened(app, ws_handlers=2)
    await conversation.say(*"0123456789")
    while running:
        gate = gates[-1]
        gates.append(asyncio.Event())
        gate.set()
        await settle()
    assert most == 2
    assert conversation.transport.reading
    await conversation.lose()


async def test_unfinished_channels_denial_response_is_aborted(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 403, "content": b"no", "more_content": True})

    conversation = await opened(app, reply_timeout=0.0)
    await until(lambda: conversation.transport.aborted)
    assert "left the response unfinished" in caplog.text
    await settle()


async def test_denial_response_waits_for_a_slow_client() -> None:
    log: list[str] = []

    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 403, "content": b"x" * 100_000, "more_content": True})
        log.append("sent")
        await channels["reply"].send({"content": b"end"})

    conversation = WebSocketConversation(app)
    conversation.transport.client_takes = False
    await conversation.open()
    assert log == []
    conversation.transport.take(1 << 20)
    await settle()
    assert log == ["sent"]
    await conversation.lose()


async def test_cancelled_connect_handler_gives_500_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: Message, channels: Channels) -> None:
        raise asyncio.CancelledError

    conversation = await opened(app)
    assert conversation.status == 500
    assert "the connect handler was cancelled" in caplog.text


@pytest.mark.parametrize("answer", [{"accept": 0}, {"accept": 0, "text": "a"}, {"accept": ""}])
async def test_reply_with_a_falsy_accept_value_rejects_the_handshake(answer: Message) -> None:
    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send(answer)

    conversation = await opened(app)
    assert conversation.status == 403


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"accept": True, "close": 999}, "close code"),
        ({"accept": True, "text": b"a"}, "'text' as str"),
        ({"accept": True, "text": "\ud800"}, "UTF-8"),
        ({"accept": True, "bytes": "a"}, "'bytes' as bytes"),
        ({"text": "a", "close": 1000, "reason": "\ud800"}, "reason"),
        ({"text": "a", "close": 1000, "reason": b"bye"}, "reason"),
        ({"text": "a", "bytes": b"b"}, "got both"),
        ({"status": 101}, "101"),
    ],
)
async def test_invalid_handshake_response_raises_and_sends_nothing(answer: Message, expected: str) -> None:
    errors: list[LocalProtocolError] = []

    async def app(message: Message, channels: Channels) -> None:
        try:
            await channels["reply"].send(answer)
        except LocalProtocolError as error:
            errors.append(error)
            assert conversation.received == b""
            await channels["reply"].send({"status": 418})

    conversation = WebSocketConversation(app)
    await conversation.open()
    assert conversation.status == 418
    assert expected in str(errors[0])


@pytest.mark.parametrize("message", [{"text": "a", "close": 999}, {"text": "a", "close": True, "reason": "\ud800"}])
async def test_websocket_message_with_an_invalid_close_value_raises(message: Message) -> None:
    app = Recorder(silent)
    conversation = await opened(app)
    with pytest.raises(LocalProtocolError):
        app.channels[0]["reply"].send(message)
    assert (conversation.heard, conversation.close_code) == ([], None)
    app.channels[0]["reply"].send({"close": True, "reason": "bye"})
    assert conversation.close_code == 1000
    await conversation.lose()


@pytest.mark.parametrize("message", ["hello", None, ["text"]])
async def test_websocket_send_of_anything_but_a_dict_raises(message: Any) -> None:
    app = Recorder(silent)
    conversation = await opened(app)
    with pytest.raises(LocalProtocolError, match=f"expected a dict, got {type(message).__name__}"):
        app.channels[0]["reply"].send(message)
    await conversation.lose()


async def test_send_from_a_handler_thread_raises_ChannelClosed_after_the_disconnect() -> None:
    ended: list[BaseException] = []

    async def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            await asyncio.to_thread(talk, channels["reply"])

    def talk(reply: Any) -> None:
        try:
            while True:
                reply.send({"text": "x"})
        except ChannelClosed as error:
            ended.append(error)

    conversation = await opened(app)
    await until(lambda: conversation.heard)
    await conversation.lose()
    await until(lambda: ended)
    await settle()


@pytest.mark.parametrize("when", ["connect", "accepted", "receive", "disconnect", "on_close"])
async def test_exception_in_a_websocket_handler_does_not_affect_other_clients(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(message: Message, channels: Channels) -> None:
        seen.append(message["channel"].removeprefix("websocket."))
        if when == "accepted" and message["channel"] == "websocket.connect":
            await channels["reply"].send({"accept": True})
            raise ValueError("boom")
        if when == "on_close" and message["channel"] == "websocket.connect":
            channels["reply"].on_close(lambda: 1 / 0)
        if message["channel"] == f"websocket.{when}":
            raise ValueError("boom")

    seen: list[str] = []
    conversation = await opened(app)
    if when == "connect":
        assert conversation.status == 500
    else:
        await conversation.say("a")
        conversation.client.send_close()
        await conversation.flush()
        assert conversation.close_code == 1005
    await conversation.lose()
    assert seen == (["connect"] if when == "connect" else ["connect", "receive", "disconnect"])
    assert caplog.text.count("Traceback") == 1


@pytest.mark.parametrize("when", ["websocket.receive", "websocket.disconnect"])
async def test_websocket_handler_that_raises_synchronously_is_logged_once(
    when: str, caplog: pytest.LogCaptureFixture
) -> None:
    def app(message: Message, channels: Channels) -> Any:
        replies.append(channels["reply"])
        if message["channel"] == when:
            raise SystemExit
        return silent(message, channels)

    replies: list[Any] = []
    conversation = await opened(app, interface="channels")
    await conversation.say("a")
    await conversation.lose()
    assert (len(replies), replies[0].over) == (3, True)
    assert caplog.text.count("Traceback") == 1


async def test_disconnect_drops_queued_websocket_messages() -> None:
    held = Held("websocket.receive")
    conversation = await opened(held, ws_handlers=1)
    await conversation.say("a", "b")
    await conversation.lose()
    held.waiting[0].set_result(None)
    await settle()
    assert len(held.waiting) == 1


async def test_channels_denial_response_can_stream_beyond_the_accept_timeout() -> None:
    loop = asyncio.get_running_loop()
    time_is_up: asyncio.Future[None] = loop.create_future()

    async def app(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 403, "more_content": True})
        # Due after the deadline, which was set with the same delay and before.
        loop.call_later(0.0, loop.call_later, 0.0, time_is_up.set_result, None)
        await time_is_up
        await channels["reply"].send({"content": b"no"})

    conversation = await opened(app, ws_accept_timeout=0.0)
    await time_is_up
    await settle()
    assert conversation.responses()[0].content == b"no"
    assert conversation.responses()[0].complete


async def test_websocket_is_accepted_when_a_slow_connect_handler_returns() -> None:
    held = Held("websocket.connect")
    app = Recorder(held)
    conversation = await opened(app)
    held.waiting[0].set_result(None)
    await settle()
    assert conversation.status == 101
    await conversation.lose()
    assert [message["channel"] for message in app.messages] == ["websocket.connect", "websocket.disconnect"]


async def test_repr_of_a_websocket_reply_channel_shows_name_path_and_state() -> None:
    app = Recorder(silent)
    conversation = await opened(app)
    reply = app.channels[0]["reply"]
    assert reply.name == reply.name
    assert repr(reply) == f"<WebSocketReply {reply.name} of <websocket '/chat' OPEN>>"
    await conversation.lose()


async def test_websocket_reply_channel_is_ready_while_it_is_open_and_not_paused() -> None:
    held = Held("websocket.connect")
    app = Recorder(held)
    conversation = await opened(app)
    reply = app.channels[0]["reply"]
    assert not reply.is_ready
    waiting = [asyncio.get_running_loop().create_task(reply.wait_ready())]
    await settle()
    assert not waiting[0].done()
    held.waiting[0].set_result(None)
    await settle()
    assert (reply.is_ready, waiting[0].done()) == (True, True)
    conversation.transport.client_takes = False
    reply.send({"bytes": bytes(100_000)})
    assert not reply.is_ready
    waiting.append(asyncio.get_running_loop().create_task(reply.wait_ready()))
    await settle()
    assert not waiting[1].done()
    await conversation.lose()
    assert (reply.is_ready, waiting[1].done()) == (True, True)


async def test_websocket_reply_channel_accepts_offered_text_only_if_ready_to_send() -> None:
    held = Held("websocket.connect")
    app = Recorder(held)
    conversation = await opened(app)
    reply = app.channels[0]["reply"]
    assert not reply.offer_text("early")
    held.waiting[0].set_result(None)
    await settle()
    assert reply.offer_text("now")
    await settle()
    assert conversation.heard == ["now"]
    conversation.transport.client_takes = False
    reply.send({"bytes": bytes(100_000)})
    assert not reply.offer_text("slow")
    await conversation.lose()
    assert not reply.offer_text("late")


async def test_reply_channel_can_reject_or_close_a_slow_websocket() -> None:
    held = Held("websocket.connect")
    app = Recorder(held)
    refused = await opened(app)
    app.channels[0]["reply"].break_off("too slow")
    assert refused.status == 503
    held.waiting[0].set_result(None)
    app = Recorder(silent)
    closed = await opened(app)
    for _ in range(2):
        app.channels[0]["reply"].break_off("too slow")
    assert closed.close_code == 1013
    assert closed.client.close_rcvd is not None
    assert closed.client.close_rcvd.reason == "too slow"
    await closed.lose()
    app.channels[0]["reply"].break_off("too slow")
    await settle()
