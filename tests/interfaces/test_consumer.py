"""Consumers, `app(message)`: rule R9, and what holds whether they run on the loop or on a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.corpus import POST, chunked, request
from tests.helpers import GET, Conversation, settle, until
from uvicorn.errors import ChannelClosed
from uvicorn.interfaces.consumer import ConsumerInterface
from uvicorn.interfaces.consumer_sync import ThreadedConsumerInterface
from uvicorn.interfaces.detect import build_interface
from uvicorn.settings import Settings

Consumer = Callable[[dict[str, Any]], Any]


def on_the_loop(consumer: Consumer) -> Consumer:
    async def on_loop(message: dict[str, Any]) -> None:
        consumer(message)

    return on_loop


def on_a_worker(consumer: Consumer) -> Consumer:
    return lambda message: consumer(message)


WAYS = pytest.mark.parametrize("way", [on_the_loop, on_a_worker])


async def talk(app: Consumer, stream: bytes = GET, answers: int = 0, **settings: Any) -> Conversation:
    """A conversation whose requests have been answered."""
    conversation = Conversation(app, **settings)
    conversation.send(stream)
    await until(lambda: conversation.context.requests == 0 and len(conversation.responses()) >= answers)
    await conversation.interface.shutdown(1)
    return conversation


def hello_world(message: dict[str, Any]) -> None:
    message["reply_channel"].send({"status": 200, "headers": [[b"content-type", b"text/html"]], "content": b"Hello"})


def echo(message: dict[str, Any]) -> None:
    message["reply_channel"].send({"status": 200, "content": message["body"]})


async def message_of(way: Callable[[Consumer], Consumer], stream: bytes, **settings: Any) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []

    def keep(message: dict[str, Any]) -> None:
        messages.append(message)
        hello_world(message)

    conversation = await talk(way(keep), stream, **settings)
    await conversation.lose()
    return messages[0]


def test_async_consumer_runs_on_the_event_loop() -> None:
    assert isinstance(build_interface(on_the_loop(hello_world), Settings()), ConsumerInterface)


def test_sync_consumer_runs_on_worker_threads() -> None:
    assert isinstance(build_interface(hello_world, Settings()), ThreadedConsumerInterface)


@WAYS
async def test_consumer_reply_that_omits_more_content_is_a_complete_response(
    way: Callable[[Consumer], Consumer],
) -> None:
    (response,) = (await talk(way(hello_world))).responses()
    assert (response.status, response.content, response.header(b"content-length")) == (200, b"Hello", b"5")


@WAYS
async def test_consumer_requests_on_one_connection_are_answered_in_order(way: Callable[[Consumer], Consumer]) -> None:
    stream = b"".join(request(POST, b"content-length: 1", content=b"%d" % number) for number in range(9))
    assert [response.content for response in (await talk(way(echo), stream, answers=9)).responses()] == [
        b"%d" % number for number in range(9)
    ]


@WAYS
async def test_R9_consumer_message_has_the_request_keys_and_all_content(
    way: Callable[[Consumer], Consumer],
) -> None:
    message = await message_of(
        way, request(b"POST /a%20b?c=d HTTP/1.1", b"X-Two: 1", b"content-length: 2", content=b"ab")
    )
    assert {key: message[key] for key in message if key not in ("reply_channel", "content", "message")} == {
        "channel": "http.request",
        "channel_layer": None,
        "scheme": "http",
        "root_path": "",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 51234),
        "http_version": "1.1",
        "method": "POST",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=d",
        "headers": [[b"host", b"x"], [b"x-two", b"1"], [b"content-length", b"2"]],
        "body": b"ab",
    }


@WAYS
@pytest.mark.parametrize("alias", ["content", "message"])
async def test_R9_consumer_message_contains_a_copy_of_the_request_under_each_alias(
    alias: str, way: Callable[[Consumer], Consumer]
) -> None:
    message = await message_of(way, request(POST, b"content-length: 2", content=b"ab"))
    request_keys = message.keys() - {"reply_channel", "content", "message", "channel_layer"}
    assert message[alias] == {key: message[key] for key in request_keys}


@WAYS
async def test_R9_consumer_body_is_empty_without_content(way: Callable[[Consumer], Consumer]) -> None:
    assert (await message_of(way, GET))["body"] == b""


@WAYS
async def test_R9_consumer_messages_share_no_mutable_object(way: Callable[[Consumer], Consumer]) -> None:
    messages: list[dict[str, Any]] = []

    def keep(message: dict[str, Any]) -> None:
        messages.append(message)
        hello_world(message)

    await talk(way(keep), GET * 2, answers=2)
    messages[0]["headers"][0][0] = b"changed"
    messages[0]["content"]["path"] = "/changed"
    assert (messages[1]["headers"][0][0], messages[1]["content"]["path"]) == (b"host", "/")


@WAYS
@pytest.mark.parametrize(
    "stream",
    [
        request(POST, b"content-length: 10", content=b"0123456789"),
        chunked(b"4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n"),
    ],
)
async def test_R9_consumer_is_called_after_all_content_has_arrived(
    stream: bytes, way: Callable[[Consumer], Consumer]
) -> None:
    conversation = Conversation(way(echo))
    for position in range(len(stream)):
        conversation.send(stream[position : position + 1])
        await settle(3)
    await until(lambda: conversation.context.requests == 0)
    await conversation.interface.shutdown(1)
    assert conversation.responses()[0].content == b"0123456789"


@WAYS
async def test_R9_client_gets_100_continue_before_the_consumer_is_called(
    way: Callable[[Consumer], Consumer],
) -> None:
    conversation = Conversation(way(echo))
    conversation.send(request(POST, b"content-length: 2", b"expect: 100-continue"))
    await until(lambda: conversation.received.startswith(b"HTTP/1.1 100 "))
    conversation.send(b"ab")
    await until(lambda: conversation.context.requests == 0)
    await conversation.interface.shutdown(1)
    assert conversation.responses()[-1].content == b"ab"


@WAYS
@pytest.mark.parametrize(("size", "status"), [(100, 200), (101, 413)])
@pytest.mark.parametrize("coded", [True, False])
async def test_consumer_content_above_the_limit_gives_413(
    size: int, status: int, coded: bool, way: Callable[[Consumer], Consumer]
) -> None:
    content = b"x" * size
    stream = (
        chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (size, content))
        if coded
        else request(POST, b"content-length: %d" % size, content=content)
    )
    assert (await talk(way(echo), stream, max_inline_bytes=100)).statuses == [status]


@WAYS
@pytest.mark.parametrize("coded", [True, False])
async def test_consumer_upload_gets_413_as_soon_as_it_exceeds_the_limit(
    coded: bool, way: Callable[[Consumer], Consumer]
) -> None:
    stream = chunked(b"65\r\n" + b"x" * 101) if coded else request(POST, b"content-length: 101", content=b"x")
    conversation = Conversation(way(echo), max_inline_bytes=100)
    conversation.send(stream)
    await until(lambda: conversation.received)
    assert conversation.responses()[0].status == 413
    await conversation.lose()
    await conversation.interface.shutdown(1)


@WAYS
async def test_large_consumer_upload_gets_413_instead_of_100_continue(
    way: Callable[[Consumer], Consumer],
) -> None:
    stream = request(POST, b"content-length: 101", b"expect: 100-continue")
    assert (await talk(way(echo), stream, max_inline_bytes=100)).statuses == [413]


@WAYS
async def test_consumer_is_not_called_if_the_client_disconnects_during_the_upload(
    way: Callable[[Consumer], Consumer], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    called: list[Any] = []
    conversation = Conversation(way(called.append))
    conversation.send(request(POST, b"content-length: 5", content=b"hel"))
    await settle()
    await conversation.lose()
    await conversation.interface.shutdown(1)
    assert called == []
    assert [record.levelname for record in caplog.records] == ["INFO"]


@WAYS
async def test_half_closed_client_with_an_incomplete_upload_to_a_consumer_gets_400(
    way: Callable[[Consumer], Consumer],
) -> None:
    conversation = Conversation(way(echo))
    conversation.send(request(POST, b"content-length: 5", content=b"hel"))
    await settle()
    conversation.send_eof()
    await until(lambda: conversation.context.requests == 0)
    assert conversation.statuses == [400]
    await conversation.interface.shutdown(1)


@WAYS
async def test_consumer_may_stream_its_response(way: Callable[[Consumer], Consumer]) -> None:
    def stream(message: dict[str, Any]) -> None:
        reply = message["reply_channel"]
        reply.send({"status": 201, "content": b"a", "more_content": True})
        reply.send({"content": b"b", "more_content": True})
        reply.send({"content": b"c"})

    (response,) = (await talk(way(stream))).responses()
    assert (response.status, response.content, response.complete) == (201, b"abc", True)
    assert response.header(b"transfer-encoding") == b"chunked"


@pytest.mark.parametrize(
    ("way", "error"),
    [
        (on_the_loop, ValueError("secret")),
        *((on_a_worker, error) for error in (ValueError("secret"), SystemExit(3), KeyboardInterrupt())),
    ],
)
async def test_consumer_that_raises_before_replying_gives_500_and_is_logged(
    way: Callable[[Consumer], Consumer], error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(message: dict[str, Any]) -> None:
        raise error

    conversation = await talk(way(fail))
    assert conversation.statuses == [500]
    assert b"secret" not in conversation.received
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@WAYS
async def test_consumer_that_raises_while_streaming_aborts_the_response(way: Callable[[Consumer], Consumer]) -> None:
    def fail(message: dict[str, Any]) -> None:
        message["reply_channel"].send({"status": 200, "content": b"a", "more_content": True})
        raise ValueError

    conversation = await talk(way(fail))
    assert not conversation.responses()[0].complete
    assert conversation.transport.aborted


@WAYS
async def test_consumer_that_returns_without_a_reply_gives_500(
    way: Callable[[Consumer], Consumer], caplog: pytest.LogCaptureFixture
) -> None:
    assert (await talk(way(lambda message: None))).statuses == [500]
    assert "the handler returned and sent no reply" in caplog.text


@WAYS
async def test_unfinished_response_is_aborted_when_the_consumer_returns(
    way: Callable[[Consumer], Consumer], caplog: pytest.LogCaptureFixture
) -> None:
    def stop(message: dict[str, Any]) -> None:
        message["reply_channel"].send({"status": 200, "more_content": True})

    conversation = await talk(way(stop))
    assert conversation.transport.aborted
    assert "the handler returned and left the response unfinished" in caplog.text


@WAYS
async def test_consumer_may_reply_after_it_has_returned(way: Callable[[Consumer], Consumer]) -> None:
    replies: list[Any] = []
    conversation = Conversation(way(lambda message: replies.append(message["reply_channel"])))
    conversation.send(GET)
    await until(lambda: replies)
    await settle()
    assert conversation.received == b""
    replies[0].send({"status": 200, "content": b"late"})
    await until(lambda: conversation.context.requests == 0)
    assert conversation.responses()[0].content == b"late"
    await conversation.interface.shutdown(1)


@WAYS
async def test_consumer_request_gets_500_after_the_reply_timeout(
    way: Callable[[Consumer], Consumer],
) -> None:
    kept: list[Any] = []
    conversation = await talk(way(kept.append), reply_timeout=0)
    assert conversation.statuses == [500]


@WAYS
async def test_R4_each_consumer_request_has_a_separate_reply_channel(way: Callable[[Consumer], Consumer]) -> None:
    replies: list[Any] = []

    def keep(message: dict[str, Any]) -> None:
        replies.append(message["reply_channel"])
        hello_world(message)

    await talk(way(keep), GET * 2, answers=2)
    first, second = replies
    assert len({first, second}) == 2
    assert first.name == first.name != second.name
    assert first.name in repr(first)


@WAYS
async def test_R5_send_of_a_consumer_may_be_awaited(way: Callable[[Consumer], Consumer]) -> None:
    returned: list[Any] = []

    def keep(message: dict[str, Any]) -> None:
        returned.append(message["reply_channel"].send({"status": 200}))

    await talk(way(keep))
    assert await returned[0] is None


@WAYS
@pytest.mark.parametrize("outcome", ["replied", "lost"])
async def test_R15_consumer_on_close_callback_is_called_once(outcome: str, way: Callable[[Consumer], Consumer]) -> None:
    closed: list[str] = []
    begun: list[Any] = []

    def app(message: dict[str, Any]) -> None:
        message["reply_channel"].on_close(lambda: closed.append(outcome))
        begun.append(message)
        if outcome == "replied":
            hello_world(message)

    conversation = Conversation(way(app))
    conversation.send(GET)
    await until(lambda: begun)
    await settle()
    await conversation.lose()
    await until(lambda: closed)
    await conversation.interface.shutdown(1)
    assert closed == [outcome]


@WAYS
async def test_chunks_after_the_end_of_a_consumer_response_log_one_warning(
    way: Callable[[Consumer], Consumer], caplog: pytest.LogCaptureFixture
) -> None:
    def app(message: dict[str, Any]) -> None:
        hello_world(message)
        message["reply_channel"].send({"content": b"late"})
        message["reply_channel"].send({"content": b"later"})

    (response,) = (await talk(way(app))).responses()
    assert response.content == b"Hello"
    assert [record.getMessage() for record in caplog.records] == [
        "<GET '/' COMPLETE>: content after the end of the response was ignored"
    ]


@WAYS
async def test_websocket_upgrade_is_ignored_for_consumers(way: Callable[[Consumer], Consumer]) -> None:
    stream = request(b"GET / HTTP/1.1", b"connection: upgrade", b"upgrade: websocket")
    assert (await talk(way(hello_world), stream)).statuses == [200]


@WAYS
async def test_startup_and_shutdown_of_a_consumer_are_awaited(way: Callable[[Consumer], Consumer]) -> None:
    awaited: list[str] = []
    app: Any = way(hello_world)

    async def startup() -> None:
        awaited.append("startup")

    async def shutdown() -> None:
        awaited.append("shutdown")

    app.startup, app.shutdown = startup, shutdown
    interface = build_interface(app, Settings())
    await interface.startup()
    await interface.shutdown(0)
    assert awaited == ["startup", "shutdown"]


# On the loop


async def test_async_consumer_may_await_between_its_sends() -> None:
    async def app(message: dict[str, Any]) -> None:
        await message["reply_channel"].send({"status": 200, "content": b"a", "more_content": True})
        await asyncio.sleep(0)
        await message["reply_channel"].send({"content": b"b"})

    assert (await talk(app)).responses()[0].content == b"ab"


async def test_send_of_an_async_consumer_raises_after_the_client_disconnects() -> None:
    ended: list[BaseException] = []
    may_go_on = asyncio.Event()

    async def app(message: dict[str, Any]) -> None:
        message["reply_channel"].send({"status": 200, "more_content": True})
        await may_go_on.wait()
        try:
            message["reply_channel"].send({"content": b"tick", "more_content": True})
        except BaseException as error:
            ended.append(error)
            raise

    conversation = Conversation(app)
    conversation.send(GET)
    await settle()
    await conversation.lose()
    may_go_on.set()
    await settle()
    assert [type(error) for error in ended] == [ChannelClosed]


async def test_async_consumer_that_returns_no_awaitable_gives_500() -> None:
    conversation = Conversation(on_the_loop(hello_world))
    conversation.interface.app = lambda message: None
    conversation.send(GET)
    await settle()
    assert conversation.statuses == [500]
