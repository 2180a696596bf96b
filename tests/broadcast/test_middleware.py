"""`BroadcastMiddleware` around applications of each kind, on our server."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import uvitools.broadcast
from tests.broadcast.scripted import Reply, ScriptedBackend
from tests.helpers import GET, Conversation, settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn import broadcast
from uvicorn.adapters import ASGIAdapter
from uvicorn.broadcast import BroadCastMiddleware, BroadcastMiddleware
from uvicorn.broadcast.groups import GroupsChannel
from uvicorn.errors import BroadcastUnavailable, ConfigError, LocalProtocolError, StartupError
from uvicorn.interfaces.detect import detect_interface

Message = dict[str, Any]
Channels = dict[str, Any]


async def chat(message: Message, channels: Channels) -> None:
    """The chat server of the first documents, without its page."""
    groups, reply = channels["groups"], channels["reply"]
    if message["channel"] == "websocket.connect":
        await groups.send({"group": "chat", "add": reply.name})
    elif message["channel"] == "websocket.receive":
        await groups.send({"group": "chat", "send": {"text": message["text"], "bytes": message["bytes"]}})
    elif message["channel"] == "websocket.disconnect":
        await groups.send({"group": "chat", "discard": reply.name})


@asynccontextmanager
async def running(app: Any, **options: Any) -> AsyncIterator[tuple[BroadcastMiddleware, ScriptedBackend]]:
    """Run a middleware with a backend whose messages the test sends."""
    backend = ScriptedBackend()
    middleware = BroadcastMiddleware(app, backend=backend, **options)
    await middleware.startup()
    yield middleware, backend
    await middleware.shutdown()


async def visit(app: Any, **settings: Any) -> WebSocketConversation:
    client = WebSocketConversation(app, **settings)
    await client.open()
    await settle()
    return client


@pytest.mark.parametrize("kind", ["channels", "asgi"])
async def test_group_message_above_the_size_limit_causes_one_warning(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def asgi(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await scope["groups"].send({"group": "chat", "send": {"text": event["text"]}})

    async with running(chat if kind == "channels" else asgi) as (app, _):
        client = await visit(app)
        await client.say("a" * (2 << 20))
        [record] = caplog.records
        assert (record.levelname, record.exc_info) == ("WARNING", None)
        assert ": groups.send: expected a message of 1048576 bytes at most, got 20971" in record.getMessage()
        await client.lose()


async def test_the_chat_of_the_documentation_delivers_messages_to_all_clients() -> None:
    app = BroadcastMiddleware(chat, url="memory://")
    first, second = await visit(app), await visit(app)
    await first.say("hello", b"\x00")
    await second.say("hello yourself")
    await settle()
    for client in (first, second):
        assert (client.status, client.heard) == (101, ["hello", b"\x00", "hello yourself"])
        await client.lose()
    assert app.metrics["members"] == app.metrics["groups"] == 0
    await app.shutdown()


async def test_middleware_without_startup_connects_at_its_first_call() -> None:
    app = BroadcastMiddleware(chat, url="memory://")
    first, second = await visit(app), await visit(app)
    assert len(app._hubs) == 1
    await second.say("a")
    await settle()
    assert first.heard == ["a"]
    await first.lose()
    await second.lose()
    await app.shutdown()


async def test_B8_a_client_whose_connection_is_lost_is_no_longer_a_member() -> None:
    async def forgetful(message: Message, channels: Channels) -> None:
        if message["channel"] != "websocket.disconnect":
            await chat(message, channels)

    async with running(forgetful) as (app, backend):
        client = await visit(app)
        assert app.metrics["members"] == 1
        await client.lose()
        await settle()
        assert app.metrics["members"] == 0
        assert backend.calls[-1] == ("unsubscribe", frozenset({"chat"}))


@pytest.mark.parametrize("answer", [{"accept": False}, {"status": 404, "content": b""}, None])
async def test_rejected_handshake_removes_the_client_from_its_groups(
    answer: Message | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def refusing(message: Message, channels: Channels) -> None:
        await channels["groups"].send({"group": "chat", "add": channels["reply"].name})
        if answer is None:
            raise RuntimeError("changed its mind")
        await channels["reply"].send(answer)

    async with running(refusing) as (app, _):
        client = await visit(app)
        assert client.status in (403, 404, 500)
        assert app.metrics["members"] == 0
        await client.lose()


async def test_a_group_message_does_not_accept_a_pending_handshake() -> None:
    decide = asyncio.Event()

    async def careful(message: Message, channels: Channels) -> None:
        if message["channel"] == "websocket.connect":
            await channels["groups"].send({"group": "chat", "add": channels["reply"].name})
            await decide.wait()

    async with running(careful) as (app, backend):
        client = await visit(app)
        backend.receive("chat", {"text": "secret"})
        await settle()
        assert client.status == 0
        decide.set()
        await settle()
        assert (client.status, client.heard) == (101, ["secret"])
        await client.lose()


async def test_a_rejected_handshake_gets_no_group_message() -> None:
    decide = asyncio.Event()

    async def careful(message: Message, channels: Channels) -> None:
        await channels["groups"].send({"group": "chat", "add": channels["reply"].name})
        await decide.wait()
        await channels["reply"].send({"accept": False})

    async with running(careful) as (app, backend):
        client = await visit(app)
        backend.receive("chat", {"text": "secret"})
        decide.set()
        await settle()
        assert client.status == 403
        assert b"secret" not in client.received
        await client.lose()


async def test_B14b_a_connect_handler_can_join_a_group_while_the_backend_is_down() -> None:
    async with running(chat) as (app, backend):
        backend.failure = BroadcastUnavailable("Redis is down")
        client = await visit(app)
        assert client.status == 101
        await client.lose()


async def test_B3_the_application_is_notified_of_a_gap_before_the_next_message() -> None:
    events: list[Message] = []

    async def on_gap(message: Message, channels: Channels) -> None:
        if message["channel"] == "groups.gap":
            events.append(message)
            await channels["reply"].send({"text": "you may have missed something"})
            await channels["groups"].send({"group": "late", "add": channels["reply"].name})
        else:
            await chat(message, channels)

    async with running(on_gap) as (app, backend):
        client = await visit(app)
        backend.lose("chat", since=77.0)
        backend.receive("chat", {"text": "next"})
        await settle()
        assert events == [{"channel": "groups.gap", "groups": ["chat"], "reason": "reconnect", "since": 77.0}]
        assert client.heard == ["you may have missed something", "next"]
        assert app.metrics["groups"] == 2
        await client.lose()


async def test_on_gap_callback_receives_the_gap_and_the_application_does_not() -> None:
    events: list[Message] = []

    async def called_back(message: Message, channels: Channels) -> None:
        assert message["channel"] != "groups.gap"
        if message["channel"] == "websocket.connect":
            channels["groups"].on_gap(on_gap)
        await chat(message, channels)

    async def on_gap(event: Message) -> None:
        events.append(event)

    async with running(called_back) as (app, backend):
        client = await visit(app)
        backend.lose("chat", since=77.0)
        await settle()
        assert [event["groups"] for event in events] == [["chat"]]
        await client.lose()
        assert next(iter(app._hubs.values())).gap_callbacks == {}


async def test_application_gets_no_gap_events_when_they_are_switched_off() -> None:
    async def untold(message: Message, channels: Channels) -> None:
        assert message["channel"] != "groups.gap"
        await chat(message, channels)

    async with running(untold, gaps=False) as (app, backend):
        client = await visit(app)
        backend.lose("chat")
        backend.receive("chat", {"text": "next"})
        await settle()
        assert client.heard == ["next"]
        assert app.metrics["gaps"] == 1
        await client.lose()


async def test_B9_group_message_is_encoded_once_for_all_clients() -> None:
    async with running(chat) as (app, backend):
        clients = [await visit(app, compression=number % 2 == 0) for number in range(2)]
        replies = [Reply() for _ in range(2)]
        for reply in replies:
            await GroupsChannel(next(iter(app._hubs.values())), reply).send({"group": "chat", "add": reply.name})
        backend.receive("chat", {"text": "x" * 1000})
        await settle()
        assert replies[0].sent[0] is replies[1].sent[0]
        for client in clients:
            assert (client.heard, client.frames[0].rsv1) == (["x" * 1000], False)
            await client.lose()


async def test_B10_only_the_client_that_does_not_read_is_closed_with_1013() -> None:
    async with running(chat, queue_messages=10) as (app, backend):
        slow, other = await visit(app), await visit(app)
        slow.transport.client_takes = False
        for _ in range(20):
            backend.receive("chat", {"text": "x" * 10_000})
        await settle()
        assert len(other.heard) == 20
        assert slow.close_code == 1013
        assert app.metrics["closed_slow"] == 1
        await other.lose()
        await slow.lose()


async def test_an_event_stream_can_be_a_group_member() -> None:
    async def events(message: Message, channels: Channels) -> None:
        reply = channels["reply"]
        await reply.send({"status": 200, "headers": [[b"content-type", b"text/event-stream"]], "more_content": True})
        await channels["groups"].send({"group": "news", "add": reply.name})

    async with running(events) as (app, backend):
        client = Conversation(app)
        client.send(GET)
        await settle()
        backend.receive("news", {"content": b"data: one\n\n", "more_content": True})
        await settle()
        assert client.responses()[0].content == b"data: one\n\n"
        backend.receive("news", {"content": b"data: two\n\n"})
        await settle()
        assert client.responses()[0].complete
        assert app.metrics["members"] == 0


async def test_event_stream_is_closed_if_its_client_does_not_read() -> None:
    async def events(message: Message, channels: Channels) -> None:
        await channels["reply"].send({"status": 200, "more_content": True})
        await channels["groups"].send({"group": "news", "add": channels["reply"].name})

    async with running(events, queue_messages=2) as (app, backend):
        client = Conversation(app)
        client.send(GET)
        await settle()
        client.transport.client_takes = False
        for _ in range(10):
            backend.receive("news", {"content": b"x" * 30_000, "more_content": True})
        await settle()
        assert not client.responses()[0].complete
        assert (app.metrics["members"], app.metrics["closed_slow"]) == (0, 1)


async def test_group_message_can_answer_a_pending_request() -> None:
    async def poll(message: Message, channels: Channels) -> None:
        await channels["groups"].send({"group": "polls", "add": channels["reply"].name})

    async with running(poll) as (app, backend):
        client = Conversation(app)
        client.send(GET)
        await settle()
        backend.receive("polls", {"status": 200, "headers": [[b"a", b"b"]], "content": b"now"})
        await settle()
        assert client.responses()[0].content == b"now"


async def test_group_message_that_is_an_invalid_response_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def poll(message: Message, channels: Channels) -> None:
        await channels["groups"].send({"group": "polls", "add": channels["reply"].name})

    async with running(poll) as (app, backend):
        client = Conversation(app)
        client.send(GET)
        await settle()
        backend.receive("polls", {"content": b"too early"})
        assert "expected a response with 'status', got {'content'}" in caplog.text
        await client.lose()


async def consumer(message: Message) -> None:
    await message["groups"].send({"group": "news", "send": {"text": message["path"]}})
    await message["reply_channel"].send({"status": 200, "content": b"sent"})


def threaded_consumer(message: Message) -> None:
    message["groups"].send({"group": "news", "send": {"text": message["path"]}})
    message["reply_channel"].send({"status": 200, "content": b"sent"})


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["uvicorn.groups"].send({"group": "news", "send": {"text": environ["PATH_INFO"]}})
    start_response("200 OK", [])
    return [b"sent"]


async def asgi3(scope: Message, receive: Any, send: Any) -> None:
    assert scope["type"] == "http", "takes no part in anything else"
    await scope["groups"].send({"group": "news", "send": {"text": scope["path"]}})
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"sent"})


def asgi2(scope: Message) -> Any:
    async def instance(receive: Any, send: Any) -> None:
        await asgi3(scope, receive, send)

    return instance


async def channels_app(message: Message, channels: Channels) -> None:
    await channels["groups"].send({"group": "news", "send": {"text": message["path"]}})
    await channels["reply"].send({"status": 200, "content": b"sent"})


KINDS = [
    ("channels", channels_app),
    ("consumer", consumer),
    ("consumer", threaded_consumer),
    ("wsgi", wsgi),
    ("asgi3", asgi3),
    ("asgi2", asgi2),
]


@pytest.mark.parametrize(("kind", "app"), KINDS)
def test_broadcast_middleware_has_the_same_interface_as_its_application(kind: str, app: Any) -> None:
    assert detect_interface(BroadcastMiddleware(BroadcastMiddleware(app, url="memory://"), url="memory://")) == kind


@pytest.mark.parametrize(("kind", "app"), KINDS)
async def test_every_kind_of_application_can_send_to_groups(kind: str, app: Any) -> None:
    backend = ScriptedBackend()
    client = Conversation(BroadcastMiddleware(app, backend=backend))
    await client.interface.startup()
    client.send(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
    await until(lambda: client.responses() and client.responses()[0].complete)
    assert client.responses()[0].content == b"sent"
    assert [(group, b'"text":"/x"' in payload) for group, payload in backend.published] == [("news", True)]
    await client.interface.shutdown(1)
    assert backend.stopped


@pytest.mark.parametrize("app", [asgi3, asgi2])
async def test_middleware_serves_asgi2_and_asgi3_applications_to_an_asgi2_server(app: Any) -> None:
    backend, sent = ScriptedBackend(), []
    middleware = BroadcastMiddleware(app, backend=backend)

    async def send(event: Message) -> None:
        sent.append(event["type"])

    await middleware({"type": "http", "path": "/"})(None, send)
    assert sent == ["http.response.start", "http.response.body"]
    assert len(backend.published) == 1
    await middleware.shutdown()


async def test_wsgi_application_in_an_adapter_can_send_to_groups() -> None:
    app = BroadcastMiddleware(ASGIAdapter(BroadcastMiddleware(wsgi, backend=ScriptedBackend())), url="memory://")
    client = Conversation(app)
    await client.interface.startup()
    client.send(GET)
    await until(lambda: client.responses() and client.responses()[0].complete)
    assert client.responses()[0].content == b"sent"
    await client.interface.shutdown(1)


async def test_an_asgi3_websocket_can_be_a_member() -> None:
    gaps: list[Message] = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        groups = scope["groups"]
        await receive()
        await send({"type": "websocket.accept"})
        groups.on_gap(gaps.append)
        await groups.send({"group": "chat", "add": groups.name})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    backend = ScriptedBackend()
    middleware = BroadcastMiddleware(app, backend=backend)
    client = await visit(middleware, lifespan="off")
    backend.lose("chat")
    backend.receive("chat", {"text": "a"})
    backend.receive("chat", {"bytes": b"b", "close": 4000})
    await settle()
    assert (client.heard, client.close_code, len(gaps)) == (["a", b"b"], 4000, 1)
    await client.flush()
    await client.lose()
    assert middleware.metrics["members"] == 0
    await middleware.shutdown()


async def test_lifespan_starts_and_stops_an_asgi3_application() -> None:
    events: list[str] = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                kind = (await receive())["type"]
                events.append(kind)
                await scope["groups"].send({"group": "news", "send": {"text": kind}})
                await send({"type": f"{kind}.complete"})

    backend = ScriptedBackend()
    client = Conversation(BroadcastMiddleware(app, backend=backend))
    await client.interface.startup()
    assert not backend.stopped
    await client.interface.shutdown(1)
    assert events == ["lifespan.startup", "lifespan.shutdown"]
    assert len(backend.published) == 2 and backend.stopped


async def test_middleware_serves_an_application_that_raises_during_lifespan_startup(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError("no database")

    backend = ScriptedBackend()
    client = Conversation(BroadcastMiddleware(app, backend=backend))
    await client.interface.startup()
    assert "no database" in caplog.text
    assert not backend.stopped
    await client.interface.shutdown(1)
    assert backend.stopped


async def test_middleware_raises_the_error_of_a_lifespan_that_fails_after_startup() -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise RuntimeError("lost its database")

    backend = ScriptedBackend()
    middleware = BroadcastMiddleware(app, backend=backend)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(event: Message) -> None:
        sent.append(event)

    with pytest.raises(RuntimeError, match="lost its database"):
        await middleware({"type": "lifespan"}, receive, send)
    assert [event["type"] for event in sent] == ["lifespan.startup.complete"]
    assert backend.stopped


def test_the_middleware_forgets_closed_event_loops() -> None:
    async def app(message: Message, channels: Channels) -> None: ...

    middleware = BroadcastMiddleware(app, url="memory://")
    for _ in range(3):
        asyncio.run(middleware({"channel": "http.request"}, {}))
    assert len(middleware._hubs) == 1


def test_calling_a_consumer_before_middleware_startup_raises() -> None:
    with pytest.raises(BroadcastUnavailable, match="the server has to await `startup` first"):
        BroadcastMiddleware(threaded_consumer, url="memory://")({"reply_channel": object()})


async def test_failed_lifespan_startup_raises_and_stops_the_backend(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    backend = ScriptedBackend()
    client = Conversation(BroadcastMiddleware(app, backend=backend))
    with pytest.raises(StartupError, match="no database"):
        await client.interface.startup()
    await settle()
    assert backend.stopped


async def test_backend_runs_during_startup_and_shutdown_of_the_application() -> None:
    class App:
        async def __call__(self, message: Message, channels: Channels) -> None: ...

        async def startup(self) -> None:
            order.append(f"startup {backend.stopped}")

        async def shutdown(self) -> None:
            order.append(f"shutdown {backend.stopped}")

    order: list[str] = []
    backend = ScriptedBackend()
    app = BroadcastMiddleware(App(), backend=backend)
    await app.startup()
    await app.shutdown()
    assert order == ["startup False", "shutdown False"]
    assert backend.stopped


async def test_a_failed_startup_of_the_application_disconnects_the_backend() -> None:
    backend = ScriptedBackend()

    class App:
        async def __call__(self, message: Message, channels: dict[str, Any]) -> None: ...

        async def startup(self) -> None:
            raise OSError("no database")

    with pytest.raises(OSError, match="no database"):
        await BroadcastMiddleware(App(), backend=backend).startup()
    assert backend.stopped


async def test_middleware_has_wants_http_disconnect_only_if_the_application_has_it() -> None:
    class Wants:
        wants_http_disconnect = True

        async def __call__(self, message: Message, channels: Channels) -> None: ...

    assert BroadcastMiddleware(Wants(), url="memory://").wants_http_disconnect
    assert not BroadcastMiddleware(chat, url="memory://").wants_http_disconnect


async def test_middleware_adds_groups_to_a_copy_of_the_channels() -> None:
    given = {"reply": object()}
    seen: list[Channels] = []

    async def app(message: Message, channels: Channels) -> None:
        seen.append(channels)

    middleware = BroadcastMiddleware(app, url="memory://")
    await middleware({"channel": "http.request"}, given)
    assert set(given) == {"reply"}
    assert set(seen[0]) == {"reply", "groups"}
    await middleware.shutdown()


def test_calling_BroadcastMiddleware_with_four_arguments_raises() -> None:
    with pytest.raises(LocalProtocolError, match="got 4 arguments"):
        BroadcastMiddleware(chat, url="memory://")(1, 2, 3, 4)


def test_BroadCastMiddleware_is_an_alias_of_BroadcastMiddleware() -> None:
    assert BroadCastMiddleware is BroadcastMiddleware
    assert uvitools.broadcast.BroadcastMiddleware is uvitools.broadcast.BroadCastMiddleware is BroadcastMiddleware
    assert broadcast.BroadcastMiddleware is BroadcastMiddleware


@pytest.mark.parametrize(
    ("arguments", "url"),
    [
        (("localhost", 6379), "redis://localhost:6379"),
        (("redis.example",), "redis://redis.example:6379"),
        (("::1", 7000), "redis://[::1]:7000"),
        ((None, 7000), "redis://localhost:7000"),
        ((), None),
    ],
)
def test_the_arguments_host_and_port_become_a_redis_url(arguments: tuple[Any, ...], url: str | None) -> None:
    assert BroadcastMiddleware(chat, *arguments).url == url


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "carrier-pigeon://x"}, "scheme 'carrier-pigeon'"),
        ({"host": "a", "url": "memory://"}, "pass only one of these"),
        ({"url": "memory://", "slow": "wait"}, "expected one of close, drop_oldest, drop_newest, got 'wait'"),
        ({"url": "memory://", "unavailable": "ignore"}, "expected 'raise' or 'drop', got 'ignore'"),
        (
            {"host": "redis://:secret@localhost"},
            "host: expected a name or an address; for a port use port=, for a URL use url=",
        ),
        ({"host": "localhost:6379"}, "host: expected a name or an address; for a port use port="),
        ({"host": 6379}, "host: expected a name or an address; for a port use port="),
        ({"host": "localhost", "port": "redis"}, "expected a port from 0 to 65535"),
        ({"url": b"memory://"}, "broadcast URL: expected text, got bytes"),
        ({"url": "memory://", "queue_messages": 0}, "queue_messages: expected a number not below 1, got 0"),
        ({"url": "memory://", "queue_bytes": "4"}, "queue_bytes: expected a number not below 1, got '4'"),
        ({"url": "memory://", "prefix": b"app."}, "prefix: expected text, got b'app.'"),
        ({"url": "memory://", "publish_timeout": 0}, "publish_timeout: expected seconds above 0, got 0"),
        ({"url": "memory://", "publish_timeout": None}, "publish_timeout: expected seconds above 0, got None"),
        ({"url": "memory://", "secret": "short"}, "secret: expected at least 16 bytes, got fewer"),
    ],
)
def test_invalid_middleware_arguments_raise_at_construction(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BroadcastMiddleware(chat, **options)


async def test_the_middleware_uses_the_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UVICORN_BROADCAST_URL", "memory://named")
    app = BroadcastMiddleware(chat)
    await app.startup()
    assert next(iter(app._hubs.values())).url == "memory://named"
    await app.shutdown()


async def test_B17c_middleware_with_a_secret_ignores_unsigned_requests() -> None:
    app = BroadcastMiddleware(chat, url="memory://", secret="a secret that is long enough")
    await app.startup()
    await settle()
    hub = next(iter(app._hubs.values()))
    await hub.backend.publish(hub.remote_members.group, b'{"_uvicorn_control": "add"}')  # type: ignore[union-attr]
    await settle()
    assert app.metrics["dropped_control"] == 1
    assert "secret that" not in repr(app._options)
    await app.shutdown()


async def test_the_middleware_has_metrics_from_its_start() -> None:
    app = BroadcastMiddleware(chat, url="memory://")
    assert app.metrics == {}
    await app.startup()
    assert app.metrics["connected"] is True
    assert {"delivered", "dropped_slow", "reconnects", "published", "queue_high_water"} <= set(app.metrics)
    await app.shutdown()
    assert app.metrics == {}


async def test_clients_that_have_disconnected_leave_no_members_or_tasks(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    async with running(chat) as (app, _):
        first = await visit(app)
        await first.lose()
        await settle()
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(20):
            client = await visit(app)
            await client.lose()
        await settle()
        del client
        gc.collect()
        assert len(gc.get_objects()) - before < 100
