"""The interface's own examples, unchanged, in a server as a user starts it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess, running_server

SEEDS = Path(__file__).parent / "seeds"
SIZES = {"0 B": 0, "1 B": 1, "3 MB": 3_000_000}


@pytest.fixture(scope="module", params=["auto", "asyncio"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def serving(name: str, loop: str) -> Iterator[ServerProcess]:
    with running_server(SEEDS, f"app:{name}", "--loop", loop) as server:
        yield server


@pytest.fixture(scope="module")
def echo_body(loop: str) -> Iterator[ServerProcess]:
    yield from serving("echo_body", loop)


def ask(
    server: ServerProcess, method: str = "GET", path: str = "/", content: bytes | Iterator[bytes] | None = None
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=LONGEST_WAIT)
    try:
        connection.request(method, path, content, encode_chunked=content is not None and not isinstance(content, bytes))
        response = connection.getresponse()
        response.content = response.read()  # type: ignore[attr-defined]
        return response
    finally:
        connection.close()


def content_of(response: http.client.HTTPResponse) -> bytes:
    return response.content  # type: ignore[attr-defined, no-any-return]


def pieces(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 50_000):
        yield content[start : start + 50_000]


def test_hello_world_example_is_served(loop: str) -> None:
    for server in serving("hello_world", loop):
        response = ask(server)
        assert (response.status, content_of(response)) == (200, b"Hello, world")
        assert response.headers["content-type"] == "text/plain"
        assert response.headers["content-length"] == "12"


def test_echo_example_returns_method_and_path(loop: str) -> None:
    for server in serving("echo_method_and_path", loop):
        response = ask(server, "DELETE", "/caf%C3%A9/%2F")
        assert content_of(response).decode() == "Received DELETE request to /café//"


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_echo_example_returns_content_sent_with_content_length(echo_body: ServerProcess, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    response = ask(echo_body, "POST", "/", content[:size])
    assert content_of(response) == content[:size]


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_echo_example_returns_content_sent_in_chunks(echo_body: ServerProcess, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    connection = http.client.HTTPConnection("127.0.0.1", echo_body.port, timeout=LONGEST_WAIT)
    connection.request("POST", "/", pieces(content[:size]), {"transfer-encoding": "chunked"}, encode_chunked=True)
    response = connection.getresponse()
    assert response.read() == content[:size]
    connection.close()


def test_streaming_example_sends_a_chunked_response(loop: str) -> None:
    for server in serving("stream_response", loop):
        response = ask(server)
        assert response.headers["transfer-encoding"] == "chunked"
        assert content_of(response) == b"Hello, world"


def test_echo_example_serves_several_requests_on_one_connection(echo_body: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", echo_body.port, timeout=LONGEST_WAIT)
    for number in range(5):
        connection.request("POST", "/", b"%d" % number)
        assert connection.getresponse().read() == b"%d" % number
    connection.close()


def test_asgi_adapter_example_serves_a_wsgi_application(loop: str) -> None:
    with running_server(SEEDS, "adapters:asgi", "--loop", loop) as server:
        assert server.get() == (200, "Hello from WSGI")


def test_wsgi_adapter_example_runs_on_the_uvicorn_server(loop: str) -> None:
    with running_server(SEEDS, "adapters:wsgi", "--loop", loop) as server:
        assert server.get() == (200, "Hello from channels")


@pytest.mark.parametrize("name", ["hello_world", "hello_world_after_a_second"])
def test_consumer_examples_answer_with_hello_world(name: str, loop: str) -> None:
    with running_server(SEEDS, f"consumers:{name}", "--loop", loop) as server:
        response = ask(server)
        assert (response.status, content_of(response)) == (200, b"<html><h1>Hello, world</h1></html>")
        assert response.headers["content-type"] == "text/html"


def test_consumer_example_streams_a_response(loop: str) -> None:
    with running_server(SEEDS, "consumers:stream_response", "--loop", loop) as server:
        response = ask(server)
        assert response.headers["transfer-encoding"] == "chunked"
        assert content_of(response) == b"Hello, world"
