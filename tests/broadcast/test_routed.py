"""`BroadcastMiddleware` around a Router (rules M23 and M25)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.broadcast.scripted import ScriptedBackend
from tests.broadcast.test_middleware import KINDS, channels_app, chat, visit, wsgi
from tests.helpers import Conversation, settle, until
from uvicorn import ASGI3Adapter, ASGIAdapter, Mount, Route, Router, WSGIAdapter
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.errors import ConfigError, StartupError

Message = dict[str, Any]


def table(**keywords: Any) -> Router:
    """One application of each kind. The path of each is its number. The last application is in an adapter."""
    entries: list[Any] = [Mount(f"/{number}", app) for number, (_, app) in enumerate(KINDS)]
    return Router(*entries, Mount("/in", Router(Route("/6", ASGIAdapter(wsgi, threads=2)))), **keywords)


async def test_M25_applications_of_all_kinds_in_a_router_share_one_hub() -> None:
    backend = ScriptedBackend()
    middleware = BroadcastMiddleware(table(default=channels_app), backend=backend)
    client = Conversation(middleware)
    await client.interface.startup()
    paths = [*(f"/{number}" for number in range(len(KINDS))), "/in/6", "/7"]
    for number, path in enumerate(paths, 1):
        client.send(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await until(lambda number=number: len(client.responses()) == number)  # type: ignore[misc]
    assert [response.content for response in client.responses()] == [b"sent"] * len(paths)
    assert [group for group, _ in backend.published] == ["news"] * len(paths)
    assert len(middleware._hubs) == 1
    await client.interface.shutdown(1)
    assert backend.stopped and not middleware._hubs
    await client.lose()


async def test_M25_hub_stops_after_every_application_of_the_router_has_stopped() -> None:
    events: list[str] = []
    backend = ScriptedBackend()

    class App:
        async def __call__(self, message: Message, channels: Message) -> None: ...

        async def startup(self) -> None:
            events.append("startup")

        async def shutdown(self) -> None:
            events.append(f"shutdown, backend stopped: {backend.stopped}")

    client = Conversation(BroadcastMiddleware(Router(Route("/1", App()), Route("/2", App())), backend=backend))
    await client.interface.startup()
    await client.interface.shutdown(1)
    assert events == ["startup", "startup", *["shutdown, backend stopped: False"] * 2]
    assert backend.stopped


async def test_M28_a_failed_startup_disconnects_the_backend() -> None:
    class Failing:
        async def __call__(self, message: Message, channels: Message) -> None: ...

        async def startup(self) -> None:
            raise OSError("no database")

    backend = ScriptedBackend()
    client = Conversation(BroadcastMiddleware(Router(Route("/1", chat), Route("/2", Failing())), backend=backend))
    with pytest.raises(StartupError, match=r"Route\('/2'\)"):
        await client.interface.startup()
    assert backend.stopped


async def test_M25_a_gap_is_reported_to_the_application_that_added_the_member() -> None:
    notified: list[str] = []

    def application(name: str) -> Callable[[Message, Message], Any]:
        async def app(message: Message, channels: Message) -> None:
            if message["channel"] == "groups.gap":
                notified.append(name)
            else:
                await chat(message, channels)

        return app

    backend = ScriptedBackend()
    routed = BroadcastMiddleware(
        Router(Route("/1", application("one")), Route("/2", application("two"))), backend=backend
    )
    client = await visit(routed, path="/2")
    backend.lose("chat", since=77.0)
    await settle()
    assert notified == ["two"]
    await client.lose()
    await client.interface.shutdown(1)
    await routed.shutdown()


def test_M25_routed_wsgi_application_has_groups_on_a_wsgi_host() -> None:
    groups: list[Any] = []

    def app(environ: Message, start_response: Any) -> list[bytes]:
        groups.append(environ["uvicorn.groups"])
        start_response("200 OK", [])
        return []

    adapter = WSGIAdapter(BroadcastMiddleware(Router(Mount("/a", app), default=chat), backend=ScriptedBackend()))
    environ = {"REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/a", "wsgi.url_scheme": "http"}
    adapter(environ, lambda status, headers, exc_info=None: None)
    assert type(groups[0]).__name__ == "GroupsChannel"


async def test_M25_routed_asgi_application_has_groups_on_an_asgi_host() -> None:
    scopes: list[Message] = []

    async def app(scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scopes.append(scope)
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})

    middleware = BroadcastMiddleware(Router(Mount("/a", app), default=chat), url="memory://")
    adapter: Any = ASGI3Adapter(middleware)
    received = asyncio.Queue[Message]()
    sent: list[Message] = []

    async def send(event: Message) -> None:
        sent.append(event)

    received.put_nowait({"type": "lifespan.startup"})
    lifespan = asyncio.ensure_future(adapter({"type": "lifespan"}, received.get, send))
    await until(lambda: sent)
    await adapter({"type": "http", "path": "/a/x", "root_path": "", "headers": []}, received.get, send)
    assert scopes[0]["root_path"] == "/a" and scopes[0]["groups"]
    received.put_nowait({"type": "lifespan.shutdown"})
    await lifespan
    assert not middleware._hubs


async def test_M25_a_broadcast_middleware_can_wrap_one_application_of_a_router() -> None:
    client = Conversation(Router(Route("/a", BroadcastMiddleware(channels_app, url="memory://")), default=chat))
    await client.interface.startup()
    client.send(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n")
    await settle()
    assert client.responses()[0].content == b"sent"
    await client.interface.shutdown(1)
    await client.lose()


def test_M23_middleware_around_a_router_rejects_an_invalid_url_at_construction() -> None:
    with pytest.raises(ConfigError):
        BroadcastMiddleware(Router(default=chat), url="nothing://")
