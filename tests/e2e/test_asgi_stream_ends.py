"""When the client of an event stream leaves, the `finally` of the generator runs, in nine ASGI frameworks.

In some tests the timeouts are an hour, so that a test fails if only a timeout would close the generator.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.adapters.hosts import Host, hosted
from tests.adapters.wire import connect, head_of

LISTENING: Final = ["starlette", "fastapi", "litestar", "quart", "django", "connexion"]
NOT_LISTENING: Final = ["falcon", "blacksheep", "sanic"]

#: Sanic logs whatever a handler raises, be it that its client has gone.
QUIET: Final = [framework for framework in (*LISTENING, *NOT_LISTENING) if framework != "sanic"]

STREAM_END: Final = re.compile(rb"the \w+ stream \d+ has ended")


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Host]:
    framework, seconds = request.param
    env = {"UVICORN_TIMEOUT_HALF_CLOSED": seconds, "UVICORN_TIMEOUT_DISCONNECT": seconds}
    with hosted("uvicorn", f"tests.frameworks.asgi_{framework}:app", env) as host:
        yield host


def of(frameworks: list[str], seconds: str) -> pytest.MarkDecorator:
    """Run the test for these frameworks, with both timeouts set to `seconds`."""
    return pytest.mark.parametrize("site", [(name, seconds) for name in frameworks], ids=frameworks, indirect=True)


def close(connection: socket.socket) -> None:
    """Close after reading everything, as browsers do."""
    connection.close()


def reset(connection: socket.socket) -> None:
    """Reset the connection, as a machine does that loses its network."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


either_end: Final = pytest.mark.parametrize("leave", [close, reset], ids=["close", "reset"])


def visit(site: Host, path: str, leave: Callable[[socket.socket], None]) -> str:
    """Read the first event of a stream, then disconnect; return the line printed when the stream is closed."""
    connection = connect(site.port)
    received = b""
    connection.sendall(head_of("GET", path))
    while (line := STREAM_END.search(received)) is None:
        piece = connection.recv(65536)
        assert piece, f"the stream ended; stderr:\n{site.stderr}"
        received += piece
    leave(connection)
    return line[0].decode()


@of(LISTENING, "3600")
@either_end
def test_idle_stream_ends_when_the_framework_receives_http_disconnect(
    site: Host, leave: Callable[[socket.socket], None]
) -> None:
    site.wait_for_line(visit(site, "/idle", leave))


@of([*LISTENING, *NOT_LISTENING], "3600")
@either_end
def test_busy_stream_ends_at_its_next_send_after_a_disconnect(
    site: Host, leave: Callable[[socket.socket], None]
) -> None:
    for _ in range(5):
        site.wait_for_line(visit(site, "/busy", leave))


@of(NOT_LISTENING, "0.1")
@either_end
def test_idle_stream_ends_by_timeout_if_the_framework_ignores_disconnects(
    site: Host, leave: Callable[[socket.socket], None]
) -> None:
    site.wait_for_line(visit(site, "/idle", leave))


@of(["falcon"], "3600")
@either_end
def test_busy_stream_of_server_sent_events_ends_after_a_disconnect(
    site: Host, leave: Callable[[socket.socket], None]
) -> None:
    site.wait_for_line(visit(site, "/sse/busy", leave))


@of(["falcon"], "0.1")
@either_end
def test_idle_falcon_event_stream_ends_by_timeout_after_a_disconnect(
    site: Host, leave: Callable[[socket.socket], None]
) -> None:
    site.wait_for_line(visit(site, "/sse/idle", leave))


@of(QUIET, "0.1")
@pytest.mark.parametrize("path", ["/idle", "/busy"])
@either_end
def test_disconnect_during_a_stream_is_not_logged_as_an_error(
    site: Host, path: str, leave: Callable[[socket.socket], None]
) -> None:
    site.wait_for_line(visit(site, path, leave))
    # Whatever else there is to be logged comes before the next stream is closed.
    site.wait_for_line(visit(site, path, leave))
    assert "Traceback" not in site.stderr
    assert " ERROR " not in site.stderr
