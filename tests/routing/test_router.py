"""`Router` itself: rules M11, M15, M20, M24, M25, M34."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.helpers import Conversation, hello, settle
from tests.routing.apps import asgi3_app, channels_app, wsgi_app
from tests.websocket_client import WebSocketConversation
from uvicorn import ASGI3Adapter, ASGIAdapter, Config, Mount, Route, Router, WSGIAdapter
from uvicorn.errors import ConfigError, InterfaceError
from uvicorn.interfaces.detect import build_interface


def test_M11_router_finds_a_route_by_path_method_protocol_and_host() -> None:
    live = Route("/live", channels_app, protocol="websocket")
    form = Route("/form", channels_app, methods=("POST",), host="Shop.Example")
    table = Router(live, form)
    assert table.find("/live", protocol="websocket") is live
    assert table.find("/live") is None
    assert table.find("/form", method="POST", host="shop.example:80") is form
    assert table.find("/form", method="POST") is None


def test_M11_router_finds_the_default_for_an_unknown_path() -> None:
    found = Router(default=wsgi_app).find("/x")
    assert found is not None and found.app is wsgi_app


@pytest.mark.parametrize("entry", [wsgi_app, "/path", ("/path", wsgi_app), None])
def test_M34_router_rejects_an_argument_that_is_no_route_or_mount(entry: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Router: expected Route\(...\) or Mount\(...\)"):
        Router(entry)


def test_M34_a_router_rejects_a_default_that_is_not_an_application() -> None:
    with pytest.raises(ConfigError, match=r"^Router\(default=...\): "):
        Router(default="site.wsgi")


def test_M3_router_rejects_conflicting_routes() -> None:
    with pytest.raises(ConfigError, match="take the same requests"):
        Router(Route("/a", wsgi_app), Route("/a", channels_app))


@pytest.mark.parametrize(
    "arguments", [({}, lambda *arguments: None), ({"type": "http"}, None, None), ({"type": "http"},), ()]
)
def test_M24_error_for_a_router_called_as_wsgi_or_asgi_names_the_adapters(arguments: Any) -> None:
    with pytest.raises(InterfaceError) as caught:
        _ = Router(default=wsgi_app)(*arguments)
    for name in ("WSGIAdapter(router)", "ASGI3Adapter(router)", "-k uvicorn.workers.UvicornWorker"):
        assert name in str(caught.value)


@pytest.mark.parametrize("interface", ["wsgi", "asgi3", "asgi2", "channels", "consumer"])
def test_M24_the_interface_option_is_rejected_for_a_router(interface: Any) -> None:
    with pytest.raises(InterfaceError, match=r"WSGIAdapter\(router\)"):
        Config(Router(default=wsgi_app), interface=interface, log_config=None).load()


def test_M24_asgi_adapter_rejects_a_router() -> None:
    with pytest.raises(InterfaceError, match=r"WSGIAdapter\(router\)"):
        ASGIAdapter(Router(default=wsgi_app))


class Middleware:
    """Middleware of the channels kind."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, message: dict[str, Any], channels: dict[str, Any]) -> None:
        await self._app(message, channels)


async def test_M24_channels_middleware_may_wrap_a_router() -> None:
    table = Router(Mount("/shop", Router(Route("/cart", channels_app))), Route("/only", hello, methods=("POST",)))
    conversation = Conversation(Middleware(table), root_path="/base")
    for path in (b"/shop/cart", b"/x", b"/only"):
        conversation.send(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        await settle()
    assert [response.content for response in conversation.responses()] == [
        b'["channels", "/base/shop", "/base/shop/cart"]',
        b"Not Found\n",
        b"Method Not Allowed\n",
    ]
    await conversation.lose()


async def test_M24_application_behind_middleware_gets_every_event_of_its_websocket() -> None:
    events: list[str] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        events.append(message["channel"])

    conversation = WebSocketConversation(Middleware(Router(Route("/chat", app, protocol="websocket"))), path="/chat")
    await conversation.open()
    await conversation.say("hello")
    await conversation.lose()
    assert events == ["websocket.connect", "websocket.receive", "websocket.disconnect"]


async def test_M24_asgi_route_behind_channels_middleware_gives_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    conversation = Conversation(Middleware(Router(Route("/page", asgi3_app))))
    conversation.send(b"GET /page HTTP/1.1\r\nhost: x\r\n\r\n")
    await settle()
    assert conversation.statuses == [500]
    assert "channels middleware cannot call Route('/page')" in caplog.text
    await conversation.lose()


async def test_M24_router_drops_a_websocket_event_before_the_connect_event() -> None:
    class Reply: ...

    await Router(default=hello)({"channel": "websocket.receive", "path": "/"}, {"reply": Reply()})


async def test_M24_interface_argument_of_a_route_applies_behind_channels_middleware() -> None:
    def returns_a_coroutine(*arguments: Any) -> Any:
        return hello(*arguments)

    table = Router(Route("/a", returns_a_coroutine, interface="channels"), Route("/b", WithoutSignature()))
    conversation = Conversation(Middleware(table))
    for path in (b"/a", b"/b"):
        conversation.send(b"GET " + path + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        await settle()
    assert conversation.statuses == [200, 500]
    await conversation.lose()


class WithoutSignature:
    """What can be called, and is of no kind that a channels application could pass on to."""

    def __uvicorn_interface__(self, settings: Any) -> Any:
        return build_interface(wsgi_app, settings)

    def __call__(self, *arguments: Any) -> Any: ...


async def test_M11_httpx_can_call_a_router_through_an_adapter() -> None:
    table = Router(Mount("/shop", asgi3_app), Route("/live", channels_app), default=wsgi_app)
    app: Any = ASGI3Adapter(table)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://site.example") as client:
        for path, kind in (("/shop/cart", "asgi3"), ("/live", "channels"), ("/page", "wsgi")):
            assert (await client.get(path)).json()[0] == kind


def test_M25_mapped_method_of_a_router_wraps_each_application_once() -> None:
    wrapped: list[Any] = []

    def wrap(app: Any) -> Any:
        wrapped.append(app)
        return Middleware(app) if app is channels_app else lambda environ, start_response: app(environ, start_response)

    inner = Router(Route("/a", channels_app))
    table = Router(
        Mount("/in", inner), Route("/b", ASGIAdapter(wsgi_app, threads=3)), Route("/c", channels_app), default=wsgi_app
    )
    mapped = table.mapped(wrap)
    assert wrapped == [channels_app, wsgi_app]
    assert [entry.path for entry in mapped.entries] == ["/in", "/b", "/c"]
    nested, adapter, plain = (entry.app for entry in mapped.entries)
    assert nested.entries[0].app is plain
    assert type(adapter) is ASGIAdapter and adapter.app is mapped.default
    assert table.entries[0].app is inner, "the first table is as it was"


def test_repr_of_a_router_has_its_routes() -> None:
    assert repr(Router(Route("/a", channels_app))) == "Router(Route('/a'))"


@pytest.mark.parametrize("adapter", [WSGIAdapter, ASGI3Adapter])
def test_M61_WSGIAdapter_and_ASGI3Adapter_accept_a_router(adapter: Any) -> None:
    assert adapter(Router(Route("/a", channels_app), default=wsgi_app))


async def test_startup_and_shutdown_hooks_run_once_behind_middleware() -> None:
    events: list[str] = []

    class App:
        async def __call__(self, message: Any, channels: Any) -> None: ...

        async def startup(self) -> None:
            events.append("startup")

        async def shutdown(self) -> None:
            events.append("shutdown")

    app = App()
    table = Router(Route("/a", app), Mount("/in", Router(Route("/b", app))), default=hello)
    await table.startup()
    await table.shutdown()
    assert events == ["startup", "shutdown"]


async def test_failed_router_startup_shuts_down_the_applications_that_have_started() -> None:
    events: list[str] = []

    class App:
        def __init__(self, fails: bool) -> None:
            self._fails = fails

        async def __call__(self, message: Any, channels: Any) -> None: ...

        async def startup(self) -> None:
            events.append("startup")
            if self._fails:
                raise OSError

        async def shutdown(self) -> None:
            events.append("shutdown")

    with pytest.raises(OSError):
        await Router(Route("/a", App(False)), Route("/b", App(True))).startup()
    assert events == ["startup", "startup", "shutdown"]
