"""`WSGIAdapter` behaves in the same way on all real WSGI hosts, as far as the host allows."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import RemoteDisconnected
from typing import Final

import pytest

from tests.adapters.hosts import HOSTS, Host, hosted
from tests.adapters.wire import ask, connect, head_of, read_answer
from tests.waits import LONGEST_WAIT

# All of them but the one that speaks ASGI: what it makes of WSGI is not ours.
_WSGI_HOSTS: Final = [name for name in HOSTS if name != "hypercorn"]

# Chunked content: wsgiref and uWSGI leave its coding to the application, and WSGI has no way of saying so.
_CHUNKED: Final = [name for name in _WSGI_HOSTS if not name.startswith(("wsgiref", "uwsgi"))]

# One process, several threads.
_THREADED: Final = ["gunicorn gthread", "waitress", "wsgiref threaded", "werkzeug", "uwsgi", "uvicorn"]

# One process that answers everything.
_ONE_PROCESS: Final = [*_THREADED, "gunicorn sync", "wsgiref", "uwsgi of one thread"]

# wsgiref and uWSGI end a response of no known length by closing, as HTTP/1.0 did: it never looks cut off.
_FRAMED: Final = _CHUNKED

# Werkzeug's REMOTE_PORT is a number, which the validator of an environ refuses.
_VALID: Final = [name for name in _WSGI_HOSTS if name != "werkzeug"]

# wsgiref does not say what the target was.
_RAW_TARGET: Final = [name for name in _WSGI_HOSTS if not name.startswith("wsgiref")]

# Those that call the application only when they have all of its content.
_BUFFERING: Final = ["waitress"]


@pytest.fixture(scope="module", params=_WSGI_HOSTS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with hosted(request.param, "tests.adapters.hosted_apps:wsgi") as host:
        yield host


def on(names: list[str]) -> pytest.MarkDecorator:
    """Run the test on these hosts only."""
    return pytest.mark.parametrize("host", names, indirect=True, scope="module")


def test_wsgi_host_sends_a_complete_response(host: Host) -> None:
    answer = ask(host.port, "/a?c=d")
    assert (answer.status, answer.values("x-app"), answer.content) == (201, ["yes"], b"GET /a c=d ")


@pytest.mark.parametrize("size", [0, 1, 3000000])
def test_wsgi_host_passes_request_and_response_content(host: Host, size: int) -> None:
    assert ask(host.port, "/", method="POST", content=b"x" * size).content == b"POST /  " + b"x" * size


@on(_VALID)
def test_wsgiref_validator_around_the_adapter_finds_no_fault(host: Host) -> None:
    content = b"x" * 300000
    assert ask(host.port, "/validated/a?b").content == b"GET /validated/a b "
    assert ask(host.port, "/validated/a", method="POST", content=content).content == b"POST /validated/a  " + content
    assert len(ask(host.port, "/validated/stream").content) == 100000
    assert ask(host.port, "/validated/204").status == 204


@pytest.mark.parametrize("name", ["plain", "double"])
@on(_VALID)
def test_wsgiref_validator_around_the_application_finds_no_fault(host: Host, name: str) -> None:
    assert ask(host.port, f"/{name}/echo", method="POST", content=b"content").content == b"content"
    assert ask(host.port, f"/{name}/write").content == b"written returned"
    assert ask(host.port, f"/{name}/empty").status == 204


@on(_CHUNKED)
def test_wsgi_host_passes_chunked_request_content(host: Host) -> None:
    answer = ask(host.port, "/", method="POST", chunks=[b"a" * 100000, b"b", b"c" * 50000])
    assert answer.content == b"POST /  " + b"a" * 100000 + b"b" + b"c" * 50000


@on([name for name in _WSGI_HOSTS if name not in _CHUNKED])
def test_chunked_upload_gets_an_error_if_the_wsgi_host_does_not_decode_it(host: Host) -> None:
    answer = ask(host.port, "/", method="POST", chunks=[b"a" * 100000])
    assert answer.status in (400, 411, 501)


def test_unread_content_does_not_block_the_response(host: Host) -> None:
    assert ask(host.port, "/stream", method="POST", content=b"x" * 300000).status == 200


@pytest.mark.parametrize("name", ["stream", "double/stream"])
def test_wsgi_host_sends_a_streamed_response(host: Host, name: str) -> None:
    assert ask(host.port, f"/{name}").content == b"".join(b"%d" % number * 20000 for number in range(5))


def test_wsgi_host_sends_a_streamed_response_with_a_content_length(host: Host) -> None:
    answer = ask(host.port, "/declared")
    assert (answer.values("content-length"), answer.content) == (["100000"], b"x" * 100000)


def test_aborted_response_does_not_look_complete(host: Host) -> None:
    assert not ask(host.port, "/broken").complete


@on(_FRAMED)
def test_aborted_response_of_unknown_length_does_not_look_complete(host: Host) -> None:
    assert not ask(host.port, "/broken-stream").complete


def test_response_to_a_slow_client_arrives_complete(host: Host) -> None:
    content = bytes(range(256)) * 4000
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(LONGEST_WAIT)
        connection.connect(("127.0.0.1", host.port))
        connection.sendall(head_of("POST", "/", [("Content-Length", str(len(content)))]) + content)
        received = b"".join(iter(lambda: connection.recv(10000), b""))
    assert received.endswith(b"POST /  " + content)


def test_wsgi_host_passes_request_and_response_fields(host: Host) -> None:
    answer = ask(
        host.port, "/fields", fields=[("X-Some", "thing, other"), ("X-Latin", "J\xfcrgen"), ("Cookie", "c=1; d=2")]
    )
    assert answer.content == b"[[b'cookie', b'c=1; d=2'], [b'x-latin', b'J\\xfcrgen'], [b'x-some', b'thing, other']]"
    assert (answer.values("set-cookie"), answer.values("x-two")) == (["a=1", "b=2; path=/"], ["1", "2"])


def test_wsgi_host_passes_the_path_unchanged(host: Host) -> None:
    assert ask(host.port, "/%C3%BC/a%20b%25//c/").content == b"GET /%C3%BC/a%20b%25//c/  "


@on(_RAW_TARGET)
def test_C4_an_encoded_slash_stays_encoded(host: Host) -> None:
    assert ask(host.port, "/a%2Fb%2f").content == b"GET /a%2Fb%2f  "


# Werkzeug has replaced what is not UTF-8 before anybody else sees it.
@on([name for name in _WSGI_HOSTS if name != "werkzeug"])
def test_C4_a_path_that_is_not_UTF_8_arrives_byte_for_byte(host: Host) -> None:
    assert ask(host.port, "/a%FFb").content == b"GET /a%FFb  "


@pytest.mark.parametrize("name", ["", "stream", "declared", "double/stream"])
def test_response_to_HEAD_has_no_content(host: Host, name: str) -> None:
    answer = ask(host.port, f"/{name}", method="HEAD")
    assert (answer.status // 100, answer.content) == (2, b"")


@pytest.mark.parametrize("status", [204, 304])
def test_wsgi_host_sends_204_without_content(host: Host, status: int) -> None:
    answer = ask(host.port, f"/{status}")
    assert (answer.status, answer.values("etag"), answer.content, answer.complete) == (status, ['"e"'], b"", True)


def test_wsgi_host_serves_concurrent_requests(host: Host) -> None:
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda number=number: answers.append(ask(host.port, f"/{number}").content))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_WAIT)
    assert sorted(answers) == sorted(b"GET /%d  " % number for number in range(20))


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
class TestAnApplicationThatRaises:
    @on([name for name in _WSGI_HOSTS if not name.startswith("uwsgi")])
    def test_exception_before_the_response_gives_500(self, host: Host, error: str) -> None:
        assert ask(host.port, f"/{error}-before").status == 500

    @on(_FRAMED)
    def test_response_that_fails_midway_does_not_look_complete(self, host: Host, error: str) -> None:
        assert not ask(host.port, f"/{error}-midway").complete

    def test_exception_after_the_complete_response_does_not_affect_the_response(self, host: Host, error: str) -> None:
        answer = ask(host.port, f"/{error}-after")
        assert (answer.status, answer.content, answer.complete) == (200, b"whole", True)

    @on(_ONE_PROCESS)
    @pytest.mark.parametrize("when", ["before", "midway", "after"])
    def test_failing_application_does_not_end_the_process_of_the_host(self, host: Host, error: str, when: str) -> None:
        pid = ask(host.port, "/pid").content
        with suppress(RemoteDisconnected):
            # uWSGI logs 500, and closes without a response, whatever application raises.
            ask(host.port, f"/{error}-{when}")
        assert ask(host.port, "/pid").content == pid

    @on(_THREADED)
    @pytest.mark.parametrize("when", ["before", "midway", "after"])
    def test_application_failure_in_one_request_does_not_end_another_request(
        self, host: Host, error: str, when: str
    ) -> None:
        name = f"{error}-{when}"
        with connect(host.port) as waiting:
            waiting.sendall(head_of("GET", f"/wait?{name}"))
            host.wait_for_line(f"{name} waits")
            with suppress(RemoteDisconnected):
                # As above.
                ask(host.port, f"/{name}")
            ask(host.port, f"/open?{name}")
            assert read_answer(waiting).content == b"waited"


def test_C10_every_host_notifies_the_application_of_a_disconnect(host: Host) -> None:
    with connect(host.port) as connection:
        connection.sendall(head_of("GET", "/endless?streamer"))
        connection.recv(1000)
    host.wait_for_line("streamer was told: ChannelClosed")
    host.wait_for_line("streamer ended")


@on([name for name in _WSGI_HOSTS if name not in _BUFFERING])
def test_C11_truncated_upload_is_never_treated_as_complete(host: Host) -> None:
    with connect(host.port) as connection:
        connection.sendall(head_of("POST", "/upload?cut", [("Content-Length", "100")]) + b"x" * 12)
        connection.shutdown(socket.SHUT_WR)
        host.wait_for_line("cut broke: ")


@on([name for name in _CHUNKED if name not in _BUFFERING])
def test_C11_truncated_chunked_upload_is_never_treated_as_complete(host: Host) -> None:
    with connect(host.port) as connection:
        connection.sendall(head_of("POST", "/upload?chunk", [("Transfer-Encoding", "chunked")]) + b"64\r\nhalf")
        connection.shutdown(socket.SHUT_WR)
        host.wait_for_line("chunk broke: ")


# The others are ended by the signal itself, before Python can do anything; uWSGI does not always wait for Python.
@pytest.mark.parametrize("name", [name for name in HOSTS if name.startswith(("gunicorn", "uvicorn"))])
def test_C12_each_serving_process_awaits_startup_and_shutdown_once(name: str) -> None:
    with hosted(name, "tests.adapters.hosted_apps:lifecycle") as host:
        assert ask(host.port).content == b"served"
        host.stop()
        assert (host.stderr.count("started up"), host.stderr.count("shut down")) == (1, 1)
        assert "Task was destroyed" not in host.stderr
