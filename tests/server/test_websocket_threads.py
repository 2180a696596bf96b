"""`WebSocketThreads` by itself; tests/interfaces/test_takeover.py has it in a server."""

from __future__ import annotations

import resource

import pytest

from uvicorn.keywords import build_settings
from uvicorn.server.websocket_threads import WebSocketThreads


@pytest.mark.parametrize(
    ("threads", "threads_per_client", "ws_threads", "most"),
    [(16, 0, 5, 5), (16, 4, 200, 50), (16, 1, 2, 1), (4, 4, 5, 5), (4, 8, 5, 5)],
)
def test_W6_websocket_thread_limit_of_a_client_is_in_proportion_to_ws_threads(
    threads: int, threads_per_client: int, ws_threads: int, most: int
) -> None:
    counted = WebSocketThreads(
        build_settings({"threads": threads, "threads_per_client": threads_per_client, "ws_threads": ws_threads})
    )
    while not counted.refusal("192.0.2.1"):
        counted.begin("192.0.2.1")
    assert counted.count == most
    assert bool(counted.refusal("192.0.2.2")) is (most == ws_threads)


def test_W6_ended_websocket_thread_does_not_count_towards_the_limit_of_its_client() -> None:
    counted = WebSocketThreads(build_settings({"threads": 2, "threads_per_client": 1, "ws_threads": 2}))
    end = counted.begin("192.0.2.1")
    assert counted.refusal("192.0.2.1").startswith("1 threads already serve WebSockets of this client (503)")
    end()
    assert (counted.refusal("192.0.2.1"), counted.count) == ("", 0)


def test_W6_client_with_an_unknown_address_has_no_limit_of_websocket_threads() -> None:
    counted = WebSocketThreads(build_settings({"threads": 2, "threads_per_client": 1, "ws_threads": 2}))
    counted.begin("")
    assert not counted.refusal("")


@pytest.mark.parametrize(("limit", "is_logged"), [(849, True), (850, False), (-1, False)])
def test_W6_low_descriptor_limit_is_logged_once_at_the_first_websocket(
    limit: int, is_logged: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
    counted = WebSocketThreads(build_settings({}))
    assert caplog.messages == []
    counted.begin("")
    counted.begin("")
    expected = [
        "200 WebSockets of WSGI applications may need 850 descriptors, but the limit is 849; "
        "raise the limit (ulimit -n), or lower --ws-threads"
    ]
    assert caplog.messages == (expected if is_logged else [])
