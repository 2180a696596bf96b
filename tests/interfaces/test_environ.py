"""The conversion between request heads and environ, both ways, without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.errors import LocalProtocolError
from uvicorn.fields import split_pairs
from uvicorn.interfaces.environ import (
    _SHAPES,
    _STATUSES,
    UNREADABLE,
    UNTIL_END,
    build_environ,
    content_length,
    decode_response,
    encode_response,
    exchange_from_environ,
    field_octets,
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
def test_client_without_a_port_in_the_environ_keeps_its_address(port: Any) -> None:
    exchange = read(REMOTE_ADDR="1.2.3.4", REMOTE_PORT=port)
    assert exchange.endpoint.client == ("1.2.3.4", 0)
    environ = build_environ(exchange)
    assert environ["REMOTE_ADDR"] == "1.2.3.4"
    assert "REMOTE_PORT" not in environ


def test_environ_of_a_unix_socket_has_neither_client_nor_port() -> None:
    environ = build_environ(exchange_of(server=("/run/app.sock", None)))
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REMOTE_ADDR"]) == ("/run/app.sock", "80", "")


@pytest.mark.parametrize("target", ["http://a.example/x%2Fy?q", "/other", "x", "%2Fx"])
def test_raw_uri_that_contradicts_the_environs_path_is_rebuilt_from_the_path(target: str) -> None:
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
def test_question_mark_without_a_query_is_kept_in_the_raw_uri(raw: str, query: str, target: str) -> None:
    environ = build_environ(read(RAW_URI=raw, PATH_INFO="/a", QUERY_STRING=query))
    assert (environ["REQUEST_URI"], environ["QUERY_STRING"]) == (target, query)


def test_raw_uri_that_matches_the_environs_path_is_kept() -> None:
    assert read(REQUEST_URI="/x%2fy?q", PATH_INFO="/x/y").raw_path == b"/x%2fy"


def test_environ_text_beyond_latin_1_is_encoded_as_utf_8() -> None:
    exchange = read(PATH_INFO="/€", QUERY_STRING="€", HTTP_X="€")
    assert (exchange.path, exchange.query_string) == ("/€", "€".encode())
    assert fields(exchange) == {b"x": "€".encode()}


def test_path_info_without_a_slash_is_joined_to_the_script_name() -> None:
    exchange = read(SCRIPT_NAME="/app", PATH_INFO="x")
    assert exchange.path == "/app/x"
    assert build_environ(exchange)["PATH_INFO"] == "/x"


def test_environ_fields_with_empty_values_are_kept() -> None:
    exchange = read(HTTP_X="")
    assert fields(exchange) == {b"x": b""}
    assert build_environ(exchange)["HTTP_X"] == ""


def test_content_length_and_type_are_read_from_their_own_environ_keys() -> None:
    exchange = read(CONTENT_LENGTH=5, CONTENT_TYPE="text/x", HTTP_CONTENT_LENGTH="6", HTTP_CONTENT_TYPE="text/y")
    assert fields(exchange) == {b"content-length": b"5", b"content-type": b"text/x"}


def test_environ_has_the_first_of_two_content_lengths() -> None:
    environ = build_environ(exchange_of(b"/", (b"content-length", b"5"), (b"content-length", b"5")))
    assert environ["CONTENT_LENGTH"] == "5"


def test_environ_value_that_is_not_text_is_not_a_header() -> None:
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
def test_content_length_of_an_environ_is_its_declared_length_or_its_kind(environ: dict[str, Any], length: int) -> None:
    assert content_length(environ) == length


def test_keys_that_the_host_added_to_environ_are_passed_on() -> None:
    own = object()
    environ = build_environ(read(REMOTE_USER="me", **{"test.own": own, "wsgi.run_once": True}))
    assert (environ["REMOTE_USER"], environ["test.own"], environ["wsgi.run_once"]) == ("me", own, False)


def test_environs_with_equal_keys_have_their_own_values() -> None:
    for value in ("a", "b"):
        exchange = read(HTTP_X=value, REMOTE_USER=value)
        assert (exchange.headers, exchange.endpoint.environ) == ([[b"x", value.encode()]], {"REMOTE_USER": value})


def test_environ_is_converted_after_more_key_sets_than_the_cache_holds() -> None:
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
def test_environment_variables_of_the_process_are_not_passed_on(cgi: dict[str, str], seen: str) -> None:
    environment = {"PATH": os.environ["PATH"], "SECRET": "hunter2", "HTTP_PROXY": "http://me:hunter2@proxy", **cgi}
    python = [sys.executable, "-c", PASSING_ON]
    assert subprocess.run(python, env=environment, stdout=subprocess.PIPE, text=True).stdout.strip() == seen


@pytest.mark.parametrize(
    "status",
    ["200\r\nx", "200 O\rK", "200 \0", "abc", "99 x", "199 x", "1000 x", "2000 x", "200 \u2603", 200, None, b"200"],
)
def test_malformed_wsgi_status_is_rejected(status: Any) -> None:
    with pytest.raises(LocalProtocolError, match="start_response: expected a status"):
        encode_response(status, [])


def test_repeated_wsgi_status_is_parsed_to_the_same_result() -> None:
    assert [encode_response("299 Odd", [])[:2] for _ in range(2)] == [(299, b"Odd")] * 2


def test_wsgi_status_is_parsed_after_more_statuses_than_the_cache_holds() -> None:
    for number in range(1000):
        assert encode_response(f"200 {number}", [])[1] == b"%d" % number
    assert len(_STATUSES) <= 256


@pytest.mark.parametrize(
    "field",
    [
        ("a b", "c"),
        ("", "c"),
        ("a:", "c"),
        ("é", "c"),
        ("a", "b\r\nc: d"),
        ("a", "\0"),
        ("a", "€"),
        ("a",),
        3,
        ("a", 3),
    ],
)
def test_malformed_wsgi_header_raises_in_start_response(field: Any) -> None:
    with pytest.raises(LocalProtocolError, match="start_response"):
        encode_response("200 OK", [field])


def test_malformed_wsgi_header_is_rejected_each_time() -> None:
    for _ in range(2):
        with pytest.raises(LocalProtocolError):
            encode_response("200 OK", [("a b", "c")])


def test_wsgi_header_value_may_be_any_latin_1_text_with_tabs() -> None:
    assert encode_response("404", [("X-A", "\tcaf\xe9\xa0")]) == (404, b"", [[b"X-A", b"\tcaf\xe9\xa0"]])


def test_wsgi_header_name_is_encoded_after_more_names_than_the_cache_holds() -> None:
    names = [f"x-{number}" for number in range(1000)]
    assert [name.decode() for name, value in encode_response("200 OK", [(name, "") for name in names])[2]] == names


@pytest.mark.parametrize("status", [199, 1000, "200", None])
def test_malformed_status_code_of_a_message_is_rejected(status: Any) -> None:
    with pytest.raises(LocalProtocolError, match="status: expected an int"):
        decode_response(status, b"", [], "")


@pytest.mark.parametrize("reason", ["Nope", b"a\nb", 5])
def test_malformed_reason_phrase_of_a_message_is_rejected(reason: Any) -> None:
    with pytest.raises(LocalProtocolError, match="status_text: expected bytes without controls, got"):
        decode_response(200, reason, [], "OK")


@pytest.mark.parametrize("field", [(b"content-length", 5), (5, b"x"), (b"content-length", 1 << 40)])
def test_number_as_a_header_of_a_message_is_rejected(field: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"headers: expected \[name, value\] pairs of bytes, got \[\("):
        decode_response(200, b"", [field], "OK")


@pytest.mark.parametrize("field", [(b"a b", b"c"), (b"a", b"\n"), ("a", "b"), (b"a",), 3])
def test_malformed_header_of_a_message_is_rejected(field: Any) -> None:
    with pytest.raises(LocalProtocolError):
        decode_response(200, b"", [field], "OK")


def test_header_name_of_a_message_is_decoded_after_more_names_than_the_cache_holds() -> None:
    names = [b"X-M-%d" % number for number in range(1000)]
    fields = decode_response(200, b"", [(name, b"") for name in names], "OK")[1]
    assert fields == [(name.decode().lower(), "") for name in names]


def test_environ_key_of_the_host_is_passed_on_after_more_keys_than_the_cache_holds() -> None:
    own = {f"host.{number}": number for number in range(1000)}
    for _ in range(2):
        assert read(**own, **{"wsgi.later": 1}).endpoint.environ == own


@pytest.mark.parametrize("part", [bytearray(b"x"), memoryview(b"x")])
def test_header_field_may_be_bytes_bytearray_or_memoryview(part: object) -> None:
    assert field_octets(part) == b"x"


@pytest.mark.parametrize("part", ["text", 5, None])
def test_header_field_that_is_not_bytes_raises_type_error(part: object) -> None:
    with pytest.raises(TypeError):
        field_octets(part)
