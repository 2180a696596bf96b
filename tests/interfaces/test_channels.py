"""The channels interface to the letter: rules R4 to R8, R12, R14, R15, R17, R18 by their ids."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from contextvars import ContextVar
from typing import Any

import pytest

from tests.corpus import POST, chunked, request
from tests.helpers import GET, Conversation, Recorder, echo, hello, settle, until
from uvicorn.errors import ChannelClosed, ClientDisconnected, LocalProtocolError


async def message_of(stream: bytes, **settings: Any) -> dict[str, Any]:
    recorder = Recorder(hello)
    conversation = Conversation(recorder, **settings)
    conversation.send(stream)
    await settle()
    await conversation.lose()
    return recorder.messages[0]


async def test_channels_message_has_every_key_with_its_type() -> None:
    message = await message_of(request(b"GET /a%20b?c=%20d HTTP/1.1", b"X-Two: 1", b"x-two: 2"))
    assert message == {
        "channel": "http.request",
        "scheme": "http",
        "root_path": "",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 51234),
        "http_version": "1.1",
        "method": "GET",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=%20d",
        "headers": [[b"host", b"x"], [b"x-two", b"1"], [b"x-two", b"2"]],
    }
    assert all(type(field) is list for field in message["headers"])


async def test_channels_messages_share_no_mutable_object() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(GET * 2)
    await settle()
    first, second = recorder.messages
    first["headers"][0][0] = b"changed"
    first["server"] = None
    assert (second["headers"][0][0], second["server"]) == (b"host", ("127.0.0.1", 8000))


@pytest.mark.any_loop
@pytest.mark.parametrize("stream", [GET, request(POST, b"content-length: 0")])
async def test_request_without_content_has_no_body_channel(stream: bytes) -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(stream)
    await settle()
    assert set(recorder.channels[0]) == {"reply"}


@pytest.mark.any_loop
@pytest.mark.parametrize(
    "stream",
    [request(POST, b"content-length: 1", content=b"x"), chunked(b"1\r\nx\r\n0\r\n\r\n"), chunked(b"0\r\n\r\n")],
)
async def test_request_with_content_has_a_body_channel(stream: bytes) -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(stream)
    await settle()
    assert set(recorder.channels[0]) == {"reply", "body"}
    await conversation.lose()


async def test_R4_each_request_has_a_separate_reply_channel() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(GET * 2)
    await settle()
    first, second = (channels["reply"] for channels in recorder.channels)
    assert len({first, second}) == 2
    assert first.name != second.name
    assert first.name == first.name


async def test_R4_channel_name_contains_only_allowed_characters() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(request(POST, b"content-length: 1", content=b"x"))
    await settle()
    for channel in recorder.channels[0].values():
        assert channel.name.replace(".", "").isalnum()
        assert channel.name.isascii()
        assert channel.name is channel.name


async def test_R5_message_is_sent_even_if_send_is_not_awaited() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        channels["reply"].send({"status": 200, "content": b"a", "more_content": True})
        channels["reply"].send({"content": b"b"})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.responses()[0].content == b"ab"


async def test_R5_asyncio_functions_accept_the_result_of_send() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        await asyncio.create_task(reply.send({"status": 200, "more_content": True}))
        await asyncio.gather(*(reply.send({"content": b"%d" % number, "more_content": True}) for number in range(3)))
        await asyncio.wait_for(reply.send({"content": b"3", "more_content": True}), 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(reply.send({"content": b"4", "more_content": True}))
        reply.send({"content": b"5", "more_content": True}).close()
        await reply.send({"content": b"6"})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle(50)
    assert conversation.responses()[0].content == b"0123456"


async def test_R5_send_in_a_task_waits_until_the_client_reads() -> None:
    sent: list[str] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        big = {"content": b"x" * 100000, "more_content": True}
        reply.send({"status": 200, **big})
        dropped = reply.send(big)
        dropped.close()
        with pytest.raises(ValueError, match="thrown"):
            reply.send(big).throw(ValueError("thrown"))
        waiting = asyncio.create_task(reply.send(big))
        await asyncio.sleep(0)
        assert not waiting.done()
        await asyncio.gather(waiting, reply.send(big))
        sent.append("all")
        cancelled = asyncio.create_task(reply.send({"more_content": True}))
        cancelled.cancel()
        await reply.send({})

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    assert sent == []
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 20)
    await settle()
    assert sent == ["all"]
    assert conversation.responses()[0].complete


async def test_R5_send_may_be_called_from_another_thread() -> None:
    done: list[bool] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        def from_a_thread() -> None:
            channels["reply"].send({"status": 200, "content": b"a", "more_content": True})
            channels["reply"].send({"content": b"b"})
            done.append(threading.current_thread() is threading.main_thread())

        await asyncio.to_thread(from_a_thread)

    conversation = Conversation(app)
    conversation.send(GET)
    await until(lambda: done)
    await settle()
    assert conversation.responses()[0].content == b"ab"
    assert done == [False]


async def test_R5_invalid_message_from_another_thread_raises_in_that_thread() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        with pytest.raises(LocalProtocolError):
            await asyncio.to_thread(channels["reply"].send, {"content": b"too early"})
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(GET)
    await until(lambda: conversation.received)
    assert conversation.statuses == [200]


async def test_R6_send_raises_in_the_handler_after_the_client_disconnects() -> None:
    outcome: list[BaseException] = []
    may_go_on = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        await may_go_on.wait()
        try:
            while True:
                await channels["reply"].send({"content": b"tick", "more_content": True})
        except BaseException as error:
            outcome.append(error)
            raise

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    may_go_on.set()
    await settle()
    assert [type(error) for error in outcome] == [ChannelClosed]


async def test_R6_handler_that_waits_in_send_ends_when_the_client_disconnects(caplog: pytest.LogCaptureFixture) -> None:
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
    assert ended == []
    await conversation.lose()
    assert ended == [True]
    assert "Traceback" not in caplog.text


async def test_R6_send_cancels_a_background_task_after_the_client_disconnects() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def ticking(reply: Any) -> None:
        while True:
            await reply.send({"content": b"tick", "more_content": True})
            await asyncio.sleep(0)

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        tasks.append(asyncio.create_task(ticking(channels["reply"])))

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    assert tasks[0].cancelled()


async def test_R6_message_sent_outside_the_handler_is_dropped_after_a_disconnect() -> None:
    clients: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        clients.append(channels["reply"])
        await channels["reply"].send({"status": 200, "more_content": True})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count_turns())
    await asyncio.sleep(0)
    before = turns
    for _ in range(900):
        await clients[0].send({"content": b"x", "more_content": True})
    assert turns == before, "it waits although it is not that client's task"
    for _ in range(5000):
        await clients[0].send({"content": b"x", "more_content": True})
    assert turns > before, "no other task ever runs"
    counter.cancel()
    await settle()


async def test_R6_handler_that_ignores_the_disconnect_is_cancelled_after_a_timeout() -> None:
    cancelled = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    conversation = Conversation(app, timeout_disconnect=0)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    await cancelled.wait()


async def test_R6_handler_may_continue_after_its_complete_reply() -> None:
    done: list[bool] = []
    may_go_on = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200})
        await may_go_on.wait()
        done.append(True)

    conversation = Conversation(app, timeout_disconnect=0)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    await asyncio.sleep(0)
    may_go_on.set()
    await settle()
    assert done == [True]


async def test_handler_that_streams_to_a_fast_client_lets_other_tasks_run() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        for _ in range(2000):
            await channels["reply"].send({"content": b"x", "more_content": True})
        await channels["reply"].send({"content": b"%d" % turns})

    counter = asyncio.create_task(count_turns())
    conversation = Conversation(app)
    conversation.send(GET)
    await settle(50)
    counter.cancel()
    await settle()
    assert int(conversation.responses()[0].content.lstrip(b"x")) >= 7


async def test_R7_body_channel_returns_empty_content_at_the_end() -> None:
    chunks: list[dict[str, Any]] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        chunks.extend([await channels["body"].receive() for _ in range(3)])
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 5", content=b"hello"))
    await settle()
    last = {"content": b"", "more_content": False}
    assert [chunk["content"] for chunk in chunks if chunk["content"]] == [b"hello"]
    assert chunks[-1] == last


async def test_R7_truncated_upload_gets_no_response(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    conversation = Conversation(echo)
    conversation.send(request(POST, b"content-length: 5", content=b"hel"))
    await settle()
    await conversation.lose()
    assert conversation.received == b""
    (record,) = [record for record in caplog.records if record.name == "uvicorn.app"]
    assert record.levelno == logging.INFO


async def test_R7_reading_the_content_of_an_aborted_request_raises_ClientDisconnected() -> None:
    chunks: list[dict[str, Any]] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        chunks.append(await channels["body"].receive())

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 5"))
    await settle()
    await conversation.lose()
    (chunk,) = chunks
    assert chunk == {"closed": True, "more_content": False}
    assert chunk.get("content") is None
    with pytest.raises(ClientDisconnected):
        chunk["content"]
    with pytest.raises(KeyError):
        chunk["other"]


async def test_R7_body_channel_returns_a_closed_message_after_the_reply() -> None:
    chunks: list[dict[str, Any]] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200})
        chunks.append(await channels["body"].receive())

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 5"))
    await settle()
    conversation.send(b"hello")
    await settle()
    assert chunks == [{"closed": True, "more_content": False}]


async def test_R7_cancelling_one_waiting_receive_does_not_affect_a_second_receive() -> None:
    received: list[dict[str, Any]] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        async def one() -> None:
            received.append(await channels["body"].receive())

        impatient, patient = asyncio.create_task(one()), asyncio.create_task(one())
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(request(POST, b"content-length: 2"))
    await settle()
    conversation.send(b"ab")
    await settle()
    assert received == [{"content": b"ab", "more_content": False}]


class WantsDisconnect(Recorder):
    wants_http_disconnect = True

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        self.messages.append(message)
        self.channels.append(channels)
        if message["channel"] == "http.request":
            await self._app(message, channels)


async def slow(message: dict[str, Any], channels: dict[str, Any]) -> None:
    await asyncio.sleep(0)
    await hello(message, channels)


@pytest.mark.parametrize("reply", [hello, slow])
async def test_R8_application_may_ask_for_http_disconnect_after_each_request(reply: Any) -> None:
    app = WantsDisconnect(reply)
    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert app.messages[1:] == [{"channel": "http.disconnect", "path": "/"}]
    assert app.channels[0]["reply"] is app.channels[1]["reply"]


async def test_R8_http_disconnect_is_sent_when_the_client_disconnects() -> None:
    async def wait(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    app = WantsDisconnect(wait)
    conversation = Conversation(app, timeout_disconnect=0)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    assert [message["channel"] for message in app.messages] == ["http.request", "http.disconnect"]
    await conversation.interface.tasks.finish(0)


async def test_R8_exception_during_the_http_disconnect_event_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "http.disconnect":
            raise ValueError("boom")
        await hello(message, channels)

    app.wants_http_disconnect = True  # type: ignore[attr-defined]
    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [200]
    assert "exception in the application's handler of http.disconnect" in caplog.text
    await conversation.lose()


async def test_R8_application_gets_no_http_disconnect_by_default() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    assert len(recorder.messages) == 1


@pytest.mark.any_loop
@pytest.mark.parametrize("headers", [[[b"X-A", b"1"]], [(b"x-a", b"1")], ((b"X-a", b"1"),)])
async def test_R12_reply_accepts_header_pairs_as_lists_or_tuples(headers: Any) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "headers": headers})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert b"\r\nx-a: 1\r\n" in conversation.received


@pytest.mark.any_loop
@pytest.mark.parametrize("missing", [{}, {"headers": None, "content": None, "status_text": None}])
async def test_R12_reply_may_omit_optional_keys_or_set_them_to_None(missing: dict[str, Any]) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, **missing})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert [(response.status, response.content) for response in conversation.responses()] == [(200, b"")]


@pytest.mark.any_loop
@pytest.mark.parametrize(
    "reply",
    [
        {"status": "200"},
        {"status": 99},
        {"status": 1000},
        {"status": 200, "content": "text"},
        {"status": 200, "headers": [["a", "b"]]},
        {"status": 200, "headers": [[b"a", "b"]]},
        {"status": 200, "headers": [[b"a"]]},
        {"status": 200, "headers": {b"a": b"b"}},
        {"status": 200, "headers": 1},
        {"status": 200, "status_text": "OK"},
        {"content": b"no status"},
        {},
    ],
)
async def test_invalid_reply_raises_LocalProtocolError(reply: dict[str, Any]) -> None:
    raised: list[Exception] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        try:
            await channels["reply"].send(reply)
        except LocalProtocolError as error:
            raised.append(error)
            raise

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [500]
    assert len(raised) == 1


async def test_error_for_an_unexpected_reply_contains_the_state_and_the_message() -> None:
    said: list[str] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        steps: list[dict[str, Any]] = [
            {"content": b"x"},
            {"status": 200, "more_content": True},
            {"status": 200, "headers": []},
            {"content": b"end"},
            {"status": 200},
        ]
        for step in steps:
            try:
                await reply.send(step)
            except LocalProtocolError as error:
                said.append(str(error))

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert said == [
        "reply.send: expected a response with 'status', got {'content'} in state WAITING",
        "reply.send: expected a chunk without 'status', got {'status', 'headers'} in state STREAMING",
        "reply.send: expected a chunk without 'status', got {'status'} in state COMPLETE",
    ]
    assert conversation.responses()[0].content == b"end"


async def test_two_chunks_after_a_complete_channels_response_log_one_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"all"})
        await channels["reply"].send({"content": b"more"})
        await channels["reply"].send({"content": b"more"})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.responses()[0].content == b"all"
    assert caplog.text.count("after the end of the response") == 1


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("settings", "line", "expected"),
    [
        ({}, b"GET /a HTTP/1.1", ("/a", b"/a", "")),
        ({"root_path": "/api"}, b"GET /a HTTP/1.1", ("/api/a", b"/api/a", "/api")),
        ({"root_path": "/api", "root_path_cut": "auto"}, b"GET /api/a HTTP/1.1", ("/api/a", b"/api/a", "/api")),
        ({"root_path": "/api", "root_path_cut": "auto"}, b"GET /api HTTP/1.1", ("/api", b"/api", "/api")),
        ({"root_path": "/api"}, b"GET /api/a HTTP/1.1", ("/api/api/a", b"/api/api/a", "/api")),
        ({"root_path": "/api", "root_path_cut": "no"}, b"GET /api/a HTTP/1.1", ("/api/a", b"/api/a", "/api")),
        ({"root_path": "/api", "root_path_cut": "no"}, b"GET /a HTTP/1.1", ("/a", b"/a", "")),
        ({"root_path": "/app"}, b"GET /apple HTTP/1.1", ("/app/apple", b"/app/apple", "/app")),
        ({"root_path": "/caf\xe9"}, b"GET /a%20b HTTP/1.1", ("/caf\xe9/a b", b"/caf%C3%A9/a%20b", "/caf\xe9")),
    ],
)
async def test_R14_path_of_a_channels_message_includes_its_root_path(
    settings: dict[str, Any], line: bytes, expected: tuple[Any, ...]
) -> None:
    message = await message_of(request(line), **settings)
    assert (message["path"], message["raw_path"], message["root_path"]) == expected


async def test_R15_startup_and_shutdown_are_awaited() -> None:
    calls: list[str] = []

    class App(Recorder):
        async def startup(self) -> None:
            calls.append("startup")

        async def shutdown(self) -> None:
            calls.append("shutdown")

    conversation = Conversation(App())
    await conversation.interface.startup()
    await conversation.interface.shutdown(1)
    assert calls == ["startup", "shutdown"]


async def test_R15_shutdown_waits_for_handlers_and_then_cancels_them(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[str] = []

    class App:
        async def __call__(self, message: Any, channels: Any) -> None:
            await channels["reply"].send({"status": 200})
            try:
                await asyncio.Event().wait()
            finally:
                calls.append("handler")

        async def shutdown(self) -> None:
            calls.append("shutdown")

    conversation = Conversation(App())
    conversation.send(GET)
    await settle()
    await conversation.interface.shutdown(0)
    assert calls == ["handler", "shutdown"]
    assert "shutdown: cancelled 1 handler after 0 seconds" in caplog.text


@pytest.mark.parametrize("ending", ["reply", "loss", "failure", "late"])
async def test_R15_every_end_of_an_exchange_calls_the_on_close_callback_once(ending: str) -> None:
    calls: list[str] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        if ending != "late":
            reply.on_close(lambda: calls.append("closed"))
        if ending == "failure":
            raise ValueError("boom")
        if ending in ("reply", "late"):
            await reply.send({"status": 200})
        else:
            await asyncio.Event().wait()
        if ending == "late":
            reply.on_close(lambda: calls.append("closed"))

    conversation = Conversation(app, timeout_disconnect=0)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    await conversation.interface.tasks.finish(0)
    assert calls == ["closed"]


async def test_R15_failed_on_close_callback_does_not_prevent_the_next_callback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls: list[str] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        channels["reply"].on_close(lambda: 1 / 0)
        channels["reply"].on_close(lambda: calls.append("second"))
        await channels["reply"].send({"status": 200})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert (conversation.statuses, calls) == ([200], ["second"])
    assert "ZeroDivisionError" in caplog.text


async def test_R17_connection_is_aborted_when_too_many_bytes_are_unsent() -> None:
    clients: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        clients.append(channels["reply"])
        await channels["reply"].send({"status": 200, "more_content": True})

    conversation = Conversation(app, max_unsent_bytes=1000000)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    sends = 0
    while not conversation.transport.aborted:
        await clients[0].send({"content": b"x" * 100000, "more_content": True})
        sends += 1
        assert sends < 20
    assert sends == 11
    await settle()


@pytest.mark.any_loop
@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/%E2%82%AC", "/€"),
        (b"/%ff", "/�"),
        (b"/%C0%AF", "/��"),
        (b"/%2Fa%2e%2e", "//a.."),
        (b"/%00", "/\0"),
        (b"/%zz%", "/%zz%"),
        (b"/%25%34%31", "/%41"),
        (b"//a/../b", "//a/../b"),
    ],
)
async def test_R18_path_is_percent_decoded_once(target: bytes, path: str) -> None:
    message = await message_of(request(b"GET " + target + b" HTTP/1.1"))
    assert (message["path"], message["raw_path"]) == (path, target)
    message["path"].encode("utf-8")


async def test_status_text_of_a_reply_becomes_the_http_reason_phrase() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "status_text": b"Fine"})

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.received.startswith(b"HTTP/1.1 200 Fine\r\n")


async def test_channels_application_that_raises_before_its_reply_gives_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        raise ValueError("boom")

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [500]
    assert caplog.text.count("Traceback") == 1
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [500, 500], "the connection is still good"


async def test_channels_application_that_raises_while_streaming_aborts_the_connection() -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "content": b"half", "more_content": True})
        raise ValueError("boom")

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.transport.aborted
    assert not conversation.responses()[0].complete


async def test_channels_exception_after_the_reply_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await hello(message, channels)
        raise ValueError("boom")

    conversation = Conversation(app)
    conversation.send(GET * 2)
    await settle()
    assert conversation.statuses == [200, 200]
    assert caplog.text.count("Traceback") == 2


async def test_channels_handler_that_cancels_itself_gives_500(caplog: pytest.LogCaptureFixture) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        raise asyncio.CancelledError

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [500]
    assert "cancelled before its response was complete" in caplog.text


async def test_channels_application_that_is_no_coroutine_function_gives_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversation = Conversation(lambda message, channels: None, interface="channels")
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [500]
    assert "the application returned NoneType None, expected a coroutine" in caplog.text


async def test_reply_may_come_from_another_task_after_the_handler_has_returned() -> None:
    may_reply = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def later(reply: Any) -> None:
        await may_reply.wait()
        await reply.send({"status": 200, "content": b"late"})

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        tasks.add(asyncio.create_task(later(channels["reply"])))

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    gc.collect()
    await settle()
    assert conversation.received == b""
    may_reply.set()
    await settle()
    assert conversation.responses()[0].content == b"late"


async def test_channels_handler_that_returns_without_a_reply_gives_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        pass

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [500]
    assert "the handler returned and sent no reply" in caplog.text


async def test_channels_handler_that_returns_its_response_logs_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> Any:
        return {"status": 200, "content": b"ok"}

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    said = "the handler returned {'status', 'content'} and sent no reply; expected a response sent to the reply channel"
    assert said in caplog.text


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ({"status": 200, "body": b"ok"}, "expected the content as bytes in 'content', got {'status', 'body'}"),
        ({"type": "http.response.start", "status": 200}, "in 'content', got {'type', 'status'}"),
        (b"hello", "expected a response with 'status', got bytes in state WAITING"),
    ],
)
async def test_malformed_reply_gives_500_and_logs_the_expected_message(
    reply: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send(reply)

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [500]
    assert said in caplog.text


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        ({"text": "tick"}, "expected the content as bytes in 'content', got {'text'}"),
        (b"tick", "expected a chunk without 'status', got bytes in state STREAMING"),
    ],
)
async def test_malformed_chunk_aborts_the_channels_response(
    chunk: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        await channels["reply"].send(chunk)

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.transport.aborted
    assert said in caplog.text


async def test_request_gets_500_when_an_unused_reply_channel_is_garbage_collected() -> None:
    kept: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        kept.append(channels["reply"])

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    assert conversation.received == b""
    kept.clear()
    gc.collect()
    await settle()
    assert conversation.statuses == [500]


async def test_channels_request_gets_500_after_the_reply_timeout() -> None:
    kept: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        kept.append(channels["reply"])

    conversation = Conversation(app, reply_timeout=0)
    conversation.send(GET)
    await until(lambda: conversation.received)
    assert conversation.statuses == [500]


secret: ContextVar[str] = ContextVar("secret", default="")


async def test_context_variables_do_not_pass_from_one_request_to_the_next() -> None:
    seen: list[str] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        seen.append(secret.get())
        secret.set(message["path"])
        await asyncio.sleep(0)
        await hello(message, channels)

    conversation = Conversation(app)
    conversation.send(GET * 3)
    await settle()
    assert seen == ["", "", ""]


async def test_each_channels_handler_runs_in_a_separate_task() -> None:
    tasks: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        tasks.append(asyncio.current_task())
        await hello(message, channels)

    conversation = Conversation(app)
    conversation.send(GET * 2)
    await settle()
    assert None not in tasks
    assert tasks[0] is not tasks[1]


async def test_repr_of_channels_shows_name_path_and_state() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(GET)
    await settle()
    reply = recorder.channels[0]["reply"]
    assert repr(reply) == f"<ReplyChannel {reply.name} of <GET '/' COMPLETE>>"


async def test_R5_result_of_send_has_the_methods_of_a_coroutine() -> None:

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        big = {"content": b"x" * 100000, "more_content": True}
        reply.send({"status": 200, **big})
        waiting = reply.send(big)
        assert waiting.send(None) is not None
        waiting.close()
        waiting = reply.send(big)
        waiting.send(None)
        with pytest.raises(ValueError, match="thrown"):
            waiting.throw(ValueError("thrown"))
        sent = reply.send({"content": b"last"})
        with pytest.raises(ValueError, match="thrown"):
            sent.throw(ValueError("thrown"))
        sent.close()

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle()
    assert conversation.responses()[0].complete
    await conversation.lose()


async def test_garbage_collected_reply_channel_sends_no_second_response() -> None:
    kept: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        kept.append(channels["reply"])

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    await kept[0].send({"status": 200})
    kept.clear()
    gc.collect()
    await settle()
    assert conversation.statuses == [200]


async def test_channels_handler_that_deletes_its_reply_channel_gives_500() -> None:
    may_return = asyncio.Event()

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        del channels["reply"], channels
        await may_return.wait()

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    may_return.set()
    await settle()
    assert conversation.statuses == [500]


async def test_missing_reply_is_not_logged_when_the_client_disconnects(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        kept.append(channels["reply"])

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    kept.clear()
    conversation.connection.connection_lost(None)
    await settle()
    assert "sent no reply" not in caplog.text


def test_reply_channel_that_outlives_the_event_loop_sends_nothing() -> None:
    kept: list[Any] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        kept.append(channels["reply"])

    async def main() -> Conversation:
        conversation = Conversation(app)
        conversation.send(GET)
        await settle()
        return conversation

    conversation = asyncio.run(main())
    kept.clear()
    assert conversation.received == b""


async def test_reply_after_the_event_loop_has_closed_is_dropped() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(GET)
    await settle()
    recorder.channels[0]["reply"]._exchange.endpoint.loop = None
    await asyncio.to_thread(recorder.channels[0]["reply"].send, {"content": b"x"})


async def test_offer_text_of_an_http_reply_channel_returns_False() -> None:
    recorder = Recorder(hello)
    conversation = Conversation(recorder)
    conversation.send(GET)
    await settle()
    assert recorder.channels[0]["reply"].offer_text("text") is False
    await conversation.lose()
