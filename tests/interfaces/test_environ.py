"""The conversion between request heads and environ, both ways, without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.fields import split_pairs
from uvicorn.interfaces.environ import (
    _KEYS,
    _KEYS_BYTES,
    _MOST_KEYS,
    _SHAPES,
    UNREADABLE,
    UNTIL_END,
    build_environ,
    content_length,
    exchange_from_environ,
)


def exchange_of(target: bytes = b"/", *headers: tuple[bytes, bytes], **endpoint: Any) -> HTTPExchange:
    return HTTPExchange(HTTPGateway(), Endpoint(**endpoint), "GET", target, "1.1", split_pairs(headers), False)


def read(**environ: Any) -> HTTPExchange:
    return exchange_from_environ(environ, HTTPGateway(), None)


def fields(exchange: HTTPExchange) -> dict[bytes, bytes]:
    return {name: value for name, value in exchange.headers}  # noqa: C416


def test_empty_environ_becomes_a_request_for_the_root() -> None:
    exchange = read()
    assert (exchange.method, exchange.path, exchange.raw_path, exchange.http_version) == ("GET", "/", b"/", "1.1")
    assert (exchange.endpoint.server, exchange.endpoint.client, exchange.has_content) == (None, None, False)


def test_server_name_of_an_environ_without_a_server_address_is_localhost() -> None:
    environ = build_environ(read(SERVER_PORT="8000"))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")


@pytest.mark.parametrize("port", [None, "", "http", "²"])
def test_malformed_server_port_becomes_the_default_port_of_the_scheme(port: Any) -> None:
    environ = {"SERVER_NAME": "a", "SERVER_PORT": port, "wsgi.url_scheme": "https"}
    assert read(**environ).endpoint.server == ("a", 443)


@pytest.mark.parametrize("port", ["", "x", None])
def test_client_address_is_kept_when_REMOTE_PORT_is_invalid(port: Any) -> None:
    exchange = read(REMOTE_ADDR="1.2.3.4", REMOTE_PORT=port)
    assert exchange.endpoint.client == ("1.2.3.4", 0)
    environ = build_environ(exchange)
    assert environ["REMOTE_ADDR"] == "1.2.3.4"
    assert "REMOTE_PORT" not in environ


def test_environ_of_a_unix_socket_has_no_client_and_no_port() -> None:
    environ = build_environ(exchange_of(server=("/run/app.sock", None)))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REMOTE_ADDR"]) == ("/run/app.sock", "80", "")


@pytest.mark.parametrize("target", ["http://a.example/x%2Fy?q", "/other", "x", "%2Fx"])
def test_RAW_URI_that_differs_from_PATH_INFO_is_ignored(target: str) -> None:
    exchange = read(RAW_URI=target, PATH_INFO="/x/y", QUERY_STRING="q")
    assert (exchange.raw_path, exchange.query_string) == (b"/x/y", b"q")


@pytest.mark.parametrize(
    ("raw", "query", "target"),
    [
        ("/a?", "", "/a?"),
        ("/a?b", "b", "/a?b"),
        ("/a", "", "/a"),
        ("/a", "b", "/a?b"),
        ("/a?b", "", "/a"),
        ("/other?", "", "/a"),
        ("", "b", "/a?b"),
    ],
)
def test_REQUEST_URI_keeps_a_question_mark_without_a_query(raw: str, query: str, target: str) -> None:
    environ = build_environ(read(RAW_URI=raw, PATH_INFO="/a", QUERY_STRING=query))
    assert (environ["REQUEST_URI"], environ["QUERY_STRING"]) == (target, query)


@pytest.mark.parametrize(
    ("raw", "script_name", "path", "target"),
    [
        ("/a?b", "", "/a?b", b"/a%3Fb"),
        ("/a%41", "", "/a%41", b"/a%2541"),
        ("/appx", "/app", "x", b"/app/x"),
        ("a", "", "a", b"a"),
        ("", "", "", b"/"),
        ("/caf\xe9", "", "/caf\xe9", b"/caf%E9"),
    ],
)
def test_request_target_is_built_from_PATH_INFO_when_RAW_URI_differs(
    raw: str, script_name: str, path: str, target: bytes
) -> None:
    assert read(RAW_URI=raw, SCRIPT_NAME=script_name, PATH_INFO=path).target == target


def test_RAW_URI_that_matches_the_path_is_kept() -> None:
    assert read(REQUEST_URI="/x%2fy?q", PATH_INFO="/x/y").raw_path == b"/x%2fy"


def test_environ_text_beyond_latin_1_is_encoded_as_utf_8() -> None:
    exchange = read(PATH_INFO="/€", QUERY_STRING="€", HTTP_X="€")
    assert (exchange.path, exchange.query_string) == ("/€", "€".encode())
    assert fields(exchange) == {b"x": "€".encode()}


def test_PATH_INFO_without_a_slash_is_joined_to_SCRIPT_NAME() -> None:
    exchange = read(SCRIPT_NAME="/app", PATH_INFO="x")
    assert exchange.path == "/app/x"
    assert build_environ(exchange)["PATH_INFO"] == "/x"


def test_environ_fields_with_empty_values_are_kept() -> None:
    exchange = read(HTTP_X="")
    assert fields(exchange) == {b"x": b""}
    assert build_environ(exchange)["HTTP_X"] == ""


def test_CONTENT_LENGTH_and_CONTENT_TYPE_override_HTTP_prefixed_keys() -> None:
    exchange = read(CONTENT_LENGTH=5, CONTENT_TYPE="text/x", HTTP_CONTENT_LENGTH="6", HTTP_CONTENT_TYPE="text/y")
    assert fields(exchange) == {b"content-length": b"5", b"content-type": b"text/x"}


def test_repeated_equal_content_length_appears_once_in_the_environ() -> None:
    environ = build_environ(exchange_of(b"/", (b"content-length", b"5"), (b"content-length", b"5")))
    assert environ["CONTENT_LENGTH"] == "5"


def test_field_value_of_one_request_does_not_appear_in_the_next_environ() -> None:
    environs = [build_environ(exchange_of(b"/", (b"x-same-names", value))) for value in (b"1", b"2")]
    assert [environ["HTTP_X_SAME_NAMES"] for environ in environs] == ["1", "2"]


def test_repeated_field_is_joined_in_the_environ_of_each_request() -> None:
    for _ in range(2):
        environ = build_environ(exchange_of(b"/", (b"x-twice", b"1"), (b"x-twice", b"2")))
        assert environ["HTTP_X_TWICE"] == "1,2"


def test_environ_omits_a_field_with_an_underscore_in_its_name() -> None:
    for _ in range(2):
        environ = build_environ(exchange_of(b"/", (b"x-real-ip", b"good"), (b"x_real_ip", b"evil")))
        assert environ["HTTP_X_REAL_IP"] == "good"


def test_environ_is_built_when_the_cache_of_field_names_is_full() -> None:
    for number in range(_MOST_KEYS + 1):
        assert build_environ(exchange_of(b"/", (b"x-%d" % number, b"1")))[f"HTTP_X_{number}"] == "1"
    assert len(_KEYS) <= _MOST_KEYS


def test_long_field_names_are_not_cached() -> None:
    name = b"x" * (_KEYS_BYTES + 1)
    assert build_environ(exchange_of(b"/", (name, b"1")))["HTTP_" + name.decode().upper()] == "1"
    assert (name,) not in _KEYS


def test_environ_header_that_is_not_a_string_is_ignored() -> None:
    assert read(HTTP_X=3).headers == []


@pytest.mark.parametrize(
    ("environ", "length"),
    [
        ({}, 0),
        ({"CONTENT_LENGTH": ""}, 0),
        ({"CONTENT_LENGTH": "0"}, 0),
        ({"CONTENT_LENGTH": "7"}, 7),
        ({"CONTENT_LENGTH": "abc"}, UNREADABLE),
        ({"CONTENT_LENGTH": "-1"}, UNREADABLE),
        ({"CONTENT_LENGTH": "+1"}, UNREADABLE),
        ({"CONTENT_LENGTH": "٣"}, UNREADABLE),
        ({"CONTENT_LENGTH": "1" * 19}, UNREADABLE),
        ({"CONTENT_LENGTH": "7", "HTTP_TRANSFER_ENCODING": "chunked"}, 7),
        ({"HTTP_TRANSFER_ENCODING": "chunked"}, UNREADABLE),
        ({"HTTP_TRANSFER_ENCODING": "Chunked", "wsgi.input_terminated": True}, UNTIL_END),
        ({"wsgi.input_terminated": True, "REQUEST_METHOD": "POST", "SERVER_PROTOCOL": "HTTP/1.1"}, UNTIL_END),
        ({"wsgi.input_terminated": True, "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/2"}, UNTIL_END),
        ({"wsgi.input_terminated": True, "REQUEST_METHOD": "GET", "SERVER_PROTOCOL": "HTTP/1.1"}, 0),
    ],
)
def test_request_content_length_is_derived_from_the_environ(environ: dict[str, Any], length: int) -> None:
    assert content_length(environ) == length


def test_custom_environ_keys_of_the_wsgi_host_are_passed_on() -> None:
    own = object()
    environ = build_environ(read(REMOTE_USER="me", **{"test.own": own, "wsgi.run_once": True}))
    assert (environ["REMOTE_USER"], environ["test.own"], environ["wsgi.run_once"]) == ("me", own, False)


def test_value_in_one_environ_does_not_appear_in_the_request_from_the_next_environ() -> None:
    for value in ("a", "b"):
        exchange = read(HTTP_X=value, REMOTE_USER=value)
        assert (exchange.headers, exchange.endpoint.environ) == ([[b"x", value.encode()]], {"REMOTE_USER": value})


def test_full_environ_cache_does_not_change_the_converted_headers() -> None:
    for number in range(1000):
        assert read(**{f"HTTP_X_{number}": "a"}).headers == [[b"x-%d" % number, b"a"]]
    assert len(_SHAPES) <= 256


def test_environ_with_long_keys_is_not_cached() -> None:
    key = "HTTP_X" + "X" * 3000
    assert len(read(**{key: "a"}).headers) == 1
    assert (key,) not in _SHAPES


def test_environ_with_many_short_keys_is_not_cached() -> None:
    keys = tuple(f"HTTP_X{number}" for number in range(200))
    exchange_from_environ(dict.fromkeys(keys, ""), HTTPGateway(), None)
    assert keys not in _SHAPES


PASSING_ON = """
from uvicorn.interfaces.environ import exchange_from_environ
from uvicorn.core.exchange import HTTPGateway
import os
exchange = exchange_from_environ(dict(os.environ, HTTP_HOST="x"), HTTPGateway(), None)
print(exchange.endpoint.environ.get("SECRET"), exchange.endpoint.environ.get("REMOTE_USER"), exchange.headers)
"""


@pytest.mark.parametrize(
    ("cgi", "seen"),
    [
        ({}, "None None [[b'host', b'x']]"),
        # There the process's environment is the request's.
        ({"GATEWAY_INTERFACE": "CGI/1.1", "REMOTE_USER": "me"}, "hunter2 me [[b'host', b'x']]"),
    ],
)
def test_process_environment_reaches_the_application_only_under_CGI(cgi: dict[str, str], seen: str) -> None:
    environment = {"PATH": os.environ["PATH"], "SECRET": "hunter2", "HTTP_PROXY": "http://me:hunter2@proxy", **cgi}
    python = [sys.executable, "-c", PASSING_ON]
    assert subprocess.run(python, env=environment, stdout=subprocess.PIPE, text=True).stdout.strip() == seen


def test_custom_wsgi_environ_keys_are_kept_when_the_cache_is_full() -> None:
    own = {f"host.{number}": number for number in range(1000)}
    for _ in range(2):
        assert read(**own, **{"wsgi.later": 1}).endpoint.environ == own
