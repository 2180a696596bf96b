"""The thread that serves `GET /metrics`, and clients that do not behave."""

from __future__ import annotations

import errno
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.helpers import Response, parse_responses
from tests.waits import LONGEST_WAIT
from uvicorn.errors import ConfigError
from uvicorn.server import metrics_listener
from uvicorn.server.metrics_listener import MetricsListener

SCRAPE = b"GET /metrics HTTP/1.1\r\nhost: x\r\naccept: */*\r\n\r\n"


@contextmanager
def listening(text: Callable[[], bytes] = lambda: b"# metrics\n", host: str = "127.0.0.1") -> Iterator[tuple[str, int]]:
    """The address of a listener."""
    listener = MetricsListener(f"[{host}]:0" if ":" in host else f"{host}:0", text)
    try:
        [sock] = listener.sockets
        yield sock.getsockname()[:2]
    finally:
        listener.close()


def connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, LONGEST_WAIT)


def received(client: socket.socket) -> bytes:
    """All bytes until the server closes."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def answer(address: tuple[str, int], *pieces: bytes) -> Response:
    with connected(address) as client:
        for piece in pieces:
            client.sendall(piece)
        [response] = parse_responses(received(client), closed=True)
        return response


def test_scrape_gets_the_metrics_with_the_field_connection_close() -> None:
    with listening() as address:
        response = answer(address, SCRAPE)
    assert (response.status, response.content) == (200, b"# metrics\n")
    assert response.header(b"content-type") == b"text/plain; version=0.0.4; charset=utf-8"
    assert response.header(b"connection") == b"close"


def test_scrape_that_arrives_in_pieces_gets_the_metrics() -> None:
    with listening() as address:
        assert answer(address, SCRAPE[:9], SCRAPE[9:30], SCRAPE[30:]).status == 200


def test_query_string_of_a_metrics_scrape_is_ignored() -> None:
    with listening() as address:
        assert answer(address, SCRAPE.replace(b"/metrics", b"/metrics?a=b")).status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1",
        b"GET /metrics/x HTTP/1.1",
        b"POST /metrics HTTP/1.1",
        b"get /metrics HTTP/1.1",
        b"GET http://x/metrics HTTP/1.1",
        b"",
        b"\x00\xff",
        b"\x16\x03\x01 a TLS handshake",
    ],
)
def test_request_for_anything_except_the_metrics_gets_404(head: bytes) -> None:
    with listening() as address:
        assert answer(address, head + b"\r\n\r\n").status == 404


def test_metrics_are_served_over_ipv6() -> None:
    with listening(host="::1") as address:
        assert answer(address, SCRAPE).status == 200


def test_metrics_response_of_5_MB_arrives_complete() -> None:
    with listening(lambda: b"x" * 5_000_000) as address:
        assert len(answer(address, SCRAPE).content) == 5_000_000


def test_scrape_succeeds_after_an_earlier_scrape_failed_with_500() -> None:
    results: list[bytes] = []
    with listening(lambda: results.pop()) as address:
        assert answer(address, SCRAPE).status == 500
        results.append(b"x")
        assert answer(address, SCRAPE).content == b"x"


def test_head_above_8_kib_closes_the_connection_without_a_response() -> None:
    with listening() as address, connected(address) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nx: " + b"x" * 8192)
        try:
            assert received(client) == b""
        except ConnectionResetError:
            pass


def test_listener_serves_the_next_scrape_after_a_client_closes_early() -> None:
    with listening() as address:
        connected(address).close()
        with connected(address) as client:
            client.sendall(b"GET /met")
            client.shutdown(socket.SHUT_WR)
            assert received(client) == b""
        assert answer(address, SCRAPE).status == 200


def test_listener_answers_the_next_client_after_a_reset_during_a_response() -> None:
    begun = threading.Event()

    def text() -> bytes:
        begun.set()
        return b"x" * 50_000_000

    with listening(text) as address:
        client = connected(address)
        client.sendall(SCRAPE)
        assert begun.wait(LONGEST_WAIT)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        with connected(address) as other:
            other.sendall(SCRAPE.replace(b"/metrics", b"/"))
            assert received(other).startswith(b"HTTP/1.1 404 ")


class Exhausted:
    """A listening socket of a process without free descriptors."""

    def accept(self) -> None:
        raise OSError(errno.EMFILE, "Too many open files")


def test_metrics_listener_continues_after_it_runs_out_of_file_descriptors() -> None:
    listener = MetricsListener("127.0.0.1:0", bytes)
    listener._accept(Exhausted())
    assert answer(listener.sockets[0].getsockname(), SCRAPE).status == 200
    listener.close()


def test_silent_client_is_closed_after_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_listener, "_SECONDS", 0.0)
    with listening() as address, connected(address) as client:
        assert received(client) == b""


def test_client_that_does_not_read_the_response_is_closed_after_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_listener, "_SECONDS", 0.0)
    with listening(lambda: b"x" * 50_000_000) as address, connected(address) as client:
        client.sendall(SCRAPE)
        try:
            assert len(received(client)) < 50_000_000
        except ConnectionResetError:
            pass


def test_scrape_is_served_while_silent_clients_hold_all_connections() -> None:
    with listening() as address:
        silent = [connected(address) for _ in range(40)]
        assert answer(address, SCRAPE).status == 200
        # The oldest was closed for the later ones.
        assert received(silent[0]) == b""
        for client in silent:
            client.close()


def test_connections_above_the_limit_wait_until_the_listener_accepts_them() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def text() -> bytes:
        begun.set()
        assert go_on.wait(LONGEST_WAIT)
        return b"# metrics\n"

    with listening(text) as address, connected(address) as first:
        first.sendall(SCRAPE)
        assert begun.wait(LONGEST_WAIT)
        # The kernel ignores a connection above the backlog. The client then tries again after a second.
        waiting = [socket.create_connection(address, 0.5) for _ in range(200)]
        go_on.set()
        assert received(first).endswith(b"# metrics\n")
        for client in waiting:
            client.close()


def test_error_for_a_metrics_address_in_use_names_the_option() -> None:
    with listening() as (host, port), pytest.raises(ConfigError) as error:
        MetricsListener(f"{host}:{port}", bytes)
    assert str(error.value) == (
        f"cannot listen on {host}:{port}: the address is in use by another program; stop it, or choose "
        "another address with --metrics"
    )


def test_error_for_a_malformed_metrics_address_names_the_option() -> None:
    with pytest.raises(ConfigError, match=r"^metrics 'here/there' is not an address; "):
        MetricsListener("here/there", bytes)


def test_closed_listener_accepts_no_connection() -> None:
    with listening() as address:
        pass
    with pytest.raises(ConnectionRefusedError):
        connected(address)
