"""Plain functions as channels applications: `threaded(app)` on worker threads, one event of a connection at a time."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import pytest

from tests.forks import exit_code_in_child
from tests.helpers import GET, Conversation, settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn import Route, Router, forks
from uvicorn.adapters import ASGI3Adapter, WSGIAdapter
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.channel import DONE
from uvicorn.errors import ChannelClosed, ConfigError, InterfaceError
from uvicorn.interfaces import channels_websocket
from uvicorn.interfaces.channels import ChannelsInterface
from uvicorn.interfaces.channels_threads import BlockingBody, Threaded
from uvicorn.interfaces.detect import build_interface, detect_interface
from uvicorn.settings import Settings
from uvicorn.utils import threaded

POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"

Message = dict[str, Any]
Channels = dict[str, Any]


def hello(message: Message, channels: Channels) -> None:
    channels["reply"].send({"status": 200, "content": threading.current_thread().name.encode()})


def echo(message: Message, channels: Channels) -> None:
    if message["channel"] == "websocket.receive":
        channels["reply"].send({"text": message["text"]})


class Blocking:
    """Blocks each receive handler until it is released, and keeps the events in the order of their calls."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.running = 0
        self.most = 0
        self.release = threading.Semaphore(0)

    def __call__(self, message: Message, channels: Channels) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        self.events.append(message.get("text") or message["channel"].removeprefix("websocket."))
        if message["channel"] == "websocket.receive":
            self.release.acquire()
        self.running -= 1


async def wait_for_answer(conversation: WebSocketConversation) -> None:
    await until(lambda: conversation.status)


async def end(app: Any, *conversations: Conversation) -> None:
    """End the connections, then `app`, when all handlers have ended."""
    for conversation in conversations:
        await conversation.lose()
    await until(lambda: not any(conversation.interface.tasks.running for conversation in conversations))
    await app.shutdown(*[0] * (not isinstance(app, Threaded)))
    await until(lambda: len(asyncio.all_tasks()) == 1)


@asynccontextmanager
async def http(app: Callable[..., Any], **settings: Any) -> AsyncIterator[Conversation]:
    conversation = Conversation(app, **settings)
    yield conversation
    await end(conversation.interface, conversation)


@asynccontextmanager
async def opened(app: Callable[..., Any], **settings: Any) -> AsyncIterator[WebSocketConversation]:
    conversation = WebSocketConversation(app, **settings)
    await conversation.open()
    await wait_for_answer(conversation)
    yield conversation
    await end(conversation.interface, conversation)


async def test_threaded_channels_request_is_answered_by_a_worker_thread() -> None:
    async with http(threaded(hello)) as conversation:
        conversation.send(GET)
        await until(lambda: conversation.statuses)
        assert conversation.responses()[0].content == b"uvicorn-worker-1"


async def test_blocked_threaded_application_does_not_block_other_connections() -> None:
    release = threading.Event()

    def app(message: Message, channels: Channels) -> None:
        if message["path"] == "/slow":
            release.wait()
        hello(message, channels)

    async with http(threaded(app)) as conversation:
        other, transport = conversation.connect()
        conversation.send(GET.replace(b" / ", b" /slow "))
        other.data_received(GET)
        await until(lambda: transport.writes)
        assert conversation.received == b""
        release.set()
        await until(lambda: conversation.statuses)


async def test_threaded_application_receives_content_without_await() -> None:
    def app(message: Message, channels: Channels) -> None:
        content = b""
        while (piece := channels["body"].receive())["content"]:
            content += piece["content"]
        name = channels["body"].name.encode()
        channels["reply"].send({"status": 200, "content": content + b" of " + name[:4]})

    async with http(threaded(app)) as conversation:
        conversation.send(POST)
        await until(lambda: conversation.responses("POST"))
        assert conversation.responses("POST")[0].content == b"hello of body"


async def test_context_variables_of_middleware_are_set_on_the_worker_thread() -> None:
    trace: ContextVar[str] = ContextVar("trace")
    app = threaded(lambda message, channels: channels["reply"].send({"status": 200, "content": trace.get().encode()}))

    async def middleware(message: Message, channels: Channels) -> None:
        trace.set("a trace")
        await app(message, channels)

    async with http(middleware) as conversation:
        conversation.send(GET)
        await until(lambda: conversation.statuses)
        assert conversation.responses()[0].content == b"a trace"
    await app.shutdown()


async def test_threaded_wrapper_awaits_a_coroutine_that_the_function_returns() -> None:
    async def answer(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 200, "content": (await channels["body"].receive())["content"]})

    @wraps(hello)
    def hidden(message: Message, channels: Channels) -> Any:
        return answer(message, channels)

    async with http(threaded(hidden)) as conversation:
        conversation.send(POST)
        await until(lambda: conversation.responses("POST"))
        assert conversation.responses("POST")[0].content == b"hello"


async def test_threaded_request_gets_503_when_the_queue_of_the_pool_is_full() -> None:
    blocking = threading.Event()

    def app(message: Message, channels: Channels) -> None:
        blocking.wait()
        hello(message, channels)

    async with http(threaded(app), threads=1, thread_queue=1) as conversation:
        conversation.send(GET)
        connected = [conversation.connect() for _ in range(4)]
        for connection, _ in connected:
            connection.data_received(GET)
        await until(lambda: sum(b" 503 " in b"".join(transport.writes) for _, transport in connected) == 3)
        assert b"retry-after: 1\r\n" in b"".join(connected[-1][1].writes)
        blocking.set()
        await until(lambda: conversation.statuses == [200] and connected[0][1].writes)


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, StopIteration])
async def test_exception_of_a_threaded_application_gives_500(
    error: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def app(message: Message, channels: Channels) -> None:
        raise error("on a thread")

    async with http(threaded(app)) as conversation:
        conversation.send(GET)
        await until(lambda: conversation.statuses)
        assert conversation.statuses == [500]
        assert "on a thread" in caplog.text


async def test_threaded_request_without_a_response_is_answered_with_500() -> None:
    async with http(threaded(lambda message, channels: None)) as conversation:
        conversation.send(GET)
        await until(lambda: conversation.statuses)
        assert conversation.statuses == [500]


async def test_send_to_a_slow_client_blocks_the_worker_thread_until_the_client_reads() -> None:
    sent: list[int] = []

    def app(message: Message, channels: Channels) -> None:
        channels["reply"].send({"status": 200, "content": b"", "more_content": True})
        for number in range(40):
            channels["reply"].send({"content": bytes(10_000), "more_content": number < 39})
            sent.append(number)

    async with http(threaded(app)) as conversation:
        conversation.transport.client_takes = False
        conversation.send(GET)
        await until(lambda: conversation.connection.write_paused)
        await settle(200)
        assert len(sent) < 39
        conversation.transport.client_takes = True
        conversation.transport.take(1 << 20)
        await until(lambda: len(sent) == 40)


async def test_threaded_send_raises_ChannelClosed_after_a_disconnect() -> None:
    left = threading.Event()
    raised: list[BaseException] = []

    def app(message: Message, channels: Channels) -> None:
        left.wait()
        try:
            channels["reply"].send({"status": 200})
        except BaseException as error:
            raised.append(error)
            raise

    async with http(threaded(app)) as conversation:
        conversation.send(GET)
        await settle()
        await conversation.lose()
        left.set()
        await until(lambda: raised)
        assert isinstance(raised[0], ChannelClosed)


async def test_threaded_application_is_not_called_for_a_disconnected_client(
    caplog: pytest.LogCaptureFixture,
) -> None:
    release = threading.Semaphore(0)
    called: list[str] = []

    def app(message: Message, channels: Channels) -> None:
        called.append(message["path"])
        release.acquire()
        hello(message, channels)

    application = threaded(app)
    async with http(application, threads=1) as conversation:
        conversation.send(b"GET /first HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: called)
        left, _ = conversation.connect()
        stayed, transport = conversation.connect()
        left.data_received(b"GET /left HTTP/1.1\r\nhost: x\r\n\r\n")
        stayed.data_received(b"GET /stayed HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: application.posted == 3)
        left.connection_lost(None)
        release.release(3)
        await until(lambda: transport.writes and not application.posted)
        assert called == ["/first", "/stayed"]
        assert not caplog.messages


async def test_threaded_receive_returns_a_closed_chunk_after_a_disconnect() -> None:
    received: list[Any] = []
    app = threaded(lambda message, channels: received.append(channels["body"].receive()))
    async with http(app) as conversation:
        conversation.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
        await settle()
        await conversation.lose()
        await until(lambda: received)
        assert received == [{"closed": True, "more_content": False}]


async def test_client_is_served_while_another_client_uses_all_threads_per_client() -> None:
    release = threading.Semaphore(0)

    def app(message: Message, channels: Channels) -> None:
        if message["client"][0] == "192.0.2.1":
            release.acquire()
        hello(message, channels)

    application = threaded(app)
    async with http(application, threads=3, threads_per_client=2, thread_queue=1) as conversation:
        busy = [conversation.connect(("192.0.2.1", port)) for port in (1, 2, 3, 4)]
        for connection, _ in busy:
            connection.data_received(GET)
        conversation.send(GET)
        await until(lambda: conversation.statuses)
        # Two run, one waits, and a fourth one is too many.
        assert [len(transport.writes) for _, transport in busy] == [0, 0, 0, 1]
        assert b" 503 " in busy[3][1].writes[0]
        release.release(3)
        await until(lambda: all(transport.writes for _, transport in busy))
        await until(lambda: not application.shares)
        assert not application.held


async def test_threaded_request_runs_after_a_waiting_request_is_cancelled() -> None:
    release = threading.Semaphore(0)

    def app(message: Message, channels: Channels) -> None:
        release.acquire()
        hello(message, channels)

    async with http(threaded(app), threads_per_client=1, timeout_disconnect=0.01) as conversation:
        connected = [conversation.connect(("192.0.2.1", port)) for port in (1, 2, 3)]
        for connection, _ in connected:
            connection.data_received(GET)
        await until(lambda: len(conversation.interface.tasks.running) == 3)
        connected[1][1].reset()
        await until(lambda: len(conversation.interface.tasks.running) == 2)
        release.release(2)
        await until(lambda: connected[2][1].writes)


@pytest.mark.parametrize("rate", [0, 1])
async def test_minimum_rate_applies_to_a_response_that_holds_a_worker_thread(rate: int) -> None:
    release = threading.Event()
    watched: list[Any] = []

    async def app(message: Message, channels: Channels) -> None:
        task = asyncio.create_task(application(message, channels))
        await until(lambda: application.posted)
        watched.append(channels["reply"]._exchange.thread_held)
        assert rate == 0 or watched[0]()
        release.set()
        await task

    application = threaded(lambda message, channels: (release.wait(), hello(message, channels)))
    application.__uvicorn_interface__(Settings(min_response_rate=rate))
    async with http(app) as conversation:
        conversation.send(GET)
        await until(lambda: conversation.statuses and not application.posted)
    assert (watched == [None]) if rate == 0 else not watched[0]()
    await application.shutdown()


# WebSockets


async def test_threaded_websocket_application_echoes_messages() -> None:
    async with opened(threaded(echo)) as conversation:
        await conversation.say("one", "two")
        await until(lambda: len(conversation.heard) == 2)
        assert conversation.heard == ["one", "two"]


async def test_threaded_websocket_events_are_handled_one_at_a_time_in_order() -> None:
    app = Blocking()
    async with opened(threaded(app)) as conversation:
        await conversation.say("1", "2", "3")
        await until(lambda: app.running)
        await settle(100)
        assert app.events == ["connect", "1"]
        app.release.release(3)
        await conversation.lose()
        await until(lambda: len(app.events) == 5)
    assert app.events == ["connect", "1", "2", "3", "disconnect"] and app.most == 1


async def test_threaded_application_gets_10000_messages_of_a_connection_in_order() -> None:
    received: list[str] = []
    app = threaded(lambda message, channels: received.append(message.get("text") or ""))
    async with opened(app) as conversation:
        for start in range(0, 10_000, 100):
            await until(lambda: conversation.transport.reading)
            await conversation.say(*map(str, range(start, start + 100)))
        await until(lambda: len(received) == 10_001)
    assert received[1:10_001] == list(map(str, range(10_000)))


async def test_blocked_threaded_event_does_not_delay_another_websocket() -> None:
    blocking = Blocking()

    def app(message: Message, channels: Channels) -> None:
        (blocking if message["path"] == "/blocking" else echo)(message, channels)

    application = threaded(app)
    async with opened(application, path="/blocking") as blocked, opened(application) as other:
        await blocked.say("held")
        await until(lambda: blocking.running)
        await other.say("hi")
        await until(lambda: other.heard)
        assert other.heard == ["hi"]
        blocking.release.release()


async def test_websocket_reading_pauses_while_threaded_events_wait() -> None:
    app = Blocking()
    async with opened(threaded(app), ws_handlers=2) as conversation:
        await conversation.say("1", "2")
        assert not conversation.transport.reading
        app.release.release(2)
        await until(lambda: conversation.transport.reading)


async def test_idle_websockets_of_a_threaded_application_hold_no_thread() -> None:
    app = threaded(echo)
    conversations = [WebSocketConversation(app, threads=2) for _ in range(50)]
    for conversation in conversations:
        await conversation.open()
    await until(lambda: all(conversation.status == 101 for conversation in conversations))
    assert app.pool.alive <= 2 and app.posted == 0
    await end(app, *conversations)


async def test_websocket_messages_wait_for_a_thread_when_the_pool_queue_is_full() -> None:
    app = Blocking()
    application = threaded(app, threads=1)
    conversations = [WebSocketConversation(application, thread_queue=1) for _ in range(6)]
    for conversation in conversations:
        await conversation.open()
        await wait_for_answer(conversation)
    for number, conversation in enumerate(conversations):
        await conversation.say(f"message {number}")
    await settle(100)
    assert application.waiting
    app.release.release(6)
    await until(lambda: sum(event.startswith("message") for event in app.events) == 6)
    await end(application, *conversations)
    assert app.events.count("disconnect") == 6


async def test_threaded_event_runs_after_a_waiting_event_is_cancelled() -> None:
    app = Blocking()
    application = threaded(app, threads=1)
    loop = asyncio.get_running_loop()

    async def send(text: str, reply: Any) -> None:
        await application({"channel": "websocket.receive", "text": text}, {"reply": reply})

    replies = [type("Reply", (), {})() for _ in range(4)]
    application.__uvicorn_interface__(Settings(thread_queue=1))
    tasks = [loop.create_task(send(str(number), reply)) for number, reply in enumerate(replies)]
    await until(lambda: len(application.waiting) == 2)
    tasks[2].cancel()
    app.release.release(3)
    await asyncio.gather(*(tasks[:2] + tasks[3:]))
    assert app.events == ["0", "1", "3"]
    await application.shutdown()


async def test_threaded_handshake_gets_503_when_the_queue_of_the_pool_is_full() -> None:
    app = Blocking()
    application = threaded(app, threads=1)
    async with opened(application, thread_queue=1) as conversation, opened(application, thread_queue=1) as other:
        await conversation.say("held")
        await until(lambda: app.running)
        await other.say("waits")
        late = WebSocketConversation(application, thread_queue=1)
        await late.open()
        await until(lambda: late.status)
        assert late.status == 503
        app.release.release(2)
        await until(lambda: "waits" in app.events)


async def test_threaded_handler_ends_after_1000_sends_to_a_disconnected_websocket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channels_websocket, "_DISCONNECT_SECONDS", 3600.0)
    left = threading.Event()
    events: list[str] = []
    drops = 0

    def app(message: Message, channels: Channels) -> None:
        nonlocal drops
        events.append(message["channel"])
        if message["channel"] == "websocket.receive":
            left.wait()
            while True:
                channels["reply"].send({"text": "tick"})
                drops += 1

    async with opened(threaded(app), timeout_disconnect=3600) as conversation:
        await conversation.say("go")
        await until(lambda: len(events) == 2)
        await conversation.lose()
        left.set()
        # Called after the endless call has ended.
        await until(lambda: "websocket.disconnect" in events)
        assert drops == 1000


async def test_exception_of_a_threaded_handler_does_not_close_the_websocket(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def app(message: Message, channels: Channels) -> None:
        if message.get("text") == "bad":
            raise ValueError("a bad message")
        echo(message, channels)

    async with opened(threaded(app)) as conversation:
        await conversation.say("bad", "good")
        await until(lambda: conversation.heard)
        assert conversation.heard == ["good"]
        assert "a bad message" in caplog.text


async def test_disconnect_event_waits_for_the_end_of_a_timed_out_threaded_handler() -> None:
    app = Blocking()
    async with opened(threaded(app), timeout_disconnect=0.01) as conversation:
        await conversation.say("held", "dropped")
        await until(lambda: app.running)
        await conversation.lose()
        await until(lambda: not conversation.interface.tasks.running)
        assert app.events == ["connect", "held"]
        app.release.release()
        await until(lambda: len(app.events) == 3)
    assert app.events == ["connect", "held", "disconnect"]


@pytest.mark.parametrize(("error", "logged"), [(ValueError("too late"), True), (ChannelClosed("too late"), False)])
async def test_late_exception_of_a_threaded_handler_is_logged_unless_ChannelClosed(
    error: BaseException, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.receive":
            release.wait()
            raise error

    application = threaded(app)
    async with opened(application, timeout_disconnect=0.01) as conversation:
        await conversation.say("held")
        await conversation.lose()
        await until(lambda: not conversation.interface.tasks.running)
        release.set()
        await until(lambda: not application.posted)
    assert ("too late" in caplog.text) is logged


@pytest.mark.parametrize("returns_coroutine", [True, False])
async def test_result_of_a_cancelled_threaded_call_is_dropped(returns_coroutine: bool) -> None:
    release = threading.Event()

    async def never_awaited() -> None: ...

    def app(message: Message, channels: Channels) -> Any:
        release.wait()
        return never_awaited() if returns_coroutine else None

    application = threaded(app)
    task = asyncio.create_task(application({"channel": "websocket.receive"}, {"reply": Blocking()}))
    await until(lambda: application.posted)
    task.cancel()
    await settle()
    release.set()
    await until(lambda: not application.posted)
    await application.shutdown()


async def test_threaded_receive_raises_ChannelClosed_when_it_is_cancelled() -> None:
    class Cancelled:
        async def receive(self) -> None:
            raise ChannelClosed("gone")

    body = BlockingBody(Cancelled(), asyncio.get_running_loop())
    with pytest.raises(ChannelClosed, match="the client has disconnected"):
        await asyncio.to_thread(body.receive)


async def test_threaded_application_sends_to_a_group_without_await() -> None:
    def app(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            channels["groups"].send({"group": "all", "add": channels["reply"].name})
        elif message["channel"] == "websocket.receive":
            channels["groups"].send({"group": "all", "send": {"text": message["text"]}})

    application = threaded(app)
    broadcasting = BroadcastMiddleware(application, url="memory://")
    assert detect_interface(broadcasting) == "channels"
    first, second = WebSocketConversation(broadcasting), WebSocketConversation(broadcasting)
    await first.interface.startup()
    for conversation in (first, second):
        await conversation.open()
        await wait_for_answer(conversation)
    await first.say("hi")
    await until(lambda: first.heard and second.heard)
    assert first.heard == second.heard == ["hi"]
    await end(first.interface, first, second)


# Hosts


@pytest.mark.parametrize("host", [ASGI3Adapter, WSGIAdapter, lambda app: Router(Route("/", app))])
async def test_threaded_application_answers_behind_an_adapter_or_in_a_router(host: Callable[[Any], Any]) -> None:
    async with http(host(threaded(hello))) as conversation:
        await conversation.interface.startup()
        conversation.send(POST)
        await until(lambda: conversation.responses("POST"))
        assert conversation.responses("POST")[0].content == b"uvicorn-worker-1"


async def test_threaded_application_behind_an_adapter_echoes_websocket_messages() -> None:
    async with opened(ASGI3Adapter(threaded(echo))) as conversation:
        await conversation.say("one", "two")
        await until(lambda: len(conversation.heard) == 2)
        assert conversation.heard == ["one", "two"]


# The application object


def test_interface_of_a_threaded_application_is_channels() -> None:
    assert detect_interface(threaded(echo)) == "channels"
    assert isinstance(build_interface(threaded(echo), Settings()), ChannelsInterface)


async def coroutine_function(message: Message, channels: Channels) -> None: ...


class Coroutines:
    async def __call__(self, message: Message, channels: Channels) -> None: ...


@pytest.mark.parametrize("app", [coroutine_function, Coroutines()])
def test_threaded_wrapper_rejects_a_coroutine_function(app: Any) -> None:
    with pytest.raises(ConfigError, match="a coroutine function, which needs no threads"):
        threaded(app)


@pytest.mark.parametrize("app", [5, lambda message: None, lambda environ, start_response: None])
def test_threaded_wrapper_rejects_consumers_wsgi_applications_and_noncallables(app: Any) -> None:
    with pytest.raises(InterfaceError, match="threaded: the application"):
        threaded(app)


@pytest.mark.parametrize("threads", [0, "4", True])
def test_threaded_wrapper_rejects_an_invalid_number_of_threads(threads: Any) -> None:
    with pytest.raises(ConfigError, match="threads: expected a number"):
        threaded(echo, threads=threads)


@pytest.mark.parametrize(("threads", "expected"), [(None, 7), (3, 3)])
def test_thread_count_of_a_threaded_wrapper_overrides_the_server_setting(threads: int | None, expected: int) -> None:
    app = threaded(echo, threads)
    app.__uvicorn_interface__(Settings(threads=7))
    assert app.pool.threads == expected


async def test_threaded_wrapper_runs_startup_and_shutdown_hooks() -> None:
    class App:
        def __init__(self) -> None:
            self.hooks: list[str] = []

        def __call__(self, message: Message, channels: Channels) -> None:
            hello(message, channels)

        async def startup(self) -> None:
            self.hooks.append("startup")

        async def shutdown(self) -> None:
            self.hooks.append("shutdown")

    app = App()
    application = threaded(app)
    conversation = Conversation(application)
    await conversation.interface.startup()
    conversation.send(GET)
    await until(lambda: conversation.statuses)
    pool = application.pool
    await conversation.interface.shutdown(1)
    await until(lambda: not pool.alive)
    # A second shutdown finds no pool.
    await application.shutdown()
    assert app.hooks == ["startup", "shutdown", "shutdown"]


async def test_shutdown_cancels_a_queued_threaded_call() -> None:
    app = Blocking()
    application = threaded(app, threads=1)
    replies = [type("Reply", (), {})() for _ in range(2)]
    tasks = [
        asyncio.create_task(application({"channel": "websocket.receive", "text": "x"}, {"reply": reply}))
        for reply in replies
    ]
    await until(lambda: app.running)
    await application.shutdown()
    app.release.release()
    await tasks[0]
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]


async def test_queued_threaded_event_raises_when_the_thread_pool_shuts_down(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Blocking()
    application = threaded(app)
    reply = type("Reply", (), {})()
    pool = application.pool
    first, second = (
        asyncio.create_task(application({"channel": "websocket.receive", "text": "x"}, {"reply": reply}))
        for _ in range(2)
    )
    await until(lambda: app.running)
    pool.shutdown(wait=False)
    app.release.release()
    await first
    with pytest.raises(RuntimeError, match="has been shut down"):
        await second


def test_threaded_calls_of_four_event_loops_complete() -> None:
    calls: list[str] = []
    application = threaded(lambda message, channels: calls.append(message["channel"]), threads=3)
    application.__uvicorn_interface__(Settings(thread_queue=5, threads_per_client=2))
    failed: list[BaseException] = []

    async def send(reply: Any, number: int) -> None:
        client = f"192.0.2.{number % 2}", 1
        await application({"channel": "websocket.receive", "client": client}, {"reply": reply})

    async def serve() -> None:
        for number in range(200):
            replies = [type("Reply", (), {})() for _ in range(4)]
            async with asyncio.timeout(20):
                await asyncio.gather(*(send(reply, number) for reply in replies))

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            failed.append(error)

    loops = [threading.Thread(target=run) for _ in range(4)]
    for loop in loops:
        loop.start()
    for loop in loops:
        loop.join()
    assert (failed, len(calls), application.posted) == ([], 3200, 0)
    asyncio.run(application.shutdown())


async def test_threaded_disconnect_handler_is_not_called_after_the_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Blocking()
    application = threaded(app)
    reply = type("Reply", (), {})()
    receive, disconnect = (
        asyncio.create_task(application({"channel": f"websocket.{kind}", "text": "x"}, {"reply": reply}))
        for kind in ("receive", "disconnect")
    )
    await until(lambda: app.running)
    receive.cancel()
    disconnect.cancel()
    await asyncio.wait((receive, disconnect))
    await application.shutdown()
    app.release.release()
    await until(lambda: not application.posted)
    # A call now would be made after the application's own shutdown, by a thread that nothing ends.
    await settle()
    assert (app.running, caplog.messages) == (0, [])
    assert application._own_pool is None


async def test_threaded_websocket_message_raises_when_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    application = threaded(echo)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="no thread can be started"):
            await application({"channel": "websocket.receive", "text": "x"}, {"reply": Blocking()})


@pytest.mark.parametrize(("error", "code"), [(None, 1), (SystemExit(3), 3)])
def test_child_forked_in_a_threaded_call_exits_at_the_end_of_the_call(error: BaseException | None, code: int) -> None:
    def app(message: Message, channels: Channels) -> None:
        # As in a child that the application has forked during the call.
        forks._after_fork()
        if error is not None:
            raise error

    def call() -> None:
        asyncio.run(threaded(app)({"channel": "http.request"}, {"reply": Blocking()}))
        os._exit(9)

    assert exit_code_in_child(call) == code


async def test_threaded_application_sends_a_response_without_await() -> None:
    returned: list[Any] = []

    def app(message: Message, channels: Channels) -> None:
        returned.append(channels["reply"].send({"status": 200}))

    async with http(threaded(app)) as conversation:
        conversation.send(GET)
        await until(lambda: conversation.statuses and returned)
    assert returned == [DONE]


async def test_error_for_a_plain_channels_function_recommends_the_threaded_wrapper(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        async with http(echo, interface="channels") as conversation:
            conversation.send(GET)
            await settle()
            assert conversation.statuses == [500]
    assert "uvicorn.utils.threaded(app)" in caplog.text
