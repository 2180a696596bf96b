"""`Route` and `Mount` are checked when they are made: rules M2, M5, M6, M21, M34."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from uvicorn import ASGIAdapter
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
        ("/a*", "only at the end: '/prefix/*'"),
        ("/*/a", "only at the end: '/prefix/*'"),
        ("/a/*/*", "only at the end: '/prefix/*'"),
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
def test_M2_an_impossible_path_is_an_error_that_says_what_to_write(path: Any, advice: str) -> None:
    with pytest.raises(ConfigError, match=r"^Route\(") as caught:
        Route(path, pages)
    assert advice in str(caught.value)


@pytest.mark.parametrize("path", ["/", "/a", "/a/", "/a//b", "/.well-known/x", "/a/..b", "/é", "/*", "/a/*", "//*"])
def test_M2_any_other_path_is_a_route(path: str) -> None:
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
def test_M2_an_impossible_prefix_is_an_error_that_says_what_to_write(prefix: str, advice: str) -> None:
    with pytest.raises(ConfigError, match=r"^Mount\(") as caught:
        Mount(prefix, pages)
    assert advice in str(caught.value)


def test_arguments_of_starlettes_mount_are_an_error_that_names_it() -> None:
    with pytest.raises(ConfigError, match="Starlette's Mount"):
        Mount("/shop", routes=[])


@pytest.mark.parametrize("methods", ["GET", (), ("get",), ("GET ",), ("",), (b"GET",), (1,), 5])
def test_M5_methods_are_tokens_in_upper_case(methods: Any) -> None:
    with pytest.raises(ConfigError, match=r"Route\('/a'\): methods: expected names in upper case"):
        Route("/a", pages, methods=methods)


def test_M5_a_protocol_is_http_or_websocket() -> None:
    with pytest.raises(ConfigError, match="expected 'http' or 'websocket', got 'https'"):
        Route("/a", pages, protocol="https")


def test_M5_methods_of_a_websocket_are_an_error() -> None:
    with pytest.raises(ConfigError, match="takes no websocket"):
        Route("/a", live, protocol="websocket", methods=("GET",))


@pytest.mark.parametrize("host", ["", "*.example", "a.example:80", "a/b", "::1", "a..b", ".", 5])
def test_M6_a_host_is_a_name_without_port_and_wildcards(host: Any) -> None:
    with pytest.raises(ConfigError, match=r"Route\('/a'\): host: expected a name"):
        Route("/a", pages, host=host)


@pytest.mark.parametrize(
    ("host", "kept"), [("Shop.Example.", "shop.example"), ("[::1]", "[::1]"), ("127.0.0.1", "127.0.0.1")]
)
def test_M6_a_host_is_kept_in_lower_case_without_its_final_dot(host: str, kept: str) -> None:
    assert Route("/a", pages, host=host).host == kept


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_M21_threads_are_a_number_above_zero(threads: Any) -> None:
    with pytest.raises(ConfigError, match=r"Route\('/a'\): threads: expected a number"):
        Route("/a", pages, threads=threads)


@pytest.mark.parametrize("app", [live, consumer_coroutine])
def test_M21_threads_of_a_coroutine_function_are_an_error(app: Any) -> None:
    with pytest.raises(ConfigError, match="only WSGI applications and consumers that are plain functions"):
        Route("/a", app, threads=2)


@pytest.mark.parametrize("app", [pages, consumer])
def test_M21_applications_that_block_may_have_threads_of_their_own(app: Any) -> None:
    assert Route("/a", app, threads=2).threads == 2


def test_M21_threads_beside_those_of_an_adapter_are_an_error() -> None:
    with pytest.raises(ConfigError, match="ASGIAdapter has threads or an executor as well"):
        Route("/a", ASGIAdapter(pages, threads=3), threads=2)


@pytest.mark.parametrize("app", [None, "site.wsgi", 5, lambda: None])
def test_M34_what_is_no_application_is_an_error_that_names_the_entry(app: Any) -> None:
    with pytest.raises(ConfigError, match=r"^Route\('/a', methods=\('POST',\)\): "):
        Route("/a", app, methods=("POST",))


def test_M20_an_unknown_interface_is_an_error_that_names_the_entry() -> None:
    with pytest.raises(InterfaceError, match=r"^Mount\('/shop'\): interface: expected one of auto"):
        Mount("/shop", pages, interface="cgi")


def test_M20_an_application_that_does_not_fit_its_interface_is_an_error() -> None:
    with pytest.raises(InterfaceError, match=r"^Route\('/a'\): .* cannot be called as asgi3"):
        Route("/a", pages, interface="asgi3")


@pytest.mark.parametrize("name", ["", 5])
def test_a_name_is_text(name: Any) -> None:
    with pytest.raises(ConfigError, match="name: expected text"):
        Route("/a", pages, name=name)


def test_entries_are_immutable() -> None:
    entry: Any = Route("/a", pages)
    with pytest.raises(FrozenInstanceError):
        entry.path = "/b"


def test_an_entry_is_shown_as_it_is_written() -> None:
    entry = Route("/a/*", pages, host="a.example", protocol="http", methods=("POST",), name="shop")
    assert repr(entry) == "Route('/a/*', host='a.example', protocol='http', methods=('POST',))"
    assert str(entry) == "shop"
    assert str(Mount("/shop", pages)) == "/shop"
