"""`Endpoint` by itself."""

from __future__ import annotations

from contextvars import copy_context

import pytest

from uvicorn import forks
from uvicorn.core.endpoint import Endpoint, is_below


def test_endpoint_detects_a_fork_after_its_creation(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint()
    assert not endpoint.is_parents
    monkeypatch.setattr(forks, "forks", forks.forks + 1)
    assert endpoint.is_parents


@pytest.mark.parametrize(
    ("path", "below"), [("/app", True), ("/app/", True), ("/app/x", True), ("/apple", False), ("/", False)]
)
def test_root_path_matches_only_whole_segments_of_a_path(path: str, below: bool) -> None:
    assert is_below(path, "/app") is below


@pytest.mark.parametrize(
    ("root_path_cut", "path", "cut"),
    [("auto", "/x", True), ("auto", "/app/x", False), ("yes", "/app/x", True), ("no", "/x", False)],
)
def test_endpoint_detects_whether_the_proxy_removed_the_root_path(root_path_cut: str, path: str, cut: bool) -> None:
    assert Endpoint(root_path="/app", root_path_cut=root_path_cut).is_cut(path) is cut


def test_second_request_to_a_route_reuses_the_nested_endpoint() -> None:
    endpoint = Endpoint("https", "/base", ("s", 1), ("c", 2))
    endpoint.template = {"of": "another application"}
    seen = endpoint.seen_by("/shop", "/base/shop")
    assert endpoint.seen_by("/shop", "/base/shop") is seen
    assert (seen.scheme, seen.root_path, seen.server, seen.client) == ("https", "/base/shop", ("s", 1), ("c", 2))
    assert seen.template is None and seen.environ_template is None


@pytest.mark.parametrize(("entry", "root_path"), [("/cart", "/base/shop"), ("/shop", "/shop")])
def test_new_route_or_root_path_replaces_the_nested_endpoint(entry: str, root_path: str) -> None:
    endpoint = Endpoint()
    seen = endpoint.seen_by("/shop", "/base/shop")
    seen.context = copy_context()
    assert endpoint.seen_by(entry, root_path) is not seen
    assert seen.context is None


def test_releasing_an_endpoint_also_releases_its_nested_endpoints() -> None:
    endpoint = Endpoint()
    inner = endpoint.seen_by("/shop", "/shop").seen_by("/cart", "/shop")
    endpoint.context = inner.context = copy_context()
    endpoint.release()
    assert endpoint.context is None and inner.context is None


def test_endpoint_lists_the_routes_of_a_request_in_order() -> None:
    assert Endpoint().via == ""
    assert Endpoint().seen_by("/shop", "").seen_by("", "").seen_by("cart", "").via == " via /shop via cart"
