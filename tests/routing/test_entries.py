"""`Route` and `Mount` are checked when they are made: rules M2, M5, M6, M21, M34."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from uvicorn import ASGIAdapter, Router, Shift
from uvicorn.errors import ConfigError, InterfaceError
from uvicorn.routing.entries import Mount, Route


def pages(environ: Any, start_response: Any) -> list[bytes]:
    return []


async def live(message: Any, channels: Any) -> None: ...


def consumer(message: Any) -> None: ...


async def consumer_coroutine(message: Any) -> None: ...


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("", "begins with '/'"),
        ("a", "begins with '/'"),
        (None, "begins with '/'"),
        ("/a*", "only at the end, as in '/prefix/*'"),
        ("/*/a", "only at the end, as in '/prefix/*'"),
        ("/a/*/*", "only at the end, as in '/prefix/*'"),
        ("/{name}", "write '/prefix/*'"),
        ("/<int:number>", "write '/prefix/*'"),
        ("/caf%C3%A9", "write the character itself"),
        ("/a?b", "has no query"),
        ("/a\n", "control characters"),
        ("/a\x85", "control characters"),
        ("/\ufffd", "valid Unicode"),
        ("/\udc80", "valid Unicode"),
        ("/a/../b", "segments"),
        ("/a/.", "segments"),
        ("/../*", "segments"),
    ],
)
def test_M2_error_for_an_invalid_route_path_explains_the_correct_form(path: Any, advice: str) -> None:
    with pytest.raises(ConfigError, match=r"^Route\(") as caught:
        Route(path, pages)
    assert advice in str(caught.value)


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a//b", "/.well-known/x", "/a/..b", "/é", "/*", "/a/*", "//*"])
def test_M2_a_route_accepts_every_path_that_a_request_can_have(path: str) -> None:
    assert Route(path, pages).path == path


@pytest.mark.parametrize(
    ("prefix", "advice"),
    [
        ("", "default=app"),
        ("/", "default=app"),
        ("/*", "default=app"),
        ("/shop/", "Mount('/shop', app)"),
        ("/shop/*", "without '*'"),
        ("shop", "begins with '/'"),
        ("/{name}", "write '/prefix/*'"),
    ],
)
def test_M2_error_for_an_invalid_mount_prefix_explains_the_correct_form(prefix: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=r"^Mount\(") as caught:
        Mount(prefix, pages)
    assert advice in str(caught.value)


def test_error_for_starlette_arguments_to_Mount_mentions_starlette() -> None:
    with pytest.raises(ConfigError, match="Starlette's Mount"):
        Mount("/shop", routes=[])


@pytest.mark.parametrize("methods", ["GET", (), ("get",), ("GET ",), ("",), (b"GET",), (1,), 5])
def test_M5_route_rejects_methods_that_are_not_upper_case_names(methods: Any) -> None:
    with pytest.raises(ConfigError, match=r"Route\('/a'\): methods: expected upper-case names"):
        Route("/a", pages, methods=methods)


def test_M5_route_rejects_a_protocol_other_than_http_and_websocket() -> None:
    with pytest.raises(ConfigError, match="expected 'http' or 'websocket', got 'https'"):
        Route("/a", pages, protocol="https")


def test_M5_websocket_route_with_methods_is_rejected() -> None:
    with pytest.raises(ConfigError, match="methods cannot be combined with protocol='websocket'"):
        Route("/a", live, protocol="websocket", methods=("GET",))


@pytest.mark.parametrize("host", ["", "*.example", "a.example:80", "a/b", "::1", "a..b", ".", 5])
def test_M6_route_rejects_a_host_with_a_port_or_a_wildcard(host: Any) -> None:
    with pytest.raises(ConfigError, match=r"Route\('/a'\): host: expected a name"):
        Route("/a", pages, host=host)


@pytest.mark.parametrize(
    ("host", "kept"), [("Shop.Example.", "shop.example"), ("[::1]", "[::1]"), ("127.0.0.1", "127.0.0.1")]
)
def test_M6_route_stores_its_host_in_lower_case_without_a_final_dot(host: str, kept: str) -> None:
    assert Route("/a", pages, host=host).host == kept


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_M21_route_rejects_a_threads_argument_other_than_a_positive_integer(threads: Any) -> None:
    with pytest.raises(ConfigError, match=r"Route\('/a'\): threads: expected a number"):
        Route("/a", pages, threads=threads)


@pytest.mark.parametrize("app", [live, consumer_coroutine])
def test_M21_route_rejects_threads_for_a_coroutine_function(app: Any) -> None:
    with pytest.raises(ConfigError, match="only WSGI applications and synchronous consumers"):
        Route("/a", app, threads=2)


@pytest.mark.parametrize("app", [pages, consumer])
def test_M21_a_route_accepts_threads_for_a_blocking_application(app: Any) -> None:
    assert Route("/a", app, threads=2).threads == 2


def test_M21_route_rejects_threads_if_its_adapter_already_has_threads() -> None:
    with pytest.raises(ConfigError, match="ASGIAdapter already sets threads or an executor"):
        Route("/a", ASGIAdapter(pages, threads=3), threads=2)


@pytest.mark.parametrize("app", [None, "site.wsgi", 5, lambda: None])
def test_M34_error_for_an_object_that_is_not_an_application_names_the_route(app: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Route\('/a', methods=\('POST',\)\): "):
        Route("/a", app, methods=("POST",))


def make_pages() -> Any:
    return pages


def unclear(one: Any, two: Any, three: Any) -> None: ...


@pytest.mark.parametrize(
    ("make", "where", "keyword"),
    [
        (lambda app: Mount("/shop", app), "Mount('/shop')", "interface=..."),
        (lambda app: Router(default=app), "Router(default=...)", "Route('/*', app, interface=...)"),
        (lambda app: Shift(app, pages), "Shift: old", "Router(Route('/*', app, interface=...))"),
    ],
)
def test_M34_error_for_an_undetectable_interface_shows_the_remedy(make: Any, where: str, keyword: str) -> None:
    named = f"name its kind by {keyword}: channels, consumer, wsgi, asgi3 or asgi2"
    start = f"{where}: cannot detect the interface of the application: it takes"
    for app, end in (
        (unclear, f" (one, two, three); {named}"),
        (make_pages, f" (); call it if it makes the application, or {named}"),
    ):
        with pytest.raises(InterfaceError) as caught:
            make(app)
        assert str(caught.value) == start + end


def test_M20_error_for_a_route_with_an_unknown_interface_names_the_route() -> None:
    with pytest.raises(InterfaceError, match=r"^Mount\('/shop'\): interface: expected one of auto"):
        Mount("/shop", pages, interface="cgi")


def test_M20_route_rejects_an_application_that_does_not_fit_its_interface() -> None:
    with pytest.raises(InterfaceError, match=r"^Route\('/a'\): .* does not fit interface 'asgi3'"):
        Route("/a", pages, interface="asgi3")


@pytest.mark.parametrize("name", ["", 5])
def test_route_rejects_a_name_that_is_not_text(name: Any) -> None:
    with pytest.raises(ConfigError, match="name: expected text"):
        Route("/a", pages, name=name)


def test_routes_and_mounts_are_immutable() -> None:
    entry: Any = Route("/a", pages)
    with pytest.raises(FrozenInstanceError):
        entry.path = "/b"


def test_repr_of_a_route_is_its_constructor_call() -> None:
    entry = Route("/a/*", pages, host="a.example", protocol="http", methods=("POST",), name="shop")
    assert repr(entry) == "Route('/a/*', host='a.example', protocol='http', methods=('POST',))"
    assert str(entry) == "shop"
    assert str(Mount("/shop", pages)) == "/shop"
