"""Consumers on workers: threads that send while they run, clients that are slow, clients that leave."""

from __future__ import annotations

import asyncio
import functools
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.corpus import POST, request
from tests.helpers import GET, Conversation, settle, until
from tests.interfaces.test_consumer import hello_world, talk
from tests.waits import LONGEST_WAIT
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.errors import ChannelClosed, LocalProtocolError
from uvicorn.interfaces.consumer_sync import ConsumerCall, ThreadedConsumerInterface
from uvicorn.settings import Settings

MORE = {"content": b"x" * 10_000, "more_content": True}


async def test_blocked_sync_consumer_does_not_stall_other_requests() -> None:
    release = threading.Event()

    def app(message: dict[str, Any]) -> None:
        if message["path"] == "/slow":
            release.wait()
        hello_world(message)

    conversation = Conversation(app)
    other, transport = conversation.connect()
    conversation.send(request(b"GET /slow HTTP/1.1"))
    other.data_received(GET)
    await until(lambda: transport.writes)
    assert conversation.received == b""
    release.set()
    await until(lambda: conversation.received)
    await conversation.interface.shutdown(1)


async def test_sync_consumer_streams_while_it_runs() -> None:
    release = threading.Event()

    def app(message: dict[str, Any]) -> None:
        message["reply_channel"].send({"status": 200, "content": b"first", "more_content": True})
        release.wait()
        message["reply_channel"].send({"content": b"last"})

    conversation = Conversation(app)
    conversation.send(GET)
    await until(lambda: conversation.received.endswith(b"first\r\n"))
    release.set()
    await until(lambda: conversation.context.requests == 0)
    assert conversation.responses()[0].content == b"firstlast"
    await conversation.interface.shutdown(1)


async def test_sync_consumer_waits_for_a_slow_client() -> None:
    sent = 0

    def app(message: dict[str, Any]) -> None:
        nonlocal sent
        message["reply_channel"].send({"status": 200, "more_content": True})
        for _ in range(100):
            message["reply_channel"].send({"content": b"x" * 65536, "more_content": True})
            sent += 1
        message["reply_channel"].send({})

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: conversation.transport.unsent > 65536)
    await settle(1000)
    assert sent < 10
    conversation.transport.client_takes = True
    conversation.transport.take(1 << 30)
    await until(lambda: conversation.context.requests == 0)
    assert len(conversation.responses()[0].content) == 100 * 65536
    await conversation.interface.shutdown(1)


class Untaken:
    """The `LoopCalls` of a busy loop."""

    def __init__(self) -> None:
        self.posts: list[Callable[[], None]] = []
        self.is_waited_for = False

    def post(self, message: Callable[[], None]) -> bool:
        self.posts.append(message)
        return True

    def wait(self, function: Callable[[], object]) -> bool:
        self.is_waited_for = True
        done = threading.Event()
        self.post(lambda: (function(), done.set())[1])
        return done.wait(LONGEST_WAIT)


async def test_sync_consumer_that_sends_empty_chunks_waits_at_the_high_water_mark() -> None:
    interface, loop_calls = ThreadedConsumerInterface(endless([]), Settings()), Untaken()
    interface.loop_calls = lambda: loop_calls  # type: ignore[method-assign, assignment, return-value]
    call: Any = ConsumerCall(interface, Answered().exchange(), b"")

    def send() -> None:
        call.send({"status": 200, "more_content": True})
        for _ in range(10_000):
            call.send({"more_content": True})

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    await until(lambda: loop_calls.is_waited_for or not sender.is_alive())
    assert len(loop_calls.posts) < 2000
    while sender.is_alive():
        posts, loop_calls.posts = loop_calls.posts, []
        for post in posts:
            post()
        await asyncio.sleep(0)


async def test_sync_consumer_waits_at_the_high_water_mark_after_sends_of_two_threads() -> None:
    class Loop(Untaken):
        is_busy = True

        def post(self, message: Callable[[], None]) -> bool:
            super().post(message)
            while self.posts and not self.is_busy:
                self.posts.pop(0)()
            return True

    interface, loop_calls = ThreadedConsumerInterface(endless([]), Settings()), Loop()
    interface.loop_calls = lambda: loop_calls  # type: ignore[method-assign, assignment, return-value]
    call: Any = ConsumerCall(interface, Answered().exchange(), b"")
    chunk = {"content": b"x" * 100_000, "more_content": True}
    first = asyncio.ensure_future(asyncio.to_thread(call.send, {"status": 200, **chunk}))
    await until(lambda: len(loop_calls.posts) == 2)
    # The loop handles the wait of the first thread when the second thread has counted its bytes.
    loop_calls.is_busy = False
    await asyncio.to_thread(call.send, chunk)
    await first
    loop_calls.is_busy, loop_calls.is_waited_for = True, False
    third = asyncio.ensure_future(asyncio.to_thread(call.send, chunk))
    await until(lambda: len(loop_calls.posts) == 2 or third.done())
    has_waited, loop_calls.is_busy = loop_calls.is_waited_for, False
    loop_calls.post(lambda: None)
    await third
    assert has_waited


class Answered(HTTPGateway):
    """A gateway that takes everything."""

    def __init__(self) -> None:
        self.contents: list[bytes] = []

    def exchange(self) -> HTTPExchange:
        endpoint = Endpoint(loop=asyncio.get_running_loop())
        return HTTPExchange(self, endpoint, "GET", b"/", "1.1", ((), ()), has_content=False)

    def send_response(self, exchange: Any, status: Any, headers: Any, content: bytes, more: bool, reason: Any) -> None:
        self.contents.append(content)

    def send_content(self, exchange: Any, content: bytes, more: bool) -> None:
        self.contents.append(content)


def endless(ended: list[BaseException]) -> Callable[[dict[str, Any]], None]:
    def app(message: dict[str, Any]) -> None:
        try:
            message["reply_channel"].send({"status": 200, "more_content": True})
            while True:
                message["reply_channel"].send(MORE)
        except BaseException as error:
            ended.append(error)
            raise

    return app


@pytest.mark.parametrize("takes", [True, False])
async def test_R6_endless_sync_consumer_ends_when_its_client_disconnects(
    takes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[BaseException] = []
    conversation = Conversation(endless(ended), read_buffer_bytes=1)
    conversation.transport.client_takes = takes
    conversation.send(GET)
    await until(lambda: len(conversation.transport.writes) > 3)
    await conversation.lose()
    await until(lambda: ended)
    await conversation.interface.shutdown(1)
    assert [type(error) for error in ended] == [ChannelClosed]
    assert caplog.text == ""


async def test_R6_consumer_message_to_a_disconnected_client_is_dropped() -> None:
    replies: list[Any] = []

    def app(message: dict[str, Any]) -> None:
        message["reply_channel"].send({"status": 200, "more_content": True})
        replies.append(message["reply_channel"])

    conversation = Conversation(app)
    conversation.send(GET)
    await until(lambda: replies and conversation.received)
    await conversation.lose()
    await asyncio.get_running_loop().run_in_executor(None, replies[0].send, MORE)
    await replies[0].send(MORE)
    await conversation.interface.shutdown(1)


async def test_R6_disconnect_releases_a_thread_that_waits_in_send() -> None:
    replies: list[Any] = []

    def app(message: dict[str, Any]) -> None:
        message["reply_channel"].send({"status": 200, "more_content": True})
        replies.append(message["reply_channel"])

    conversation = Conversation(app)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: replies)
    big = {"content": b"x" * 200_000, "more_content": True}
    waiting = asyncio.get_running_loop().run_in_executor(None, replies[0].send, big)
    await until(lambda: conversation.transport.unsent > 200_000)
    assert not waiting.done()
    await conversation.lose()
    await waiting
    await conversation.interface.shutdown(1)


async def test_awaited_send_of_a_sync_consumer_does_not_block_the_event_loop() -> None:
    replies: list[Any] = []
    conversation = Conversation(lambda message: replies.append(message["reply_channel"]), interface="consumer")
    conversation.transport.client_takes = False
    conversation.send(GET)
    await until(lambda: replies)
    replies[0].send({"status": 200, "more_content": True})
    replies[0].send({"content": b"x" * 100_000, "more_content": True})
    await settle()
    waiting = asyncio.ensure_future(replies[0].send(MORE))
    await settle()
    assert not waiting.done()
    conversation.transport.take(1 << 20)
    await waiting
    replies[0].send({})
    await until(lambda: conversation.context.requests == 0)
    await conversation.interface.shutdown(1)


async def test_chunks_sent_by_several_threads_do_not_mix() -> None:
    def app(message: dict[str, Any]) -> None:
        reply = message["reply_channel"]
        reply.send({"status": 200, "more_content": True})
        threads = [
            threading.Thread(target=reply.send, args=({"content": b"%d" % n * 9, "more_content": True},))
            for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reply.send({})

    content = (await talk(app)).responses()[0].content
    assert sorted(content[start : start + 9] for start in range(0, 72, 9)) == [b"%d" % n * 9 for n in range(8)]


async def test_sync_consumer_may_change_its_content_buffer_after_send() -> None:
    def app(message: dict[str, Any]) -> None:
        content = bytearray(b"first")
        message["reply_channel"].send({"status": 200, "content": content, "more_content": True})
        content[:] = b"other"
        message["reply_channel"].send({"content": memoryview(b"!")})

    assert (await talk(app)).responses()[0].content == b"first!"


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([{"content": b"x"}], "expected a response with 'status', got {'content'} in state WAITING"),
        ([{}], "expected a response with 'status', got {} in state WAITING"),
        (
            [{"status": 200, "more_content": True}, {"status": 200}],
            "expected a chunk without 'status', got {'status'} in state STREAMING",
        ),
        ([{"status": 200}, {"status": 200}], "expected a chunk without 'status', got {'status'} in state COMPLETE"),
        ([b"hello"], "expected a response with 'status', got bytes in state WAITING"),
        ([{"status": 200, "content": "text"}], "content: expected bytes, got str 'text'"),
        (
            [{"status": 200, "body": b""}],
            "reply.send: expected the content as bytes in 'content', got {'status', 'body'}",
        ),
        ([{"status": 200, "more_content": True}, {"content": 1}], "content: expected bytes, got int 1"),
    ],
)
async def test_invalid_message_raises_LocalProtocolError_in_the_sync_consumer(messages: list[Any], said: str) -> None:
    raised: list[str] = []

    def app(message: dict[str, Any]) -> None:
        try:
            for one in messages:
                message["reply_channel"].send(one)
        except LocalProtocolError as error:
            raised.append(str(error))

    await talk(app)
    assert [text.removeprefix("reply_channel.send: ") for text in raised] == [said]


async def test_sync_consumer_may_send_a_valid_response_after_an_invalid_response() -> None:
    def app(message: dict[str, Any]) -> None:
        with pytest.raises(LocalProtocolError):
            message["reply_channel"].send({"status": 200, "content": "text"})
        message["reply_channel"].send({"status": 201})

    assert (await talk(app)).statuses == [201]


@pytest.mark.parametrize(
    "reply",
    [{"status": 99}, {"status": "200"}, {"status": 200, "headers": 5}, {"status": 200, "headers": [[b"a", b"b\r\n"]]}],
)
@pytest.mark.parametrize("more_content", [True, False])
async def test_sync_consumer_response_with_an_invalid_field_gives_500(
    reply: dict[str, Any], more_content: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def app(message: dict[str, Any]) -> None:
        message["reply_channel"].send({**reply, "more_content": more_content})
        if more_content:
            message["reply_channel"].send({"content": b"x"})

    assert (await talk(app)).statuses == [500]
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("content", [b"too long", b"-"])
async def test_sync_consumer_content_that_contradicts_content_length_aborts_the_response(
    content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    def app(message: dict[str, Any]) -> None:
        message["reply_channel"].send({"status": 200, "headers": [[b"content-length", b"3"]], "more_content": True})
        message["reply_channel"].send({"content": content})

    conversation = await talk(app)
    assert conversation.transport.closing
    assert len(conversation.received.partition(b"\r\n\r\n")[2]) <= 3
    assert "content-length is 3" in caplog.text


async def test_coroutine_returned_by_a_plain_consumer_runs_on_the_event_loop() -> None:
    threads: list[int] = []

    async def app(message: dict[str, Any]) -> None:
        threads.append(threading.get_ident())
        await message["reply_channel"].send({"status": 200, "content": b"hidden"})

    assert (await talk(functools.partial(lambda app, message: app(message), app))).responses()[0].content == b"hidden"
    assert threads == [threading.get_ident()]


async def test_plain_consumer_gives_500_if_its_coroutine_raises() -> None:
    async def app(message: dict[str, Any]) -> None:
        raise ValueError

    assert (await talk(lambda message: app(message))).statuses == [500]


async def test_C9_full_thread_queue_rejects_requests_with_503_and_retry_after() -> None:
    release = threading.Event()

    def app(message: dict[str, Any]) -> None:
        release.wait()
        hello_world(message)

    conversation = Conversation(app, threads=1, thread_queue=1)
    others = [conversation.connect() for _ in range(2)]
    conversation.send(GET)
    for connection, _ in others:
        connection.data_received(GET)
    await until(lambda: others[1][1].writes)
    assert others[1][1].writes[0].startswith(b"HTTP/1.1 503 ")
    assert b"\r\nretry-after: 1\r\n" in others[1][1].writes[0]
    release.set()
    await until(lambda: conversation.received and others[0][1].writes)
    await conversation.interface.shutdown(1)


async def test_shutdown_answers_queued_consumer_requests_with_503() -> None:
    begun, release = threading.Event(), threading.Event()

    def app(message: dict[str, Any]) -> None:
        begun.set()
        release.wait()
        hello_world(message)

    conversation = Conversation(app, threads=1)
    other, transport = conversation.connect()
    conversation.send(GET)
    await until(begun.is_set)
    other.data_received(GET)
    stopping = asyncio.ensure_future(conversation.interface.shutdown(30))
    await until(lambda: transport.writes)
    assert transport.writes[0].startswith(b"HTTP/1.1 503 ")
    release.set()
    await stopping
    await until(lambda: conversation.received)
    assert conversation.statuses == [200]


async def test_sync_consumer_is_not_called_for_a_disconnected_client() -> None:
    begun, release = threading.Event(), threading.Event()
    paths: list[str] = []

    def app(message: dict[str, Any]) -> None:
        paths.append(message["path"])
        begun.set()
        release.wait()
        hello_world(message)

    conversation = Conversation(app, threads=1)
    other, transport = conversation.connect()
    conversation.send(GET)
    await until(begun.is_set)
    other.data_received(request(b"GET /second HTTP/1.1"))
    transport.reset()
    await settle()
    release.set()
    await until(lambda: conversation.received)
    await conversation.interface.shutdown(1)
    assert paths == ["/"]


def test_send_of_a_sync_consumer_raises_ChannelClosed_after_the_loop_has_closed() -> None:
    raised: list[BaseException] = []
    loop = asyncio.new_event_loop()

    async def begin() -> ConsumerCall:
        interface = ThreadedConsumerInterface(endless(raised), Settings())
        return ConsumerCall(interface, Answered().exchange(), b"")

    call = loop.run_until_complete(begin())
    loop.close()
    call.run()
    assert [type(error) for error in raised] == [ChannelClosed]


async def test_sync_consumer_gets_64_KiB_that_arrive_together_with_the_request_head() -> None:
    content = bytes(range(256)) * 256
    stream = request(POST, b"content-length: %d" % len(content), content=content)
    conversation = Conversation(
        lambda message: message["reply_channel"].send({"status": 200, "content": message["body"]})
    )
    conversation.connection.data_received(stream)
    await until(lambda: conversation.context.requests == 0)
    assert conversation.responses()[0].content == content
    await conversation.interface.shutdown(1)


async def test_plain_consumer_that_returns_a_finished_coroutine_gives_500() -> None:
    async def app(message: dict[str, Any]) -> None: ...

    handler = app({})
    handler.close()
    conversation = Conversation(lambda message: handler)
    conversation.send(GET)
    await until(lambda: conversation.context.requests == 0)
    assert conversation.statuses == [500]
    await conversation.interface.shutdown(1)


async def test_sync_consumer_that_returns_after_a_disconnect_logs_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun, release = threading.Event(), threading.Event()

    def app(message: dict[str, Any]) -> None:
        begun.set()
        release.wait()

    conversation = Conversation(app)
    conversation.send(GET)
    await until(begun.is_set)
    await conversation.lose()
    release.set()
    await conversation.interface.shutdown(1)
    await settle()
    assert caplog.text == ""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="a task that is started later raises out of the event loop")
async def test_system_exit_in_the_coroutine_of_a_plain_consumer_gives_500() -> None:
    async def app(message: dict[str, Any]) -> None:
        raise SystemExit

    # Nothing retrieves the exception of a task that is started eagerly.
    asyncio.get_running_loop().set_exception_handler(lambda loop, report: None)
    assert (await talk(lambda message: app(message))).statuses == [500]


async def test_stopped_event_loop_releases_a_sync_consumer_that_blocks_in_send() -> None:
    class Stopping(Untaken):
        def wait(self, function: object) -> bool:
            return False

    interface, loop_calls = ThreadedConsumerInterface(endless([]), Settings()), Stopping()
    interface.loop_calls = lambda: loop_calls  # type: ignore[method-assign, assignment, return-value]
    call: Any = ConsumerCall(interface, Answered().exchange(), b"")
    first = {"status": 200, "content": b"x" * 100_000, "more_content": True}
    await asyncio.to_thread(call.send, first)
