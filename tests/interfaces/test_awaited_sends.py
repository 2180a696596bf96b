"""Many senders over one slow connection: those that are awaited wait, and those that nothing awaits are bounded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

import pytest

from tests.helpers import GET, Conversation, settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter
from uvicorn.errors import ResponseAborted

Send = Callable[[bytes], Awaitable[None]]
Talk = Callable[[Send], Awaitable[None]]
App = Callable[..., Any]

SMALL: Final[dict[str, Any]] = {"max_unsent_bytes": 100_000, "max_pending_bytes": 1_000_000}

#: More than `max_unsent_bytes`, by default.
LARGE: Final = bytes(5 << 20)


# One application in each kind: `talk` runs in a task of the client's own.


def channels_websocket(talk: Talk) -> App:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.receive":
            await talk(lambda data: channels["reply"].send({"bytes": data}))

    return app


def asgi3_websocket(talk: Talk) -> App:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await talk(lambda data: send({"type": "websocket.send", "bytes": data}))
        await receive()

    return app


def channels_http(talk: Talk) -> App:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        reply = channels["reply"]
        await reply.send({"status": 200, "more_content": True})
        await talk(lambda data: reply.send({"content": data, "more_content": True}))
        await reply.send({"content": b""})

    return app


def consumer_http(talk: Talk) -> App:
    async def app(message: dict[str, Any]) -> None:
        await channels_http(talk)(message, {"reply": message["reply_channel"]})

    return app


def asgi3_http(talk: Talk) -> App:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await talk(lambda data: send({"type": "http.response.body", "body": data, "more_body": True}))
        await send({"type": "http.response.body", "body": b""})

    return app


def small(adapter: ASGI3Adapter) -> ASGI3Adapter:
    """An adapter whose bounds are those of `SMALL`."""
    adapter._settings = replace(adapter._settings, **SMALL)
    adapter._interface.settings = adapter._settings
    return adapter


def by_messages(app: App) -> App:
    """A channels application that calls `ASGIAdapter` with messages."""
    adapter = ASGIAdapter(app, interface="asgi3")

    async def outer(message: dict[str, Any], channels: dict[str, Any]) -> None:
        adapter._begun().interface.settings = replace(adapter._begun().interface.settings, **SMALL)
        await adapter(message, channels)

    return outer


WEBSOCKETS: dict[str, Callable[[Talk], App]] = {
    "channels": channels_websocket,
    "asgi3": asgi3_websocket,
    "ASGI3Adapter": lambda talk: small(ASGI3Adapter(channels_websocket(talk))),
}
RESPONSES: dict[str, Callable[[Talk], App]] = {
    "channels": channels_http,
    "consumer": consumer_http,
    "asgi3": asgi3_http,
    "ASGI3Adapter": lambda talk: small(ASGI3Adapter(channels_http(talk))),
    "ASGIAdapter": lambda talk: by_messages(asgi3_http(talk)),
}

websockets = pytest.mark.parametrize("kind", WEBSOCKETS)
responses = pytest.mark.parametrize("kind", RESPONSES)


def many(count: int, size: int) -> Talk:
    """So many tasks that each await a send of its own."""

    async def talk(send: Send) -> None:
        async def one(number: int) -> None:
            await send(str(number).encode().ljust(size))

        await asyncio.gather(*(one(number) for number in range(count)))

    return talk


async def slow_websocket(app: App, **settings: Any) -> WebSocketConversation:
    """An open connection whose client, after "go", takes nothing until the test lets it."""
    conversation = WebSocketConversation(app, lifespan="off", **settings)
    await conversation.open()
    assert conversation.status == 101
    conversation.transport.client_takes = False
    await conversation.say("go")
    await settle(100)
    return conversation


async def slow_response(app: App, **settings: Any) -> Conversation:
    """A request whose client takes nothing of the response until it is told to."""
    conversation = Conversation(app, lifespan="off", **settings)
    conversation.transport.client_takes = False
    conversation.send(GET)
    await settle(100)
    return conversation


def taking(conversation: Conversation, condition: Callable[[], Any]) -> Callable[[], Any]:
    """`condition`, with a client that goes on taking."""

    def look() -> Any:
        conversation.transport.take(100_000)
        return condition()

    return look


@websockets
async def test_awaited_sends_of_many_tasks_reach_a_slow_websocket_in_order(
    kind: str,
) -> None:
    conversation = await slow_websocket(WEBSOCKETS[kind](many(400, 1000)), **SMALL)
    assert conversation.close_code is None
    await until(taking(conversation, lambda: len(conversation.heard) == 400))
    assert [int(data) for data in conversation.heard] == list(range(400))
    await conversation.lose()


@responses
async def test_awaited_sends_of_many_tasks_reach_a_slow_http_client(kind: str) -> None:
    conversation = await slow_response(RESPONSES[kind](many(400, 1000)), **SMALL)
    assert not conversation.transport.aborted
    await until(taking(conversation, lambda: conversation.received.endswith(b"0\r\n\r\n")))
    content = conversation.responses()[0].content
    assert [int(content[start : start + 1000]) for start in range(0, 400_000, 1000)] == list(range(400))


@websockets
async def test_slow_websocket_receives_the_messages_of_two_tasks_in_order(kind: str) -> None:
    async def talk(send: Send) -> None:
        async def say(data: bytes) -> None:
            await send(data)

        await asyncio.gather(say(LARGE), say(b"heartbeat"))

    conversation = await slow_websocket(WEBSOCKETS[kind](talk))
    assert conversation.close_code is None
    await until(taking(conversation, lambda: len(conversation.heard) == 2))
    assert conversation.heard == [LARGE, b"heartbeat"]
    await conversation.lose()


@responses
async def test_slow_http_client_receives_the_chunks_of_three_tasks_in_order(kind: str) -> None:
    async def talk(send: Send) -> None:
        async def say(data: bytes) -> None:
            await send(data)

        await asyncio.gather(say(LARGE), say(b"a"), say(b"b"))

    conversation = await slow_response(RESPONSES[kind](talk))
    assert not conversation.transport.aborted
    await until(taking(conversation, lambda: conversation.received.endswith(b"0\r\n\r\n")))
    assert conversation.responses()[0].content == LARGE + b"ab"


@websockets
async def test_slow_websocket_stays_open_after_one_large_and_200_small_messages(kind: str) -> None:
    async def talk(send: Send) -> None:
        send(LARGE)
        for _ in range(200):
            send(b"heartbeat")

    conversation = await slow_websocket(WEBSOCKETS[kind](talk))
    assert conversation.close_code is None
    await until(taking(conversation, lambda: len(conversation.heard) == 201))
    await conversation.lose()


@websockets
async def test_websocket_is_closed_when_its_awaited_sends_exceed_the_byte_limit(kind: str) -> None:
    conversation = await slow_websocket(WEBSOCKETS[kind](many(400, 10_000)), write_buffer_bytes=1000, **SMALL)
    await until(taking(conversation, lambda: conversation.close_code is not None))
    assert conversation.close_code == 1013
    # The bound of the adapter is its own: behind it, the server has what it has taken of that.
    assert 900_000 < sum(map(len, conversation.heard)) <= 1_000_000 or kind == "ASGI3Adapter"
    await conversation.lose()


@responses
async def test_response_is_aborted_when_its_awaited_sends_exceed_the_byte_limit(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    conversation = await slow_response(RESPONSES[kind](many(400, 10_000)), write_buffer_bytes=1000, **SMALL)
    await until(taking(conversation, lambda: conversation.transport.aborted or conversation.context.requests == 0))
    assert not conversation.received.endswith(b"0\r\n\r\n")
    assert len(conversation.received) < 1_100_000
    assert "over 1000000 unread bytes" in caplog.text


async def test_single_message_may_exceed_the_byte_limit_of_awaited_sends() -> None:
    conversation = await slow_websocket(channels_websocket(many(1, 2_000_000)), write_buffer_bytes=1000, **SMALL)
    assert (conversation.close_code, conversation.transport.unsent) == (None, 2_000_010)
    await conversation.lose()


@pytest.mark.parametrize(
    "use", [lambda sending: asyncio.ensure_future(sending), lambda sending: asyncio.gather(sending)]
)
async def test_websocket_stays_open_if_800_sends_are_awaited_in_tasks(use: Callable[[Any], Any]) -> None:
    async def talk(send: Send) -> None:
        tasks = []
        for _ in range(4):
            tasks += [use(send(b"x")) for _ in range(200)]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    conversation = await slow_websocket(channels_websocket(talk), write_buffer_bytes=1)
    assert conversation.close_code is None
    await until(taking(conversation, lambda: len(conversation.heard) == 800))
    await conversation.lose()


@pytest.mark.parametrize(("dropped", "code"), [(256, None), (257, 1013)])
async def test_awaited_sends_do_not_count_towards_the_limit_of_unawaited_sends(dropped: int, code: int | None) -> None:
    async def talk(send: Send) -> None:
        waiting = asyncio.ensure_future(many(400, 10)(send))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for _ in range(dropped):
            send(b"x")
        await waiting

    conversation = await slow_websocket(channels_websocket(talk), write_buffer_bytes=1)
    assert conversation.close_code == code
    await conversation.lose()


async def test_websocket_stays_open_when_600_waiting_sends_are_cancelled() -> None:
    async def talk(send: Send) -> None:
        for _ in range(600):
            waiting = asyncio.ensure_future(send(b"x"))
            await asyncio.sleep(0)
            waiting.cancel()

    conversation = await slow_websocket(channels_websocket(talk), write_buffer_bytes=1)
    await until(taking(conversation, lambda: len(conversation.heard) == 600))
    assert conversation.close_code is None
    await conversation.lose()


async def test_closing_a_slow_websocket_ends_its_waiting_sends() -> None:
    ended: list[int] = []

    async def talk(send: Send) -> None:
        try:
            await many(200, 10_000)(send)
        finally:
            ended.append(1)

    conversation = await slow_websocket(channels_websocket(talk), write_buffer_bytes=1000, **SMALL)
    assert (conversation.close_code, ended, conversation.transport.closing) == (1013, [1], False)
    await conversation.lose()


async def test_slow_response_is_not_reset_while_20_threads_are_blocked_in_send() -> None:
    async def talk(send: Send) -> None:
        # Its threads have no context: they are not the client's own.
        with ThreadPoolExecutor(20) as pool:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(pool, send, bytes(20_000)) for _ in range(20)))

    conversation = await slow_response(channels_http(talk), write_buffer_bytes=1000, **SMALL)
    await until(lambda: conversation.transport.unsent > 400_000)
    assert not conversation.transport.aborted
    await until(taking(conversation, lambda: conversation.received.endswith(b"0\r\n\r\n")))
    assert len(conversation.responses()[0].content) == 400_000


async def test_slow_websocket_stays_open_while_worker_threads_block_in_send() -> None:
    sent = asyncio.Event()

    async def talk(send: Send) -> None:
        await asyncio.gather(*(asyncio.to_thread(send, bytes(50_000)) for _ in range(5)))
        sent.set()

    conversation = await slow_websocket(channels_websocket(talk), write_buffer_bytes=1000, **SMALL)
    await until(lambda: conversation.transport.unsent > 250_000)
    assert conversation.close_code is None
    await until(taking(conversation, lambda: sent.is_set() and len(conversation.heard) == 5))
    await conversation.lose()


async def test_sends_that_block_20_consumer_threads_do_not_reset_a_slow_response() -> None:
    def app(message: dict[str, Any]) -> None:
        reply = message["reply_channel"]
        reply.send({"status": 200, "more_content": True})
        threads = [
            threading.Thread(target=reply.send, args=({"content": bytes(20_000), "more_content": True},))
            for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        reply.send({"content": b""})

    conversation = await slow_response(app, write_buffer_bytes=1000, **SMALL)
    await until(lambda: conversation.transport.unsent > 400_000)
    assert not conversation.transport.aborted
    await until(taking(conversation, lambda: conversation.received.endswith(b"0\r\n\r\n")))
    await conversation.interface.shutdown(1)


async def test_awaited_sends_do_not_abort_a_slowly_read_consumer_response() -> None:
    channels: list[Any] = []
    release = threading.Event()

    def app(message: dict[str, Any]) -> None:
        channels.append(message["reply_channel"])
        message["reply_channel"].send({"status": 200, "more_content": True})
        release.wait()
        message["reply_channel"].send({"content": b""})

    async def send(data: bytes) -> None:
        await channels[0].send({"content": data, "more_content": True})

    conversation = await slow_response(app, write_buffer_bytes=1000, **SMALL)
    await until(lambda: conversation.received)
    sending = asyncio.ensure_future(many(40, 10_000)(send))
    await settle()
    assert (conversation.transport.aborted, sending.done()) == (False, False)
    await until(taking(conversation, sending.done))
    release.set()
    await until(taking(conversation, lambda: conversation.received.endswith(b"0\r\n\r\n")))
    await conversation.interface.shutdown(1)


# `WSGIAdapter`: the host is a thread, which is this one.


def wsgi_response(talk: Talk, began: threading.Event) -> Any:
    adapter = WSGIAdapter(channels_http(talk))
    adapter._settings = replace(adapter._settings, **SMALL)
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/", "SERVER_PROTOCOL": "HTTP/1.1", "wsgi.url_scheme": "http"}
    response = adapter(environ, lambda status, headers: None)
    assert began.wait(30)
    return response


def test_slow_wsgi_host_receives_all_awaited_sends() -> None:
    began = threading.Event()

    async def talk(send: Send) -> None:
        waiting = asyncio.ensure_future(many(400, 1000)(send))
        await settle()
        began.set()
        await waiting

    assert b"".join(wsgi_response(talk, began)).split() == [b"%d" % number for number in range(400)]


@pytest.mark.parametrize(
    ("awaits", "reason"),
    [(True, "over 1000000 unread bytes"), (False, "over 100000 unread bytes that were not awaited")],
)
def test_response_is_aborted_if_the_wsgi_host_reads_too_slowly(
    awaits: bool, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    began = threading.Event()

    async def talk(send: Send) -> None:
        try:
            sending = []
            for _ in range(400):
                sending.append(send(bytes(10_000)))
                if awaits:
                    sending[-1] = asyncio.ensure_future(sending[-1])
                    await asyncio.sleep(0)
        finally:
            began.set()

    with pytest.raises(ResponseAborted, match="too much unsent"):
        list(wsgi_response(talk, began))
    assert reason in caplog.text


async def test_adapter_aborts_a_response_with_too_many_unawaited_bytes(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def talk(send: Send) -> None:
        for _ in range(400):
            send(bytes(10_000))

    conversation = await slow_response(by_messages(asgi3_http(talk)))
    # By a reset, or by 500 where handlers start at once and none of it has left.
    await until(taking(conversation, lambda: conversation.context.requests == 0))
    assert not conversation.received.endswith(b"0\r\n\r\n")
    assert "over 100000 unread bytes that were not awaited" in caplog.text
