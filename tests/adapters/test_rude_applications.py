"""WSGI applications that fail, exit or never end, on our server: each ends only its own request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.adapters.hosts import Host, hosted
from tests.adapters.wire import ask, connect, head_of

ERRORS = ["ValueError", "SystemExit", "KeyboardInterrupt"]


@pytest.fixture(scope="module", params=["rude", "rude_below_channels"])
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with hosted("uvicorn", f"tests.adapters.hosted_apps:{request.param}") as host:
        yield host


@pytest.mark.parametrize("error", ERRORS)
def test_exception_before_the_response_gives_500(host: Host, error: str) -> None:
    assert ask(host.port, f"/{error}-before").status == 500


@pytest.mark.parametrize("when", ["midway", "after"])
@pytest.mark.parametrize("error", ERRORS)
def test_iterable_is_closed_if_the_application_raises_during_the_response(host: Host, error: str, when: str) -> None:
    ask(host.port, f"/{error}-{when}?{error}-{when}")
    host.wait_for_line(f"{error}-{when} ended")


@pytest.mark.parametrize("error", ERRORS)
def test_a_response_that_fails_midway_does_not_look_complete(host: Host, error: str) -> None:
    assert not ask(host.port, f"/{error}-midway").complete


@pytest.mark.parametrize("when", ["before", "midway", "after"])
@pytest.mark.parametrize("error", ERRORS)
def test_host_process_survives_an_application_that_exits(host: Host, error: str, when: str) -> None:
    pid = ask(host.port, "/").content
    # More often than there are threads.
    for _ in range(20):
        ask(host.port, f"/{error}-{when}")
    assert ask(host.port, "/").content == pid


@pytest.mark.parametrize("error", ERRORS)
def test_streamed_response_continues_if_the_application_exits_in_another_request(host: Host, error: str) -> None:
    with connect(host.port) as streaming:
        streaming.sendall(head_of("GET", f"/endless?beside-{error}"))
        streaming.recv(1000)
        ask(host.port, f"/{error}-before")
        ask(host.port, f"/{error}-midway")
        # More than may have been under way.
        left = 10_000_000
        while left > 0 and (piece := streaming.recv(1 << 20)):
            left -= len(piece)
        assert left <= 0


def test_C10_disconnect_ends_an_endless_response(host: Host) -> None:
    with connect(host.port) as connection:
        connection.sendall(head_of("GET", "/endless?left"))
        connection.recv(1000)
    host.wait_for_line("left ended")
