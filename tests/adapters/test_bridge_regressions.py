"""The shortest exchange for each fault that random exchanges have found, and all paths of two bytes (C4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any
from urllib.parse import quote_from_bytes, unquote

import pytest

from tests.adapters.scripted_app import Raise, Read, Script, ScriptedApp, Seen, Start, Write, Yield
from tests.adapters.strict_host import Received, Request, StrictHost
from uvicorn.adapters import ASGIAdapter, WSGIAdapter
from uvicorn.adapters.asgi import exchange_from_message
from uvicorn.concurrency.worker_pool import WorkerPool
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.interfaces.environ import build_environ, exchange_from_environ

WAYS = ["direct", "messages"]


def serve(
    script: Script, request: Request | None = None, way: str = "direct", seconds: float = 0.05
) -> tuple[Received, Seen]:
    """Serve one exchange with a scripted application behind two adapters, to its end."""
    request = request or Request()
    app = ScriptedApp()
    app.script = script
    pool = WorkerPool(1)
    adapter = ASGIAdapter(app, executor=pool)

    async def middleware(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    bridged = WSGIAdapter(adapter if way == "direct" else middleware)
    # What has no end is stopped after this.
    bridged._settings = replace(bridged._settings, disconnect_seconds=seconds)
    received = StrictHost(request).serve(bridged, request.environ(strict=False))
    pool.shutdown()
    assert not received.mistakes
    return received, app.seen


@pytest.mark.parametrize("way", WAYS)
def test_application_may_replace_the_response_head_after_an_empty_write(way: str) -> None:
    received, seen = serve(Script(calls=(Start(), Write(0), Start("503 Busy", again=True))), way=way)
    assert (received.status, seen.events) == ("503 Busy", [])


@pytest.mark.parametrize("way", WAYS)
def test_application_error_does_not_change_the_status_of_a_started_response(way: str) -> None:
    received, _ = serve(Script("generator", (Start("201 Created"), Yield(1), Raise(ValueError))), way=way)
    assert (received.status, received.content, received.complete) == ("201 Created", b"1", False)


@pytest.mark.parametrize("way", WAYS)
def test_application_gets_the_environ_keys_of_the_wsgi_host(way: str) -> None:
    own = object()
    _, seen = serve(Script(calls=(Start(),)), Request(own=(("test.own", own), ("REMOTE_USER", "me"))), way)
    assert (seen.environ.get("test.own"), seen.environ.get("REMOTE_USER")) == (own, "me")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("start", [Start(headers=(("Content-Length", "1"),)), Start("204 No Content")])
def test_endless_generator_is_closed_once_the_response_is_complete(start: Start, way: str) -> None:
    _, seen = serve(Script("endless", (start,), (Yield(1),)), way=way)
    assert (seen.returned, seen.closed) == (1, 1)


@pytest.mark.parametrize("way", WAYS)
def test_application_may_read_content_after_a_response_without_content(way: str) -> None:
    request = Request("POST", content_bytes=9, ended_by="length")
    _, seen = serve(Script(calls=(Start("204 No Content"), Write(1), Read("read()"))), request, way, seconds=3600)
    assert seen.closed == 0 and seen.content != request.content


@pytest.mark.parametrize("key", ["HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"])
def test_environ_omits_headers_that_resemble_CONTENT_LENGTH_or_CONTENT_TYPE(key: str) -> None:
    request = Request("POST", fields=(("CONTENT_TYPE", "a/b"), (key, "7")), content_bytes=2, ended_by="length")
    _, seen = serve(Script(calls=(Read("read()"), Start())), request)
    assert (seen.environ["CONTENT_TYPE"], seen.environ["CONTENT_LENGTH"]) == ("a/b", "2")
    assert key not in seen.environ


def test_environ_omits_REMOTE_PORT_when_the_wsgi_host_omits_it() -> None:
    _, seen = serve(Script(calls=(Start(),)), Request(fields=(("REMOTE_ADDR", "1.2.3.4"),)))
    assert "REMOTE_PORT" not in seen.environ


def test_adapter_does_not_read_wsgi_input_beyond_the_content() -> None:
    # It goes on with another request; see _Input.
    _, seen = serve(Script(calls=(Read("read()"), Start())), Request("POST", content_bytes=9, ended_by="length"))
    assert seen.content == Request(content_bytes=9).content


def test_raw_target_with_non_ascii_bytes_is_decoded_to_the_path() -> None:
    paths: list[str] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        paths.append(message["path"])
        await channels["reply"].send({"status": 200})

    octets = "/caf\xe9".encode()
    environ = Request(path_info=octets, own=(("RAW_URI", octets.decode("latin-1")),)).environ(strict=True)
    StrictHost(Request()).serve(WSGIAdapter(app), environ)
    assert paths == ["/caf\xe9"]


def from_the_server(path: bytes) -> HTTPExchange:
    return HTTPExchange(
        HTTPGateway(), Endpoint(), "GET", quote_from_bytes(path, safe="/").encode(), "1.1", ((), ()), False
    )


def from_a_host(path: bytes) -> HTTPExchange:
    return exchange_from_environ({"PATH_INFO": path.decode("latin-1")}, HTTPGateway(), None)


def from_a_host_that_says_the_raw_target(path: bytes) -> HTTPExchange:
    raw = "/" + "".join(f"%{octet:02x}" for octet in path[1:])
    return exchange_from_environ({"PATH_INFO": path.decode("latin-1"), "RAW_URI": raw}, HTTPGateway(), None)


def from_a_host_that_has_split_it(path: bytes) -> HTTPExchange:
    text = path.decode("latin-1")
    return exchange_from_environ({"SCRIPT_NAME": text, "PATH_INFO": "/\xff" + text}, HTTPGateway(), None)


def from_a_message(path: bytes) -> HTTPExchange:
    exchange = from_the_server(path)
    message = {"method": "GET", "path": exchange.path, "raw_path": exchange.raw_path}
    return exchange_from_message(message, HTTPGateway(), False)


def all_paths_of_two_bytes() -> Iterable[bytes]:
    return (b"/%c%c" % (first, second) for first in range(256) for second in range(256))


SOURCES = [from_the_server, from_a_host, from_a_host_that_says_the_raw_target, from_a_message]


@pytest.mark.parametrize("source", SOURCES)
def test_C4_build_environ_decodes_every_two_byte_path_as_wsgiref_does(
    source: Callable[[bytes], HTTPExchange],
) -> None:
    wrong = []
    for path in all_paths_of_two_bytes():
        environ = build_environ(source(path))
        # As wsgiref.simple_server does it.
        if environ["PATH_INFO"] != unquote(quote_from_bytes(path), "iso-8859-1") or environ["SCRIPT_NAME"]:
            wrong.append((path, environ["SCRIPT_NAME"], environ["PATH_INFO"]))
    assert not wrong


@pytest.mark.parametrize("source", SOURCES)
def test_C4_nested_adapters_do_not_decode_a_path_twice(source: Callable[[bytes], HTTPExchange]) -> None:
    assert build_environ(source(b"/%41%252F/..//"))["PATH_INFO"] == "/%41%252F/..//"


def test_C6_nested_adapters_keep_every_two_byte_script_name() -> None:
    wrong = []
    for path in all_paths_of_two_bytes():
        environ = build_environ(from_a_host_that_has_split_it(path))
        text = path.decode("latin-1")
        if (environ["SCRIPT_NAME"], environ["PATH_INFO"]) != (text, "/\xff" + text):
            wrong.append((path, environ["SCRIPT_NAME"], environ["PATH_INFO"]))
    assert not wrong


@pytest.mark.parametrize("key", ["HTTP_X_\N{EURO SIGN}", "HTTP_CAF\xc9"])
def test_headers_omit_an_environ_key_that_is_not_a_field_name(key: str) -> None:
    exchange = exchange_from_environ({"PATH_INFO": "/", "HTTP_X_A": "1", key: "2"}, HTTPGateway(), None)
    assert exchange.headers == [[b"x-a", b"1"]]
