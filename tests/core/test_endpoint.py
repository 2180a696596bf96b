"""`Endpoint` by itself."""

from __future__ import annotations

import pytest

from uvicorn import forks
from uvicorn.core.endpoint import Endpoint, is_below


def test_endpoint_belongs_to_the_parent_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint()
    assert not endpoint.is_parents
    monkeypatch.setattr(forks, "forks", forks.forks + 1)
    assert endpoint.is_parents


@pytest.mark.parametrize(
    ("path", "below"), [("/app", True), ("/app/", True), ("/app/x", True), ("/apple", False), ("/", False)]
)
def test_path_is_below_a_root_path_by_whole_segments(path: str, below: bool) -> None:
    assert is_below(path, "/app") is below


@pytest.mark.parametrize(
    ("root_path_cut", "path", "cut"),
    [("auto", "/x", True), ("auto", "/app/x", False), ("yes", "/app/x", True), ("no", "/x", False)],
)
def test_root_path_is_added_to_targets_that_a_proxy_has_cut(root_path_cut: str, path: str, cut: bool) -> None:
    assert Endpoint(root_path="/app", root_path_cut=root_path_cut).is_cut(path) is cut
