"""A Shift: the sides of requests, its place in a table, and its weight (rules M36 to M44)."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import Conversation, until
from tests.routing.apps import KINDS, asgi3_app, channels_app, wsgi_app
from tests.routing.test_interface import Living, answers, get
from tests.websocket_client import WebSocketConversation
from uvicorn import ASGI3Adapter, Mount, Route, Router, Shift, WSGIAdapter, client, cookie
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.errors import ConfigError, InterfaceError, StartupError
from uvicorn.interfaces.detect import build_interface
from uvicorn.routing.weight import is_new
from uvicorn.settings import Settings

#: Visitors whose share of the hash, with the name `*`, is below 50 percent, and not.
NEW = next(f"v{number}" for number in range(100) if is_new(50, "*", f"v{number}"))
OLD = next(f"v{number}" for number in range(100) if not is_new(50, "*", f"v{number}"))


async def sides(shift: Any, *requests: bytes, **settings: Any) -> list[str]:
    """The kinds of the applications that have answered."""
    return [answer[0] for answer in await answers(shift, *requests, **settings)]


async def test_M36_shift_without_a_weight_sends_every_request_to_the_old_application() -> None:
    assert await sides(Shift(wsgi_app, channels_app), get("/a"), get("/b")) == ["wsgi", "wsgi"]


async def test_M36_weight_100_sends_every_request_to_the_new_application() -> None:
    shift = Shift(wsgi_app, channels_app, weight=100, key=cookie("visitor"))
    assert await sides(shift, get("/a"), get("/b", b"cookie: visitor=1")) == ["channels", "channels"]


async def test_M36_the_old_application_is_started_at_weight_100() -> None:
    events: list[str] = []
    interface = build_interface(Shift(Living("old", events), Living("new", events), weight=100), Settings())
    await interface.startup()
    await interface.shutdown(1)
    assert events == ["old startup", "new startup", "new shutdown", "old shutdown"]


PLACES: dict[str, Callable[[Shift], Any]] = {
    "the whole site": lambda shift: shift,
    "a Route": lambda shift: Router(Route("/shop/*", shift)),
    "the default": lambda shift: Router(default=shift),
    "a nested Router": lambda shift: Router(Route("/*", Router(Route("/shop/*", shift)))),
    "the old side of a Shift": lambda shift: Shift(shift, asgi3_app),
    "groups around it": lambda shift: BroadcastMiddleware(shift, url="memory://"),
    "groups around the Router": lambda shift: BroadcastMiddleware(Router(Route("/shop/*", shift)), url="memory://"),
    "an adapter for WSGI hosts": WSGIAdapter,
    "an adapter for ASGI hosts": ASGI3Adapter,
    "an adapter in a table": lambda shift: Router(Route("/shop/*", ASGI3Adapter(shift))),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("weight", [0, 100])
async def test_M36_every_place_that_accepts_an_application_accepts_a_shift(place: str, weight: int) -> None:
    app = PLACES[place](Shift(wsgi_app, channels_app, weight=weight))
    kind = "channels" if weight else "wsgi"
    assert await answers(app, get("/shop/cart"), root_path="/base") == [[kind, "/base", "/base/shop/cart"]]


@pytest.mark.parametrize("kind", KINDS)
async def test_M37_both_applications_of_a_shift_get_the_root_path_of_the_mount(kind: str) -> None:
    app = KINDS[kind]
    table = Router(Mount("/old", Shift(app, channels_app)), Mount("/new", Shift(channels_app, app, weight=100)))
    assert await answers(table, get("/old/x"), get("/new/x"), root_path="/base") == [
        [kind, "/base/old", "/base/old/x"],
        [kind, "/base/new", "/base/new/x"],
    ]


async def test_M37_asgi_and_channels_applications_may_alternate_on_one_connection() -> None:
    shift = Shift(asgi3_app, channels_app, weight=50, key=cookie("v"))
    old, new = (get("/x", f"cookie: v={visitor}".encode()) for visitor in (OLD, NEW))
    assert await sides(shift, old, new, new, old, new) == ["asgi3", "channels", "channels", "asgi3", "channels"]


async def test_M37_the_old_and_the_new_application_may_be_routers() -> None:
    shift = Shift(Router(Mount("/a", wsgi_app)), Router(Route("/a/x", channels_app), default=asgi3_app), weight=100)
    assert await answers(Router(Mount("/in", shift)), get("/in/a/x"), get("/in/b")) == [
        ["channels", "/in", "/in/a/x"],
        ["asgi3", "/in", "/in/b"],
    ]


def test_M37_application_that_is_both_old_and_default_has_one_interface() -> None:
    def new_site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return wsgi_app(environ, start_response)

    interface = build_interface(Router(Route("/a", Shift(wsgi_app, new_site)), default=wsgi_app), Settings())
    shift, default = interface.interfaces.values()  # type: ignore[attr-defined]
    old, new = shift.interfaces.values()
    assert old is default
    assert new.executor is not default.executor


async def test_M37_application_used_by_two_shifts_is_started_once() -> None:
    events: list[str] = []
    old, one, two = Living("old", events), Living("one", events), Living("two", events)
    interface = build_interface(Router(Route("/1", Shift(old, one)), Route("/2", Shift(old, two))), Settings())
    await interface.startup()
    await interface.shutdown(1)
    assert events[:3] == ["old startup", "one startup", "two startup"] and len(events) == 6


async def test_M37_startup_error_of_a_shift_names_the_route_and_the_application() -> None:
    events: list[str] = []
    shift = Shift(Living("old", events), Living("new", events, fails="startup"))
    interface = build_interface(Router(Route("/search/*", shift)), Settings())
    with pytest.raises(StartupError, match=r"^Shift\('/search/\*'\): new: the application's startup failed$"):
        await interface.startup()


@pytest.mark.parametrize("weight", [-1, 100.5, float("nan"), True, "5", None])
def test_M41_a_weight_is_a_number_from_0_to_100(weight: Any) -> None:
    with pytest.raises(ConfigError, match="^Shift: weight: expected a number from 0 to 100, got "):
        Shift(wsgi_app, channels_app, weight=weight, key=client())


def test_M41_a_weight_between_0_and_100_needs_a_key() -> None:
    with pytest.raises(
        ConfigError, match=r"^Shift: weight: 0\.5 percent needs a key, such as key=cookie\('visitor'\)$"
    ):
        Shift(wsgi_app, channels_app, weight=0.5)


async def text_of(head: Any) -> str:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "visitor"}, "Shift: key: expected cookie(name), header(name), client() or a plain function"),
        ({"key": text_of}, "Shift: key: expected cookie(name), header(name), client() or a plain function"),
        ({"weight": text_of}, "Shift: weight: expected a number or a plain function"),
        ({"name": ""}, "Shift: name: expected text"),
        ({"new": 42}, "Shift: new: the application is not callable"),
        ({"old": lambda: None}, "Shift: old: cannot detect the interface"),
    ],
)
def test_M36_Shift_rejects_an_invalid_argument(changes: dict[str, Any], message: str) -> None:
    arguments = {"old": wsgi_app, "new": channels_app, **changes}
    with pytest.raises(ConfigError) as caught:
        Shift(arguments.pop("old"), arguments.pop("new"), **arguments)
    assert str(caught.value).startswith(message)


def test_M36_error_for_a_shift_called_as_wsgi_names_the_adapters() -> None:
    with pytest.raises(InterfaceError, match=r"WSGIAdapter\(shift\).*ASGI3Adapter\(shift\)"):
        Shift(wsgi_app, channels_app)({}, print)
    with pytest.raises(InterfaceError, match=r"does not fit interface 'wsgi': a Shift has two applications"):
        Route("/x", Shift(wsgi_app, channels_app), interface="wsgi")


@pytest.mark.parametrize("fields", [(), (b"cookie: other=1",), (b"cookie: v=",), (b"cookie: v",)])
async def test_M41_a_request_without_a_key_goes_to_the_old_application(fields: tuple[bytes, ...]) -> None:
    shift = Shift(wsgi_app, channels_app, weight=99.999, key=cookie("v"))
    assert await sides(shift, get("/x", *fields)) == ["wsgi"]


@pytest.mark.parametrize("key", [lambda head: 1 / 0, lambda head: 42])
async def test_M41_old_application_responds_when_the_key_function_fails(
    key: Any, caplog: pytest.LogCaptureFixture
) -> None:
    shift = Shift(wsgi_app, channels_app, weight=99.999, key=key)
    assert await sides(shift, get("/x"), get("/x")) == ["wsgi", "wsgi"]
    [record] = caplog.records
    assert record.getMessage().endswith(": the key function failed; the old application responds")


async def test_M42_only_shifts_with_equal_names_select_the_same_visitors() -> None:
    visitors = [f"visitor-{number}" for number in range(40)]
    moved = [visitor for visitor in visitors if is_new(50, "/a", visitor) != is_new(50, "/b", visitor)]
    requests = [get(path, f"cookie: v={visitor}".encode()) for visitor in moved for path in ("/a", "/b")]
    for name, expected in ((None, [False] * len(moved)), ("search", [True] * len(moved))):
        shift = Shift(asgi3_app, channels_app, weight=50, key=cookie("v"), name=name)
        found = await sides(Router(Route("/a", shift), Route("/b", shift)), *requests)
        assert [one == other for one, other in zip(found[::2], found[1::2], strict=True)] == expected


async def test_M43_weight_function_runs_on_a_pool_thread_after_startup() -> None:
    threads: list[Any] = []

    def weight() -> float:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            threads.append("a pool thread")
        return 100

    shift = Shift(asgi3_app, channels_app, weight=weight)
    conversation = Conversation(BroadcastMiddleware(Router(Route("/x", shift), Route("/y", shift)), url="memory://"))
    conversation.send(get("/x"))
    await until(lambda: len(conversation.responses()) == 1)
    await conversation.interface.startup()
    await until(lambda: threads)
    kept = shift._function
    assert kept is not None
    await until(lambda: kept.weight == 100)
    conversation.send(get("/x"))
    await until(lambda: len(conversation.responses()) == 2)
    await conversation.interface.shutdown(0)
    assert [json.loads(response.content)[0] for response in conversation.responses()] == ["asgi3", "channels"]
    assert threads[0] == "a pool thread"


async def test_M43_weight_function_is_called_repeatedly_until_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvicorn.routing.weight._PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("uvicorn.routing.weight._CALL_SECONDS", 0.0)
    calls: list[int] = []

    def weight() -> float:
        calls.append(1)
        return 100

    interface = build_interface(Router(default=Shift(asgi3_app, channels_app, weight=weight)), Settings())
    await interface.startup()
    await until(lambda: len(calls) > 2)
    [shift] = interface.interfaces.values()  # type: ignore[attr-defined]
    timer = shift._timer
    await interface.shutdown(0)
    assert shift._timer is None and timer._handle.cancelled()


async def test_M43_shift_calls_its_weight_function_without_an_asyncio_task() -> None:
    called = threading.Event()

    def weight() -> float:
        called.set()
        return 0

    interface = build_interface(Shift(wsgi_app, channels_app, weight=weight), Settings())
    tasks = asyncio.all_tasks()
    await interface.startup()
    await until(called.is_set)
    added = asyncio.all_tasks() - tasks
    await interface.shutdown(0)
    assert added == set()


@pytest.mark.parametrize(("visitor", "kind"), [(NEW, "channels"), (OLD, "asgi3")])
async def test_M44_key_of_a_websocket_handshake_selects_the_application(visitor: str, kind: str) -> None:
    shift = Shift(asgi3_app, channels_app, weight=50, key=lambda head: head.path[1:])
    conversation = WebSocketConversation(shift, path=f"/{visitor}")
    await conversation.open()
    assert json.loads(conversation.heard[0])[0] == kind
    await conversation.lose()


async def test_M44_handshake_for_an_old_wsgi_application_is_served_as_a_GET_request() -> None:
    conversation = WebSocketConversation(Shift(wsgi_app, channels_app), path="/live")
    await conversation.open()
    assert conversation.response is not None and conversation.response.status_code == 200
    await conversation.interface.shutdown(0)
