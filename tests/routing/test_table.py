"""Which entry takes a request: rules M1, M3, M4, M7 to M9."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from tests.routing.model import compare
from uvicorn.errors import ConfigError
from uvicorn.routing.entries import Entry, Mount, Route
from uvicorn.routing.table import Table


def application(environ: Any, start_response: Any) -> list[bytes]:
    return []


def route(path: str, **keywords: Any) -> Route:
    return Route(path, application, **keywords)


def find(
    *entries: Entry, path: str, host: str = "", protocol: str = "http", method: str = "GET", default: Any = None
) -> Entry | None:
    """The entry of a table that takes a request; the same in whatever order the entries are written."""
    found = {Table(order, default).find(path, host, protocol, method) for order in permutations(entries)}
    assert len(found) == 1
    return found.pop()


@pytest.mark.parametrize("path", ["//x", "/./x", "/x/", "/X", "/x//", "/%78"])
def test_M1_paths_are_compared_without_normalising_them(path: str) -> None:
    assert find(route("/x"), path=path) is None


@pytest.mark.parametrize(("path", "taken"), [("/a/b", True), ("/a/b/", False), ("/a/b/c", False), ("/a", False)])
def test_M2_route_without_a_star_matches_exactly_one_path(path: str, taken: bool) -> None:
    assert (find(route("/a/b"), path=path) is not None) is taken


@pytest.mark.parametrize(
    ("path", "taken"),
    [("/a/b", True), ("/a/b/", True), ("/a/b/c", True), ("/a/b//", True), ("/a/bc", False), ("/a", False), ("", False)],
)
@pytest.mark.parametrize("entry", [route("/a/b/*"), Mount("/a/b", application)], ids=["route", "mount"])
def test_M2_prefix_route_and_mount_match_whole_path_segments(entry: Entry, path: str, taken: bool) -> None:
    assert (find(entry, path=path) is not None) is taken


def test_M3_order_of_the_routes_does_not_change_the_chosen_route() -> None:
    entries = [
        route("/*", host="a.example"),
        route("/a"),
        route("/a/*"),
        Mount("/a/b", application),
        route("/a", protocol="http"),
    ]
    for path, host, expected in (
        ("/a", "a.example", 0),
        ("/a", "", 4),
        ("/a/", "", 2),
        ("/a/b", "", 3),
        ("/a/b/c", "", 3),
    ):
        assert find(*entries, path=path, host=host) is entries[expected], (path, host)


def test_M3_route_with_a_protocol_has_priority_over_a_route_with_methods() -> None:
    by_protocol, by_methods, neither = route("/a", protocol="http"), route("/a", methods=("GET",)), route("/a")
    assert find(by_protocol, by_methods, neither, path="/a") is by_protocol


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (route("/a"), route("/a")),
        (route("/a/*"), Mount("/a", application)),
        (route("/a", host="X.example"), route("/a", host="x.example.")),
        (route("/a", protocol="http"), route("/a", protocol="http")),
        (route("/a", methods=("GET", "POST")), route("/a", methods=("POST", "PUT"))),
        (route("/a", methods=("GET",)), route("/a", methods=("HEAD",))),
    ],
)
def test_M3_error_for_conflicting_routes_shows_both_routes(one: Entry, other: Entry) -> None:
    with pytest.raises(ConfigError) as caught:
        Table([one, other])
    assert repr(one) in str(caught.value) and repr(other) in str(caught.value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (route("/a"), route("/a/*")),
        (route("/a"), route("/a/")),
        (route("/a"), route("/a", host="a.example")),
        (route("/a", protocol="http"), route("/a", protocol="websocket")),
        (route("/a", methods=("GET",)), route("/a", methods=("POST",))),
        (route("/a"), route("/a", methods=("GET",))),
    ],
)
def test_M3_routes_that_differ_in_path_host_protocol_or_methods_are_accepted(one: Entry, other: Entry) -> None:
    assert Table([one, other])


def test_M4_route_that_does_not_match_the_method_is_skipped() -> None:
    new, old = route("/a", methods=("GET",)), route("/*")
    assert find(new, old, path="/a", method="POST") is old
    assert find(new, old, path="/a", method="GET") is new


def test_M4_route_for_a_different_protocol_is_skipped() -> None:
    live, old = route("/a", protocol="websocket"), route("/*")
    assert find(live, old, path="/a") is old
    assert find(live, old, path="/a", protocol="websocket") is live


def test_M4_allowed_methods_include_the_methods_of_every_route_for_the_path() -> None:
    table = Table(
        [
            route("/a", methods=("POST",)),
            route("/a/*", methods=("GET",)),
            route("/a", host="x", methods=("PATCH",)),
            route("/a", protocol="websocket"),
            route("/b", methods=("DELETE",)),
        ]
    )
    assert table.allowed_methods("/a", "x") == {"POST", "GET", "HEAD", "PATCH"}
    assert table.allowed_methods("/a", "") == {"POST", "GET", "HEAD"}
    assert table.allowed_methods("/a/c", "") == {"GET", "HEAD"}
    assert table.allowed_methods("/c", "x") == frozenset()


def test_M4_default_matches_every_method_and_path() -> None:
    default = route("/*")
    entry = route("/a", methods=("GET",))
    assert find(entry, path="/a", method="POST", default=default) is default
    assert find(entry, path="/c", method="POST", default=default) is default


def test_M5_route_for_GET_matches_HEAD_but_not_a_websocket() -> None:
    entry = route("/a", methods=("GET",))
    assert find(entry, path="/a", method="HEAD") is entry
    assert find(entry, path="/a", protocol="websocket") is None


def test_M7_handshake_prefers_a_route_for_websockets() -> None:
    websocket, both, http = route("/a", protocol="websocket"), route("/a"), route("/a", protocol="http")
    assert find(websocket, both, http, path="/a", protocol="websocket") is websocket
    assert find(both, http, path="/a", protocol="websocket") is both


@pytest.mark.parametrize("path", ["/" * 8000, "/a" + "/" * 8000, "/a/b/c" * 1000, "a" * 8000])
def test_M8_search_in_254_routes_needs_at_most_ten_path_comparisons(path: str) -> None:
    compared: list[str] = []

    class Counting(str):
        __slots__ = ()

        def __lt__(self, other: str) -> bool:
            compared.append(other)
            return super().__lt__(other)

        def __getattribute__(self, name: str) -> Any:
            raise AssertionError("the path is compared and not read")

    table = Table([Mount("/a/b/c", application), *(route(f"/{number}/*") for number in range(252)), route("/d")])
    table.find(Counting(path), "", "http", "GET")
    # Each of the 254 entries has at most four bounds.
    assert len(compared) <= 10
    assert max(map(len, compared)) <= len("/a/b/c/")


def test_M9_request_in_asterisk_form_matches_only_the_default() -> None:
    default = route("/*")
    assert find(route("/*"), path="*", method="OPTIONS") is None
    assert find(route("/*"), path="*", method="OPTIONS", default=default) is default


def test_M15_empty_path_is_matched_by_the_root_wildcard_and_the_default() -> None:
    everything, default = route("/*"), route("/*")
    assert find(route("/"), path="") is None
    assert find(route("/"), everything, path="") is everything
    assert find(route("/"), path="", default=default) is default


def test_M33_routing_table_finds_the_same_route_as_a_naive_implementation() -> None:
    # A million: `python -m tests.routing.model 1000000`.
    assert compare(seed=17, tables=50, requests=1000) > 25000
