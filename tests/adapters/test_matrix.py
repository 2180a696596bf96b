"""Every kind of application on every kind of host, and the table in docs/adapters.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_websocket

from tests.adapters.hosts import Host, hosted
from tests.adapters.matrix_apps import PIECES, STARTED, digest
from tests.adapters.wire import ask, connect, head_of
from tests.waits import LONGEST_WAIT

KINDS: Final = ("channels", "consumer", "wsgi", "asgi3")

#: What stands for each kind of host here.
HOSTS: Final = {"server": "uvicorn", "channels": "uvicorn", "wsgi": "gunicorn gthread", "asgi3": "hypercorn"}

HOST_NAMES: Final = {
    "server": "our server",
    "channels": "a channels host",
    "wsgi": "a WSGI host",
    "asgi3": "an ASGI host",
}
APP_NAMES: Final = {"channels": "channels", "consumer": "consumer", "wsgi": "WSGI", "asgi3": "ASGI"}

ADAPTERS: Final = {
    ("channels", "consumer"): "`ASGIAdapter(app, interface='consumer')`",
    ("channels", "wsgi"): "`ASGIAdapter(app)`",
    ("channels", "asgi3"): "`ASGIAdapter(app, interface='asgi3')`",
    **{("wsgi", kind): "`WSGIAdapter(app)`" for kind in ("channels", "consumer", "asgi3")},
    **{("asgi3", kind): "`ASGI3Adapter(app)`" for kind in ("channels", "consumer", "wsgi")},
}

CELLS: Final = [(host, kind) for kind in KINDS for host in HOSTS]

#: Consumers and WSGI applications know no websockets, WSGI hosts carry none, and `ASGIAdapter` refuses them.
WITH_WEBSOCKET: Final = [
    cell for cell in CELLS if cell[1] in ("channels", "asgi3") and cell[0] != "wsgi" and cell != ("channels", "asgi3")
]

#: WSGI applications have neither startup nor shutdown.
WITH_LIFESPAN: Final = [cell for cell in CELLS if cell[1] != "wsgi"]

#: Nothing of ours is in these: hypercorn and gunicorn serve what they know.
FOREIGN: Final = [("wsgi", "wsgi"), ("asgi3", "asgi3")]
OURS: Final = [cell for cell in CELLS if cell not in FOREIGN]

UPLOAD: Final = bytes(range(256)) * 2048


def name(cell: tuple[str, str]) -> str:
    return f"{cell[1]} on {cell[0]}"


@pytest.fixture(scope="module", params=CELLS, ids=name)
def cell(request: pytest.FixtureRequest) -> Iterator[Host]:
    host, kind = request.param
    with hosted(HOSTS[host], f"tests.adapters.matrix_apps:{kind}_on_{host}") as running:
        yield running


def only(cells: list[tuple[str, str]]) -> pytest.MarkDecorator:
    """Run the test for these cells only."""
    return pytest.mark.parametrize("cell", cells, indirect=True, ids=name)


def test_every_kind_of_application_answers_GET_on_every_host(cell: Host) -> None:
    answer = ask(cell.port, "/get")
    assert (answer.status, answer.content) == (200, b"got")


@only(OURS)
def test_complete_response_has_a_content_length_for_every_application(cell: Host) -> None:
    assert ask(cell.port, "/get").values("content-length") == ["3"]


def test_upload_arrives_complete_for_every_application_and_host(cell: Host) -> None:
    answer = ask(cell.port, "/upload", method="POST", content=UPLOAD)
    assert (answer.status, answer.content) == (200, digest(UPLOAD))


def test_chunked_upload_arrives_complete_for_every_application_and_host(cell: Host) -> None:
    answer = ask(cell.port, "/upload", method="POST", chunks=[UPLOAD[:7], UPLOAD[7:]])
    assert (answer.status, answer.content) == (200, digest(UPLOAD))


def test_streamed_response_arrives_for_every_application_and_host(cell: Host) -> None:
    answer = ask(cell.port, "/streamed")
    assert (answer.status, answer.content, answer.complete) == (200, b"".join(PIECES), True)


def test_response_to_HEAD_has_no_content_on_any_host(cell: Host) -> None:
    answer = ask(cell.port, "/get", method="HEAD")
    assert (answer.status, answer.content) == (200, b"")


@only(OURS)
def test_client_disconnect_ends_an_endless_response_on_every_host(cell: Host) -> None:
    with connect(cell.port) as connection:
        connection.sendall(head_of("GET", "/endless"))
        while b"still here" not in connection.recv(65536):
            pass
    cell.wait_for_line("the endless response has ended")


def test_exception_gives_500_for_every_application_and_host(cell: Host) -> None:
    assert ask(cell.port, "/error").status == 500
    assert ask(cell.port, "/get").status == 200


def test_response_that_fails_midway_never_looks_complete_on_any_host(cell: Host) -> None:
    assert not ask(cell.port, "/midway").complete


@only(WITH_WEBSOCKET)
def test_websocket_is_served_if_application_and_host_support_websockets(cell: Host) -> None:
    with open_websocket(f"ws://127.0.0.1:{cell.port}/", open_timeout=LONGEST_WAIT) as websocket:
        for message in ("text", b"\x00\xff", "x" * 100000):
            websocket.send(message)
            assert websocket.recv(LONGEST_WAIT) == message
    # hypercorn reports 1006, whatever code the client has sent.
    cell.wait_for_line("the websocket has ended with")


@only([cell for cell in CELLS if cell[0] in ("channels", "asgi3") and cell not in WITH_WEBSOCKET])
def test_websocket_to_an_application_without_websockets_is_rejected(cell: Host) -> None:
    with pytest.raises(InvalidStatus, match="HTTP 403"):
        open_websocket(f"ws://127.0.0.1:{cell.port}/", open_timeout=LONGEST_WAIT)


@only(WITH_LIFESPAN)
def test_startup_of_every_kind_of_application_runs_before_the_first_request(cell: Host) -> None:
    assert ask(cell.port, "/state").content.decode() == STARTED


@pytest.mark.parametrize("cell", WITH_LIFESPAN, ids=name)
def test_shutdown_runs_when_the_host_stops(cell: tuple[str, str]) -> None:
    host, kind = cell
    with hosted(HOSTS[host], f"tests.adapters.matrix_apps:{kind}_on_{host}") as running:
        assert ask(running.port, "/get").status == 200
        running.stop()
        running.wait_for_line("shutdown has been")


def table() -> str:
    """Return the cells of the table in docs/adapters.md."""
    rows = [["application", *HOST_NAMES.values()], ["---"] * 5]
    for kind in KINDS:
        row = [APP_NAMES[kind]]
        for host in HOSTS:
            lacks = [] if (host, kind) in WITH_WEBSOCKET else ["no websockets"]
            lacks += [] if (host, kind) in WITH_LIFESPAN else ["no lifespan"]
            row.append(", ".join([ADAPTERS.get((host, kind), "as it is"), *lacks]))
        rows.append(row)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def test_host_matrix_in_the_documentation_matches_the_tests() -> None:
    page = Path(__file__).parents[2] / "docs" / "adapters.md"
    assert table() in page.read_text(), f"expected this table in docs/adapters.md:\n\n{table()}"
