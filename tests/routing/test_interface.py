"""A Router on our server: places, lanes, startup and shutdown (rules M7, M10, M13 to M32)."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers import Conversation, hello, settle, until
from tests.routing.apps import KINDS, asgi3_app, channels_app, wsgi_app
from tests.websocket_client import WebSocketConversation
from uvicorn import ASGI3Adapter, ASGIAdapter, Mount, Route, Router, Shift, WSGIAdapter
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.core.endpoint import Endpoint
from uvicorn.errors import StartupError
from uvicorn.interfaces.detect import build_interface
from uvicorn.routing.interface import RouterInterface
from uvicorn.settings import Settings


def get(path: str, *fields: bytes, method: bytes = b"GET") -> bytes:
    return b"\r\n".join((method + b" " + path.encode() + b" HTTP/1.1", b"host: x", *fields, b"", b""))


async def answers(app: Any, *requests: bytes, **settings: Any) -> list[Any]:
    """The answers to requests on one connection: a status, or what an application of `KINDS` has answered."""
    conversation = Conversation(app, **settings)
    await conversation.interface.startup()
    try:
        for number, request in enumerate(requests, 1):
            conversation.send(request)
            await until(lambda number=number: len(conversation.responses()) == number)  # type: ignore[misc]
        return [
            json.loads(response.content) if response.status == 200 else response.status
            for response in conversation.responses()
        ]
    finally:
        await conversation.interface.shutdown(0)
        await conversation.lose()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("root_path", "cut", "request_path", "root", "path"),
    [
        ("", "yes", "/shop/cart", "", "/shop/cart"),
        ("/base", "yes", "/shop/cart", "/base", "/base/shop/cart"),
        ("/base", "no", "/base/shop/cart", "/base", "/base/shop/cart"),
        ("/base", "no", "/shop/cart", "", "/shop/cart"),
        ("", "yes", "/shop", "", "/shop"),
        ("", "yes", "/shop%2Fcart", "", "/shop/cart"),
    ],
)
async def test_M13_every_kind_of_application_gets_the_root_path_of_its_mount(
    kind: str, root_path: str, cut: str, request_path: str, root: str, path: str
) -> None:
    settings = {"root_path": root_path, "root_path_cut": cut}
    app = KINDS[kind]
    assert await answers(Router(Route("/shop/*", app)), get(request_path), **settings) == [[kind, root, path]]
    mounted = root + "/shop"
    assert await answers(Router(Mount("/shop", app)), get(request_path), **settings) == [[kind, mounted, path]]


BETWEEN: dict[str, Callable[[Any, Callable[[Any], Any]], Any]] = {
    "groups around the Router": lambda app, entry: BroadcastMiddleware(Router(entry(app)), url="memory://"),
    "groups around the application": lambda app, entry: Router(entry(BroadcastMiddleware(app, url="memory://"))),
    "an adapter for WSGI hosts": lambda app, entry: Router(entry(WSGIAdapter(app))),
    "two adapters": lambda app, entry: Router(entry(ASGIAdapter(WSGIAdapter(app)))),
    "an adapter for ASGI hosts": lambda app, entry: Router(entry(ASGI3Adapter(app))),
    "the Router in an adapter": lambda app, entry: ASGI3Adapter(Router(entry(app))),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("between", BETWEEN)
async def test_M17_wrapped_application_gets_the_path_of_its_route(between: str, kind: str) -> None:
    for entry, root_path in (
        (lambda app: Mount("/shop", app), "/base/shop"),
        (lambda app: Route("/shop/*", app), "/base"),
    ):
        app = BETWEEN[between](KINDS[kind], entry)
        assert await answers(app, get("/shop/cart"), get("/shop"), root_path="/base") == [
            [kind, root_path, "/base/shop/cart"],
            [kind, root_path, "/base/shop"],
        ]


@pytest.mark.parametrize("kind", KINDS)
async def test_M14_a_mount_serves_its_prefix_with_and_without_a_trailing_slash(kind: str) -> None:
    assert await answers(Router(Mount("/shop", KINDS[kind])), get("/shop"), get("/shop/")) == [
        [kind, "/shop", "/shop"],
        [kind, "/shop", "/shop/"],
    ]


async def test_M13_mounted_wsgi_application_gets_the_bytes_of_the_path_unchanged() -> None:
    environs: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environs.append(environ)
        return wsgi_app({**environ, "PATH_INFO": ""}, start_response)

    await answers(Router(Mount("/café", app)), get("/caf%C3%A9/%FF%2Fx"))
    assert environs[0]["SCRIPT_NAME"].encode("latin-1") == "/café".encode()
    assert environs[0]["PATH_INFO"].encode("latin-1") == b"/\xff/x"


async def test_M15_nested_routers_join_their_prefixes_in_the_root_path() -> None:
    inner = Router(Route("/cart", channels_app), Mount("/old", wsgi_app), Route("/*", asgi3_app))
    table = Router(Mount("/shop", inner), Route("/flat/*", Router(Route("/flat/cart", channels_app))))
    assert await answers(
        table, get("/shop/cart"), get("/shop/old/x"), get("/shop"), get("/flat/cart"), root_path="/base"
    ) == [
        ["channels", "/base/shop", "/base/shop/cart"],
        ["wsgi", "/base/shop/old", "/base/shop/old/x"],
        ["asgi3", "/base/shop", "/base/shop"],
        ["channels", "/base", "/base/flat/cart"],
    ]


async def test_M15_404_or_405_of_a_nested_router_is_final() -> None:
    inner = Router(Route("/cart", channels_app, methods=("POST",)))
    table = Router(Mount("/shop", inner), default=wsgi_app)
    assert await answers(table, get("/shop/x"), get("/shop/cart"), get("/x")) == [404, 405, ["wsgi", "", "/x"]]


@pytest.mark.parametrize(("cut", "kind"), [("yes", "wsgi"), ("no", "channels"), ("auto", "channels")])
async def test_M16_routes_match_the_path_without_the_root_path(cut: str, kind: str) -> None:
    table = Router(Route("/auth/login", wsgi_app), Route("/login", channels_app))
    [found] = await answers(table, get("/auth/login"), root_path="/auth", root_path_cut=cut)
    assert found[:2] == [kind, "/auth"]


async def calls_of(app: Any) -> int:
    """How many Python functions are called for the second request of a connection."""
    conversation = Conversation(app)
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    for before in (None, count):
        sys.setprofile(before)
        try:
            conversation.send(get("/shop/cart/1"))
            await settle()
        finally:
            sys.setprofile(None)
    await conversation.lose()
    return calls


async def test_M12_router_adds_one_function_call_per_request() -> None:
    table = Router(*(Route(f"/shop/{number}/*", wsgi_app) for number in range(15)), Route("/shop/cart/*", hello))
    assert await calls_of(table) == await calls_of(hello) + 1


async def test_M9_OPTIONS_star_request_goes_to_the_default_application() -> None:
    table = [Route("/*", channels_app)]
    request = get("*", method=b"OPTIONS")
    assert await answers(Router(*table), request) == [404]
    assert await answers(Router(*table, default=wsgi_app), request) == [["wsgi", "", "*"]]


async def test_M10_request_and_handshake_for_an_unknown_path_get_404(
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversation = WebSocketConversation(Router(Route("/live", channels_app)), path="/x")
    await conversation.open()
    assert conversation.response is not None and conversation.response.status_code == 404
    assert await answers(Router(Route("/live", channels_app)), get("/x")) == [404]
    assert caplog.records == []


@pytest.mark.parametrize("app", [channels_app, asgi3_app])
@pytest.mark.parametrize("entry", [Route, Mount])
async def test_M7_websocket_application_gets_its_root_path_and_path(entry: Callable[..., Any], app: Any) -> None:
    path = "/shop/*" if entry is Route else "/shop"
    conversation = WebSocketConversation(Router(entry(path, app)), path="/shop/cart")
    await conversation.open()
    [text] = conversation.heard
    assert json.loads(text)[1:] == ["" if entry is Route else "/shop", "/shop/cart"]
    await conversation.lose()


async def test_M7_handshake_for_a_wsgi_application_is_served_as_a_GET_request() -> None:
    conversation = WebSocketConversation(Router(Route("/live", channels_app), default=wsgi_app), path="/page")
    await conversation.open()
    assert conversation.response is not None and conversation.response.status_code == 200
    await conversation.interface.shutdown(0)


async def test_M7_pipelined_handshake_of_a_half_closed_client_is_served_as_a_GET_request() -> None:
    handshake = get("/page", b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13")
    conversation = Conversation(Router(Route("/live", channels_app), default=wsgi_app))
    await conversation.interface.startup()
    conversation.send(get("/first") + handshake)
    conversation.send_eof()
    await until(lambda: len(conversation.responses()) == 2)
    assert [response.status for response in conversation.responses()] == [200, 200]
    await conversation.interface.shutdown(0)
    await conversation.lose()


async def test_M7_a_path_may_have_one_application_per_protocol() -> None:
    table = Router(Route("/live", channels_app, protocol="websocket"), default=wsgi_app)
    conversation = WebSocketConversation(table, path="/live")
    await conversation.open()
    assert json.loads(conversation.heard[0])[0] == "channels"
    await conversation.lose()
    assert await answers(table, get("/live")) == [["wsgi", "", "/live"]]


@pytest.mark.parametrize(("path", "status"), [("/ours", 403), ("/theirs", 101)])
async def test_M26_foreign_origin_is_rejected_for_channels_but_accepted_for_asgi(path: str, status: int) -> None:
    table = Router(Route("/ours", channels_app), Route("/theirs", asgi3_app))
    conversation = WebSocketConversation(table, path=path, origin="http://elsewhere.example")
    await conversation.open()
    assert conversation.response is not None and conversation.response.status_code == status
    await conversation.lose()


class Recording:
    """Records what an application of some kind is called with."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.__wrapped__ = app
        self.calls: list[Any] = []

    def __call__(self, *arguments: Any) -> Any:
        self.calls.append(arguments[0])
        return self._app(*arguments)


@pytest.mark.parametrize("kind", KINDS)
async def test_M19_route_does_not_change_the_request_of_its_application(kind: str) -> None:
    alone, routed = Recording(KINDS[kind]), Recording(KINDS[kind])
    request = get("/shop/caf%C3%A9?x=1", b"cookie: a=b", b"upgrade: h2c")
    for app in (alone, Router(Route("/shop/*", routed), default=hello)):
        await answers(app, request, request, root_path="/base", interface="auto")
    ignored = {"wsgi.errors", "wsgi.input", "reply_channel", "wsgi.file_wrapper"}
    seen = [
        [{key: value for key, value in call.items() if key not in ignored} for call in app.calls if "path" in call]
        or [{key: value for key, value in call.items() if key not in ignored} for call in app.calls]
        for app in (alone, routed)
    ]
    assert seen[0] == seen[1] and len(seen[0]) >= 2
    assert [list(call) for call in seen[0]] == [list(call) for call in seen[1]]


async def test_M20_one_connection_may_send_requests_to_every_kind_of_application() -> None:
    table = Router(*(Mount(f"/{number}", app) for number, app in enumerate(KINDS.values())))
    paths = [*range(len(KINDS)), 0, 0, 3, 4, 3, 0]
    found = await answers(table, *(get(f"/{number}/x") for number in paths))
    assert found == [[list(KINDS)[number], f"/{number}", f"/{number}/x"] for number in paths]


def interfaces_of(router: Router) -> list[Any]:
    interface = build_interface(router, Settings())
    assert isinstance(interface, RouterInterface)
    return list(interface.interfaces.values())


class Site:
    def wsgi(self, environ: Any, start_response: Any) -> list[bytes]:
        return wsgi_app(environ, start_response)


def test_M20_equal_bound_methods_share_one_interface() -> None:
    site = Site()
    one, two, three = interfaces_of(
        Router(Route("/a", site.wsgi), Mount("/b", ASGIAdapter(site.wsgi)), default=site.wsgi)
    )
    assert one is two is three
    nested, default = interfaces_of(Router(Mount("/a", Router(Route("/b", site.wsgi))), default=site.wsgi))
    assert [*nested.interfaces.values()] == [default]


def test_M20_different_applications_have_different_interfaces() -> None:
    one, two = interfaces_of(Router(Route("/a", Site().wsgi), Route("/b", Site().wsgi)))
    assert one is not two


def test_M21_route_with_a_threads_argument_gets_a_separate_pool() -> None:
    health, adapted, again, default = interfaces_of(
        Router(
            Route("/health", wsgi_app, threads=2),
            Route("/a", ASGIAdapter(wsgi_app, threads=3)),
            Route("/b", ASGIAdapter(wsgi_app, threads=3)),
            default=wsgi_app,
        )
    )
    assert [each.executor.threads for each in (health, adapted, default)] == [2, 3, 16]
    assert adapted is again


async def test_M22_route_with_threads_responds_while_the_default_application_blocks() -> None:
    release = threading.Event()

    def blocking(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/health":
            release.wait()
        return wsgi_app(environ, start_response)

    table = Router(Route("/health", blocking, threads=1), default=blocking)
    conversation = Conversation(table, threads=1, thread_queue=1)
    others = [conversation.connect() for _ in range(3)]
    statuses = []
    try:
        for connection, transport in others:
            connection.data_received(get("/page"))
            await settle()
            statuses.append(b"".join(transport.writes)[9:12])
        conversation.send(get("/health"))
        await until(lambda: conversation.responses())
        assert statuses == [b"", b"", b"503"]
        assert conversation.statuses == [200]
    finally:
        release.set()
        await conversation.interface.shutdown(1)


async def test_M23_route_to_an_adapter_has_the_interface_of_the_adapted_application() -> None:
    [interface] = interfaces_of(Router(Route("/a", ASGIAdapter(wsgi_app, threads=4))))
    assert interface.name == "wsgi"


class Living:
    """An application that records its startup and shutdown in `events`."""

    def __init__(self, name: str, events: list[str], fails: str = "") -> None:
        self._name = name
        self._events = events
        self._fails = fails

    async def __call__(self, message: Any, channels: Any) -> None:
        await hello(message, channels)

    async def startup(self) -> None:
        self._happens("startup")

    async def shutdown(self) -> None:
        self._happens("shutdown")

    def _happens(self, what: str) -> None:
        self._events.append(f"{self._name} {what}")
        if what == self._fails:
            raise OSError(f"no {what}")


async def test_M27_applications_start_in_table_order_and_stop_in_reverse_order() -> None:
    events: list[str] = []
    one, two, three, last = (Living(name, events) for name in ("one", "two", "three", "last"))
    interface = build_interface(
        Router(
            Route("/1", one), Mount("/in", Router(Route("/2", two), Route("/1", one))), Route("/3", three), default=last
        ),
        Settings(),
    )
    await interface.startup()
    assert events == ["one startup", "two startup", "three startup", "last startup"]
    events.clear()
    await interface.shutdown(1)
    assert events == ["last shutdown", "three shutdown", "two shutdown", "one shutdown"]


async def test_M27_an_application_with_several_pools_starts_once() -> None:
    events: list[str] = []

    class Blocking:
        startup, shutdown = Living("site", events).startup, Living("site", events).shutdown

        def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
            return wsgi_app(environ, start_response)

    site = Blocking()
    interface = build_interface(
        Router(Route("/1", site, threads=1), Route("/2", site, threads=1), default=site), Settings()
    )
    await interface.startup()
    await interface.shutdown(1)
    assert events == ["site startup", "site shutdown"]


async def test_M28_failed_startup_shuts_down_earlier_applications() -> None:
    events: list[str] = []
    interface = build_interface(
        Router(
            Route("/1", Living("one", events)),
            Route("/2", Living("two", events)),
            Mount("/3", Living("three", events, fails="startup")),
            default=Living("last", events),
        ),
        Settings(),
    )
    with pytest.raises(StartupError, match=r"^Mount\('/3'\): the application's startup failed$") as caught:
        await interface.startup()
    assert isinstance(caught.value.__cause__, OSError)
    assert events == ["one startup", "two startup", "three startup", "two shutdown", "one shutdown"]


async def test_M28_a_cancelled_startup_shuts_down_earlier_applications() -> None:
    events: list[str] = []
    hanging = Living("two", events)

    async def hang() -> None:
        events.append("two startup")
        await asyncio.Event().wait()

    hanging.startup = hang  # type: ignore[method-assign]
    interface = build_interface(Router(Route("/1", Living("one", events)), Route("/2", hanging)), Settings())
    starting = asyncio.ensure_future(interface.startup())
    await until(lambda: len(events) == 2)
    starting.cancel()
    await asyncio.wait((starting,))
    assert starting.cancelled()
    assert events == ["one startup", "two startup", "one shutdown"]


async def test_M29_failed_shutdown_does_not_prevent_the_next_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[str] = []
    interface = build_interface(
        Router(Route("/1", Living("one", events)), Route("/2", Living("two", events, fails="shutdown"))), Settings()
    )
    await interface.startup()
    await interface.shutdown(1)
    assert events[2:] == ["two shutdown", "one shutdown"]
    assert [record.getMessage() for record in caplog.records] == ["Route('/2'): the application's shutdown failed"]


async def test_M29_hanging_shutdown_does_not_prevent_the_next_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events: list[str] = []
    hanging = Living("two", events)

    async def hang() -> None:
        await asyncio.Event().wait()

    hanging.shutdown = hang  # type: ignore[method-assign]
    interface = build_interface(Router(Route("/1", Living("one", events)), Route("/2", hanging)), Settings())
    await interface.startup()
    await interface.shutdown(0)
    assert events[2:] == ["one shutdown"]
    assert "Route('/2'): the application's shutdown has not ended in time" in caplog.text


async def test_M30_each_asgi_application_has_a_separate_state() -> None:
    states: list[Any] = []

    def application(name: str) -> Any:
        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await receive()
                scope["state"]["name"] = name
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
            else:
                states.append(scope.get("state"))
                await asgi3_app(scope, receive, send)

        return app

    table = Router(Route("/1", application("one")), Route("/2", application("two")), Route("/3", asgi3_app))
    conversation = Conversation(table)
    await conversation.interface.startup()
    for path in ("/1", "/2", "/3"):
        conversation.send(get(path))
        await settle()
    assert states == [{"name": "one"}, {"name": "two"}]
    assert conversation.statuses == [200, 200, 200]
    await conversation.interface.shutdown(1)
    await conversation.lose()


async def test_M32_log_line_of_a_failed_request_shows_the_matched_routes(caplog: pytest.LogCaptureFixture) -> None:
    async def failing(message: Any, channels: Any) -> None:
        raise RuntimeError("broken")

    table = Router(Mount("/shop", Router(Route("/cart/*", failing, name="cart"))), default=failing)
    assert await answers(table, get("/shop/cart/1"), get("/x")) == [500, 500]
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "<GET '/shop/cart/1' via /shop via cart WAITING>",
        "<GET '/x' WAITING>",
    ]


@pytest.mark.parametrize("websocket", [False, True])
async def test_router_contexts_are_freed_when_the_connection_ends(websocket: bool) -> None:
    """A context names its endpoint as the owner: the two would wait for the garbage collector."""

    def contexts() -> list[object]:
        return [found.context for found in gc.get_objects() if isinstance(found, Endpoint) and found.context]

    assert contexts() == []
    table = Router(Mount("/0", Router(Route("/*", channels_app))), Mount("/1", asgi3_app))
    conversation = WebSocketConversation(table, path="/0/chat")
    for path in ("/0", "/1", "/1", "/0"):
        conversation.send(get(path))
        await settle()
        assert len(contexts()) == 1
    if websocket:
        conversation.transport.writes.clear()
        await conversation.open()
        assert len(conversation.heard) == len(contexts()) == 1
    await conversation.lose()
    assert contexts() == []


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[Conversation]:
    conversation = Conversation(app)
    await conversation.interface.startup()
    yield conversation
    await conversation.interface.shutdown(1)


async def test_M18_router_does_not_change_the_response_of_an_application(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def redirecting(message: Any, channels: Any) -> None:
        headers = [[b"location", b"/cart/"], [b"set-cookie", b"a=b; Path=/"]]
        await channels["reply"].send({"status": 302, "headers": headers, "content": b"/cart/"})

    received = []
    for app, path in ((redirecting, "/shop"), (Router(Mount("/shop", redirecting)), "/shop")):
        conversation = Conversation(app)
        conversation.send(get(path))
        await settle()
        received.append(conversation.received)
        await conversation.lose()
    assert received[0] == received[1]


def test_route_inherits_the_server_settings_that_it_does_not_override() -> None:
    settings = replace(Settings(), threads=5, reply_seconds=7.0)
    interface: Any = build_interface(
        Router(Route("/a", wsgi_app, threads=2, interface="wsgi"), default=wsgi_app), settings
    )
    one, other = interface.interfaces.values()
    assert (one.settings.threads, one.settings.reply_seconds) == (2, 7.0)
    assert other.settings.threads == 5
    logging.getLogger("uvicorn.app").debug("%s", interface)


# WebSockets of WSGI applications


def wsgi_echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Echo one message of a WebSocket, or respond with the path."""
    if "uvicorn.websocket" in environ:
        websocket = environ["uvicorn.websocket"]
        websocket.send(f"{environ['SCRIPT_NAME']} {environ['PATH_INFO']} {websocket.receive()}")
    start_response("200 OK", [])
    return [b"ordinary"]


def wsgi_page(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"with websocket" if "uvicorn.websocket" in environ else b"without websocket"]


async def asked(app: Any, path: str) -> WebSocketConversation:
    """A client that has asked for a WebSocket, and the first response."""
    conversation = WebSocketConversation(app, path=path)
    await conversation.interface.startup()
    await conversation.open()
    await until(lambda: conversation.status)
    return conversation


@pytest.mark.parametrize(
    ("router", "heard"),
    [
        (Router(Mount("/in", wsgi_echo)), "/in /chat hello"),
        (Router(Route("/in/*", wsgi_echo), default=hello), " /in/chat hello"),
        (Router(Mount("/in", Router(default=wsgi_echo))), "/in /chat hello"),
        (Router(Route("/in/*", wsgi_echo, protocol="websocket"), default=wsgi_page), " /in/chat hello"),
        (Router(Route("/in/*", Shift(wsgi_echo, wsgi_page))), " /in/chat hello"),
        (Router(Route("/in/*", ASGIAdapter(wsgi_echo, threads=1))), " /in/chat hello"),
        (Router(Route("/in/*", wsgi_echo, threads=1), default=wsgi_page), " /in/chat hello"),
    ],
    ids=["mount", "beside coroutines", "nested", "websocket entry", "shift", "adapter", "lane"],
)
async def test_W9_routed_wsgi_application_accepts_a_websocket(router: Router, heard: str) -> None:
    conversation = await asked(router, "/in/chat")
    await conversation.say("hello")
    await until(lambda: conversation.heard)
    assert conversation.heard == [heard]
    await conversation.lose()
    await conversation.interface.shutdown(30)


async def test_M7_handshake_matches_a_wsgi_route_that_allows_only_GET() -> None:
    conversation = await asked(Router(Route("/page", wsgi_page, methods=("GET",))), "/page")
    assert conversation.responses()[0].content == b"with websocket"
    await conversation.interface.shutdown(30)


async def test_M47_wsgi_application_with_a_fallback_gets_no_websocket() -> None:
    shift = Shift(wsgi_echo, wsgi_page, weight=100, fallback=(404,))
    conversation = await asked(Router(Route("/page", shift), default=wsgi_page), "/page")
    assert conversation.responses()[0].content == b"without websocket"
    await conversation.interface.shutdown(30)


async def test_M47_websocket_handshake_falls_back_to_the_old_wsgi_application() -> None:
    def missing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("404 Not Found", [])
        return [b""]

    conversation = await asked(Router(default=Shift(wsgi_page, missing, weight=100, fallback=(404,))), "/page")
    assert conversation.responses()[0].content == b"without websocket"
    await conversation.interface.shutdown(30)
