"""Each policy for slow clients, with each kind of group member."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from types import SimpleNamespace
from typing import Any

import pytest

from tests.broadcast.scripted import ScriptedBackend
from tests.broadcast.test_middleware import running
from tests.helpers import GET, Conversation, settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn.adapters import ASGI3Adapter, ASGIAdapter
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.broadcast.members import DeliveryMetrics, HostReply, Member, MemberContext, Queueing
from uvicorn.errors import LocalProtocolError
from uvicorn.interfaces.channels_websocket import WebSocketReply
from uvicorn.interfaces.consumer_sync import ThreadReplyChannel
from uvicorn.interfaces.http_reply import ReplyChannel
from uvicorn.types import GroupMember

#: More than a connection takes without waiting.
SIZE = 70_000

Message = dict[str, Any]


class Site:
    """An application whose client joins the group `news`. Records the reported gaps."""

    def __init__(self) -> None:
        self.gaps: list[Message] = []
        self.ended = asyncio.Event()

    async def channels_websocket(self, message: Message, channels: dict[str, Any]) -> None:
        if message["channel"] == "websocket.connect":
            await channels["groups"].send({"group": "news", "add": channels["reply"].name})
        elif message["channel"] == "groups.gap":
            self.gaps.append(message)

    async def channels_http(self, message: Message, channels: dict[str, Any]) -> None:
        if message["channel"] == "groups.gap":
            self.gaps.append(message)
            return
        await channels["reply"].send({"status": 200, "more_content": True})
        await channels["groups"].send({"group": "news", "add": channels["reply"].name})

    async def consumer(self, message: Message) -> None:
        reply, groups = message["reply_channel"], message["groups"]
        groups.on_gap(self.gaps.append)
        await reply.send({"status": 200, "more_content": True})
        await groups.send({"group": "news", "add": reply.name})

    def consumer_thread(self, message: Message) -> None:
        reply, groups = message["reply_channel"], message["groups"]
        groups.on_gap(self.gaps.append)
        reply.send({"status": 200, "more_content": True})
        groups.send({"group": "news", "add": reply.name})

    async def asgi(self, scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        groups = scope["groups"]
        groups.on_gap(self.gaps.append)
        await receive()
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
        await groups.send({"group": "news", "add": groups.name})
        try:
            await receive()
        finally:
            self.ended.set()

    asgi_websocket = asgi


HTTP = ("channels_http", "consumer", "consumer_thread", "asgi")
KINDS = (*HTTP, "channels_websocket", "asgi_websocket")


class Visit:
    """A client that has joined the group and reads no more."""

    def __init__(self, kind: str, client: Conversation, backend: ScriptedBackend) -> None:
        self.client = client
        self._backend = backend
        self._is_websocket = kind.endswith("websocket")
        client.transport.client_takes = False

    async def receive(self, *letters: str) -> None:
        """Send messages to the group. Each message repeats one letter."""
        for letter in letters:
            text = letter * SIZE
            message: Message = (
                {"text": text} if self._is_websocket else {"content": text.encode(), "more_content": True}
            )
            self._backend.receive("news", message)
            await settle()

    async def read_on(self) -> None:
        self.client.transport.client_takes = True
        self.client.transport.take(1 << 30)
        await settle(50)

    @property
    def letters(self) -> str:
        """Return the letters of the messages that were sent to the client."""
        if isinstance(self.client, WebSocketConversation):
            return "".join(str(text)[0] for text in self.client.heard)
        return self.client.responses()[0].content.decode()[::SIZE]

    @property
    def is_closed(self) -> bool:
        if isinstance(self.client, WebSocketConversation):
            return self.client.close_code == 1013
        return self.client.transport.aborted and not self.client.responses()[0].complete


@asynccontextmanager
async def visit(kind: str, policy: str) -> AsyncIterator[tuple[Site, Visit, BroadcastMiddleware]]:
    site = Site()
    async with running(getattr(site, kind), queue_messages=2, slow=policy) as (app, backend):
        client: Conversation
        if kind.endswith("websocket"):
            client = WebSocketConversation(app)
            await client.open()
        else:
            client = Conversation(app)
            client.send(GET)
        await until(lambda: app.metrics["members"] == 1)
        await settle()
        yield site, Visit(kind, client, backend), app
        await client.lose()
        await client.interface.shutdown(1)


@pytest.mark.parametrize("kind", KINDS)
async def test_B10_policy_close_ends_the_connection_of_a_slow_member(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with visit(kind, "close") as (site, client, app):
        await client.receive(*"abc")
        assert not client.is_closed
        await client.receive("d")
        assert client.is_closed
        assert (app.metrics["members"], app.metrics["closed_slow"]) == (0, 1)
        if kind == "asgi":
            assert site.ended.is_set(), "the application has received http.disconnect"
        assert caplog.text.count("does not read the messages of its groups") == len(caplog.records) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_B10_policy_drop_oldest_keeps_the_newest_messages(kind: str) -> None:
    async with visit(kind, "drop_oldest") as (site, client, app):
        await client.receive(*"abcde")
        await client.read_on()
        assert client.letters == "ade"
        assert [(gap["groups"], gap["reason"]) for gap in site.gaps] == [(["news"], "slow")]
        assert (app.metrics["members"], app.metrics["dropped_slow"]) == (1, 2)


@pytest.mark.parametrize("kind", KINDS)
async def test_B10_policy_drop_newest_keeps_the_oldest_messages(kind: str) -> None:
    async with visit(kind, "drop_newest") as (site, client, app):
        await client.receive(*"abcde")
        await client.read_on()
        await client.receive("f")
        await client.read_on()
        assert client.letters == "abcf"
        assert [(gap["groups"], gap["reason"]) for gap in site.gaps] == [(["news"], "slow")]
        assert (app.metrics["members"], app.metrics["dropped_slow"]) == (1, 2)


async def test_GroupsChannel_of_a_wsgi_http_request_has_no_name() -> None:
    said: list[str] = []

    def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        try:
            said.append(environ["uvicorn.groups"].name)
        except LocalProtocolError as error:
            said.append(str(error))
        start_response("200 OK", [])
        return [b""]

    async with running(wsgi) as (app, _):
        client = Conversation(app)
        client.send(GET)
        await until(lambda: client.statuses)
        assert said == ["groups.name: this client has no reply channel, so it cannot join a group"]
        await client.interface.shutdown(1)


def test_reply_channels_have_all_methods_of_a_group_member() -> None:
    wanted = {name for name in vars(GroupMember) if not name.startswith("_")}
    assert wanted == {"name", "is_ready", "offer_text", "send", "wait_ready", "break_off", "on_close"}
    from uvicorn.broadcast.asgi3 import ASGI3Reply

    wrapped = HostReply(SimpleNamespace(name="reply.a.1"), asyncio.ensure_future)
    for kind in (ReplyChannel, WebSocketReply, ThreadReplyChannel, ASGI3Reply, wrapped):
        assert wanted <= set(dir(kind)), kind


async def test_custom_reply_channel_without_all_methods_is_wrapped() -> None:
    class Partly:
        name = "reply.a.1"
        is_ready = True

        async def send(self, message: Message) -> None: ...

    shared = MemberContext(
        Queueing(), DeliveryMetrics(), lambda coroutine, context: asyncio.ensure_future(coroutine), print, None
    )
    assert isinstance(Member(Partly(), "reply.a.1", Context(), shared).target, HostReply)


# An event stream of an ASGI application under a host that cannot be asked to break it off.


class Host:
    """A host that accepts events until the test stops it."""

    def __init__(self) -> None:
        self.events: list[Message] = []
        self.may_take = asyncio.Event()
        self.may_take.set()

    async def receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, event: Message) -> None:
        if event["type"] not in ("http.response.start", "http.response.body"):
            raise RuntimeError("Expected ASGI message 'http.response.body'")
        await self.may_take.wait()
        self.events.append(event)


async def test_slow_event_stream_is_cancelled_if_the_host_cannot_abort_it() -> None:
    host, outcomes = Host(), []

    async def stream(scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await scope["groups"].send({"group": "news", "add": scope["groups"].name})
        try:
            await receive()
        except asyncio.CancelledError:
            with pytest.raises(OSError):
                await send({"type": "http.response.body", "body": b"last words"})
            outcomes.append("cancelled")
            raise

    async with running(stream, queue_messages=2) as (app, backend):
        task = asyncio.ensure_future(app({"type": "http"}, host.receive, host.send))
        await settle()
        host.may_take.clear()
        for _ in range(4):
            backend.receive("news", {"content": b"x", "more_content": True})
            await settle()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (outcomes, app.metrics["members"]) == (["cancelled"], 0)
        assert [event["type"] for event in host.events] == ["http.response.start"]


async def test_slow_event_stream_behind_a_filtering_middleware_is_closed() -> None:
    site = Site()

    async with running(site.asgi, queue_messages=2) as (app, backend):

        async def picky(scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
            async def only_known(event: Message) -> None:
                if event["type"].startswith("http."):
                    await send(event)

            await app(scope, receive, only_known)

        client = Conversation(picky)
        client.send(GET)
        await until(lambda: app.metrics["members"] == 1)
        visit = Visit("asgi", client, backend)
        await visit.receive(*"abcd")
        assert visit.is_closed
        await client.lose()


@pytest.mark.parametrize("wrap", [ASGIAdapter, ASGI3Adapter])
async def test_a_slow_event_stream_behind_an_adapter_is_closed(wrap: Any) -> None:
    site = Site()
    backend = ScriptedBackend()
    app = BroadcastMiddleware(site.asgi, backend=backend, queue_messages=2)
    if wrap is ASGI3Adapter:
        # Messages of the channels interface behind it.
        app = BroadcastMiddleware(site.channels_http, backend=backend, queue_messages=2)
        outer: Any = ASGI3Adapter(app)
    else:
        adapter = ASGIAdapter(app, interface="asgi3")

        async def outer(message: Message, channels: dict[str, Any]) -> None:
            await adapter(message, channels)

    client = Conversation(outer, lifespan="off")
    client.send(GET)
    await until(lambda: app.metrics.get("members") == 1)
    visit = Visit("asgi", client, backend)
    for letter in "abcdefgh":
        await visit.receive(letter)
    assert visit.is_closed
    assert app.metrics["members"] == 0
    await client.lose()
    if wrap is ASGIAdapter:
        await adapter.shutdown()
    await app.shutdown()
