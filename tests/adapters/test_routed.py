"""A Router on other hosts: rules M61, M62, M64, M65, and M13 there."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from tests.adapters.strict_host import Request, StrictHost
from tests.routing.apps import KINDS, asgi3_app, channels_app, wsgi_app
from uvicorn import ASGI3Adapter, ASGIAdapter, Mount, Route, Router, Shift, WSGIAdapter, cookie
from uvicorn.interfaces.detect import build_interface
from uvicorn.routing.interface import RouterInterface
from uvicorn.routing.weight import is_new
from uvicorn.settings import Settings


def on_wsgi(adapter: Any, path: str, script_name: str = "", method: str = "GET", **fields: str) -> Any:
    """Return the response of an application of `KINDS` on a WSGI host, or its status."""
    request = Request(method, script_name.encode(), path.encode(), fields=tuple(fields.items()))
    received = StrictHost(request).serve(adapter, request.environ(strict=True))
    assert received.mistakes == [] and received.complete
    return json.loads(received.content) if received.code == 200 else received.code


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("script_name", ["", "/base", "/bäse"])
def test_M13_every_application_gets_its_path_and_root_path_on_a_wsgi_host(kind: str, script_name: str) -> None:
    app = KINDS[kind]
    adapter = WSGIAdapter(Router(Route("/shop/*", app), Mount("/möunt", Router(Mount("/in", app)))))
    assert on_wsgi(adapter, "/shop/cart", script_name) == [kind, script_name, script_name + "/shop/cart"]
    for path in ("/möunt/in", "/möunt/in/x"):
        assert on_wsgi(adapter, path, script_name) == [kind, script_name + "/möunt/in", script_name + path]


def test_M10_an_unknown_path_on_a_wsgi_host_gets_404() -> None:
    adapter = WSGIAdapter(Router(Route("/a", wsgi_app, methods=("POST",)), Mount("/in", Router(Route("/a", wsgi_app)))))
    assert on_wsgi(adapter, "/x") == 404
    assert on_wsgi(adapter, "/a") == 405
    assert on_wsgi(adapter, "/in/x") == 404


def test_M6_host_header_selects_the_application_on_a_wsgi_host() -> None:
    adapter = WSGIAdapter(Router(Route("/*", channels_app, host="shop.example"), default=wsgi_app))
    assert on_wsgi(adapter, "/x", HTTP_HOST="Shop.example:80")[0] == "channels"
    assert on_wsgi(adapter, "/x", HTTP_HOST="other.example")[0] == "wsgi"


def test_M5_requested_method_selects_the_application_for_a_wsgi_preflight() -> None:
    adapter = WSGIAdapter(Router(Route("/a", channels_app, methods=("PUT",)), default=wsgi_app))
    fields = {"HTTP_ACCESS_CONTROL_REQUEST_METHOD": "PUT"}
    assert on_wsgi(adapter, "/a", method="OPTIONS", **fields)[0] == "channels"
    assert on_wsgi(adapter, "/a", method="OPTIONS")[0] == "wsgi"


@pytest.mark.parametrize(
    ("script_name", "path_info", "status"),
    [("", "", 200), ("/base", "", 404), ("", "a/x", 404), ("/base", "a/x", 200), ("", "/a/\u20ac", 200)],
)
def test_M33_wsgi_and_channels_routes_give_an_unusual_path_the_same_status(
    script_name: str, path_info: str, status: int
) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return []

    for kind in (app, channels_app):
        adapter = WSGIAdapter(Router(Route("/", kind), Mount("/a", kind)))
        environ = {**Request().environ(strict=True), "SCRIPT_NAME": script_name, "PATH_INFO": path_info}
        assert StrictHost(Request()).serve(adapter, environ).code == status


@pytest.mark.parametrize("kind", KINDS)
def test_M13_mount_appends_its_decoded_prefix_to_script_name(kind: str) -> None:
    environ = {**Request().environ(strict=True), "SCRIPT_NAME": "/\u0436", "PATH_INFO": "/\u20ac/x"}
    received = StrictHost(Request()).serve(WSGIAdapter(Router(Mount("/\u20ac", KINDS[kind]))), environ)
    assert json.loads(received.content) == [kind, "/\u0436/\u20ac", "/\u0436/\u20ac/x"]


@pytest.mark.parametrize(("weight", "kind"), [(0, "wsgi"), (100, "channels")])
def test_M36_shift_keeps_the_root_path_of_its_mount_on_a_wsgi_host(weight: int, kind: str) -> None:
    shift = Shift(wsgi_app, channels_app, weight=weight)
    for app in (shift, Router(Mount("/shop", shift))):
        root_path = "/base" if app is shift else "/base/shop"
        assert on_wsgi(WSGIAdapter(app), "/shop/cart", "/base") == [kind, root_path, "/base/shop/cart"]


def test_M41_shift_selects_the_application_by_cookie_on_a_wsgi_host() -> None:
    adapter = WSGIAdapter(Shift(wsgi_app, channels_app, weight=50, key=cookie("v"), name="search"))
    visitor = next(f"v{number}" for number in range(100) if is_new(50, "search", f"v{number}"))
    assert [on_wsgi(adapter, "/x", HTTP_COOKIE=text)[0] for text in ("v=", f"a=b; v={visitor}")] == ["wsgi", "channels"]


def test_M64_router_treats_a_websocket_handshake_as_GET_on_a_wsgi_host() -> None:
    adapter = WSGIAdapter(Router(Route("/live", channels_app, protocol="websocket"), default=wsgi_app))
    assert on_wsgi(adapter, "/live", HTTP_UPGRADE="websocket", HTTP_CONNECTION="Upgrade") == ["wsgi", "", "/live"]


def test_M61_a_wsgi_application_is_called_on_the_thread_of_the_host() -> None:
    threads: list[int] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        threads.append(threading.get_ident())
        return wsgi_app(environ, start_response)

    adapter = WSGIAdapter(Router(Route("/a", ASGIAdapter(app, threads=2)), Mount("/b", app), default=app))
    for path in ("/a", "/b", "/c"):
        on_wsgi(adapter, path)
    assert threads == [threading.get_ident()] * 3


def test_M61_route_passes_the_environ_itself_and_mount_passes_a_copy() -> None:
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ)
        return wsgi_app(environ, start_response)

    adapter = WSGIAdapter(Router(Route("/a/*", app), Mount("/b", app)))
    environs = [Request(path_info=path).environ(strict=True) for path in (b"/a/x", b"/b/x")]
    kept = [dict(environ) for environ in environs]
    for environ in environs:
        adapter(environ, lambda status, headers, exc_info=None: None)
    assert seen[0] is environs[0]
    assert environs == kept
    assert seen[1] == {**environs[1], "SCRIPT_NAME": "/b", "PATH_INFO": "/x"}


def test_M61_all_applications_are_started_before_the_first_request() -> None:
    events: list[str] = []

    class App:
        def __init__(self, name: str, app: Any) -> None:
            self.__wrapped__ = app
            self._name = name

        def __call__(self, *arguments: Any) -> Any:
            events.append(f"{self._name} called")
            return self.__wrapped__(*arguments)

        async def startup(self) -> None:
            events.append(f"{self._name} started")

    pages, live = App("pages", wsgi_app), App("live", channels_app)
    adapter = WSGIAdapter(Router(Route("/live", live), default=pages))
    on_wsgi(adapter, "/a")
    on_wsgi(adapter, "/live")
    assert events == ["live started", "pages started", "pages called", "live called"]


def test_exception_of_a_routed_wsgi_application_is_raised_to_the_host_unchanged() -> None:
    def failing(environ: Any, start_response: Any) -> list[bytes]:
        raise OSError("of the application")

    with pytest.raises(OSError, match="of the application"):
        WSGIAdapter(Router(default=failing))(Request().environ(strict=True), lambda *arguments: None)


@pytest.mark.parametrize("adapter", [WSGIAdapter, ASGI3Adapter])
def test_M65_our_server_bypasses_an_adapter_around_a_router(adapter: Any) -> None:
    table = Router(Route("/live", channels_app), default=wsgi_app)
    assert isinstance(build_interface(adapter(table), Settings()), RouterInterface)
    assert not isinstance(build_interface(adapter(channels_app), Settings()), RouterInterface)


HTTP: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "query_string": b"",
    "root_path": "",
    "headers": [(b"host", b"example.org")],
    "client": ("127.0.0.1", 51234),
    "server": ("127.0.0.1", 8000),
}
WEBSOCKET: dict[str, Any] = {**HTTP, "type": "websocket", "scheme": "ws", "subprotocols": []}
del WEBSOCKET["method"]


class Host:
    """An ASGI host of one request or WebSocket, whose client sends one event, and disconnects after a message."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self._events = [*events]
        self._message_sent = asyncio.Event()
        self.sent: list[dict[str, Any]] = []

    async def receive(self) -> dict[str, Any]:
        if not self._events:
            await self._message_sent.wait()
            return {"type": "websocket.disconnect", "code": 1000}
        return self._events.pop(0)

    async def send(self, event: dict[str, Any]) -> None:
        self.sent.append(event)
        if event["type"] == "websocket.send":
            self._message_sent.set()


async def on_asgi(adapter: Any, path: str, root_path: str = "", **changes: Any) -> Any:
    """Return the response of an application of `KINDS` on an ASGI host, or its status."""
    host = Host({"type": "http.request"})
    scope = {**HTTP, "path": path, "raw_path": path.encode(), "root_path": root_path, **changes}
    await adapter(scope, host.receive, host.send)
    if host.sent[0]["status"] != 200:
        return host.sent[0]["status"]
    return json.loads(b"".join(event["body"] for event in host.sent[1:]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("root_path", "cut"), [("", False), ("/base", False), ("/base", True)])
async def test_M13_every_application_gets_its_path_and_root_path_on_an_asgi_host(
    kind: str, root_path: str, cut: bool
) -> None:
    app = KINDS[kind]
    adapter = ASGI3Adapter(Router(Route("/shop/*", app), Mount("/in", Router(Mount("/in", app)))))
    sent = "" if cut else root_path
    for path in ("/in/in", "/in/in/x"):
        assert await on_asgi(adapter, sent + path, root_path) == [kind, root_path + "/in/in", root_path + path]
    if not cut or kind not in ("asgi3", "asgi2"):
        # A Route passes on the host's scope, whatever its path is.
        assert await on_asgi(adapter, sent + "/shop/a", root_path) == [kind, root_path, root_path + "/shop/a"]


@pytest.mark.parametrize(("weight", "kind"), [(0, "asgi3"), (100, "wsgi")])
async def test_M36_shift_keeps_the_root_path_of_its_mount_on_an_asgi_host(weight: int, kind: str) -> None:
    shift = Shift(asgi3_app, wsgi_app, weight=weight)
    for app in (shift, Router(Mount("/shop", shift))):
        root_path = "/base" if app is shift else "/base/shop"
        adapter = ASGI3Adapter(app)
        assert await on_asgi(adapter, "/base/shop/cart", "/base") == [kind, root_path, "/base/shop/cart"]
        await adapter._interface.shutdown(0)


async def test_M10_an_unknown_path_on_an_asgi_host_gets_404() -> None:
    adapter = ASGI3Adapter(Router(Route("/a", asgi3_app, methods=("POST",))))
    assert await on_asgi(adapter, "/x") == 404
    assert await on_asgi(adapter, "/a") == 405
    assert await on_asgi(adapter, "/a", method="POST") == ["asgi3", "", "/a"]


async def test_M10_websocket_to_an_http_only_route_is_rejected_on_asgi_hosts() -> None:
    adapter = ASGI3Adapter(Router(Route("/a", asgi3_app, protocol="http")))
    for extensions, first in (({"websocket.http.response": {}}, 404), ({}, None)):
        host = Host({"type": "websocket.connect"})
        await adapter({**WEBSOCKET, "path": "/a", "extensions": extensions}, host.receive, host.send)
        assert host.sent[0].get("status") == first
        assert host.sent[0]["type"] == ("websocket.http.response.start" if first else "websocket.close")


async def test_M62_application_gets_the_receive_and_send_callables_of_the_host() -> None:
    seen: list[Any] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.extend((scope, receive, send))

    adapter = ASGI3Adapter(Router(Route("/a/*", app), Mount("/b", app)))
    host = Host()
    receive, send = host.receive, host.send
    scope = {**HTTP, "path": "/a/x"}
    kept = dict(scope)
    await adapter(scope, receive, send)
    assert seen == [scope, receive, send]
    await adapter({**scope, "path": "/b/x"}, receive, send)
    assert seen[3] == {**scope, "path": "/b/x", "root_path": "/b"}
    assert scope == kept


@pytest.mark.parametrize("app", [asgi3_app, channels_app])
async def test_M62_a_websocket_application_gets_the_root_path_of_its_mount(app: Any) -> None:
    adapter = ASGI3Adapter(Router(Mount("/live", app)))
    host = Host({"type": "websocket.connect"})
    await adapter({**WEBSOCKET, "path": "/live/x", "raw_path": b"/live/x"}, host.receive, host.send)
    assert [event["type"] for event in host.sent] == ["websocket.accept", "websocket.send"]
    assert json.loads(host.sent[1]["text"])[1:] == ["/live", "/live/x"]


async def test_M62_each_routed_application_has_its_own_lifespan_state() -> None:
    events: list[Any] = []

    def application(name: str) -> Any:
        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                events.append(scope["state"])
                await asgi3_app(scope, receive, send)
                return
            for stage in ("startup", "shutdown"):
                await receive()
                events.append(f"{name} {stage}")
                scope["state"]["name"] = name
                await send({"type": f"lifespan.{stage}.complete"})

        return app

    adapter = ASGI3Adapter(Router(Route("/1", application("one")), default=application("two")))
    shut_down = asyncio.Event()

    async def receive_lifespan() -> dict[str, Any]:
        if not sent:
            return {"type": "lifespan.startup"}
        await shut_down.wait()
        return {"type": "lifespan.shutdown"}

    sent: list[str] = []

    async def send_lifespan(event: dict[str, Any]) -> None:
        sent.append(event["type"])

    lifespan = asyncio.ensure_future(adapter({"type": "lifespan", "asgi": {}}, receive_lifespan, send_lifespan))
    await on_asgi(adapter, "/1")
    await on_asgi(adapter, "/2", state={"of": "the host"})
    shut_down.set()
    await lifespan
    assert events == [
        "one startup", "two startup", {"name": "one"}, {"name": "two"}, "two shutdown", "one shutdown",
    ]  # fmt: skip
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


async def test_M26_allowed_origins_protect_an_asgi_application_in_a_router() -> None:
    adapter = ASGI3Adapter(Router(default=asgi3_app), allowed_origins=["https://a.example"])
    headers = [(b"host", b"b.example"), (b"origin", b"https://b.example")]
    host = Host({"type": "websocket.connect"})
    await adapter({**WEBSOCKET, "path": "/a", "headers": headers}, host.receive, host.send)
    assert [event["type"] for event in host.sent] == ["websocket.close"]
