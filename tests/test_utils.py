"""What the project's first documents import from `uvicorn.utils`."""

from __future__ import annotations

import asyncio
import io
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest

import uvicorn
from uvicorn import utils
from uvicorn.errors import ClientDisconnected, LocalProtocolError
from uvicorn.utils import (
    WSGIAdapter,
    byte_headers_to_str_headers,
    environ_to_message,
    message_to_environ,
    read_body,
    status_code_to_status_line,
    status_line_to_status_code,
    str_headers_to_byte_headers,
)


def environ_of(**more: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {"REMOTE_ADDR": "1.2.3.4", "REMOTE_PORT": "5", "REMOTE_USER": "me", **more}
    setup_testing_defaults(environ)
    return environ


def test_uvicorn_utils_exports_the_same_adapter_classes_as_uvicorn() -> None:
    assert (utils.ASGIAdapter, utils.WSGIAdapter) == (uvicorn.ASGIAdapter, uvicorn.WSGIAdapter)


def test_environ_to_message_gives_the_message_that_WSGIAdapter_sends() -> None:
    seen: list[dict[str, Any]] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        seen.append(message)
        await channels["reply"].send({"status": 200})

    environ = environ_of(SCRIPT_NAME="/app", PATH_INFO="/\xe9", QUERY_STRING="a=b", HTTP_X="1", CONTENT_TYPE="a/b")
    list(WSGIAdapter(app)(environ, lambda status, headers: None))
    assert environ_to_message(environ) == seen[0]


def test_environ_is_unchanged_after_a_conversion_to_a_message_and_back() -> None:
    environ = environ_of(
        SCRIPT_NAME="/app", PATH_INFO="/\xff%/b", QUERY_STRING="a=%20", HTTP_X_Y="1", CONTENT_TYPE="a/b"
    )
    back = message_to_environ(environ_to_message(environ))
    assert {key: back.get(key) for key in environ if not key.startswith("wsgi.")} == {
        key: value for key, value in environ.items() if not key.startswith("wsgi.")
    }


def test_message_with_few_keys_is_converted_to_an_environ() -> None:
    environ = message_to_environ({"method": "GET", "path": "/a b", "headers": [(b"Content-Type", b"a/b")]})
    assert (environ["PATH_INFO"], environ["RAW_URI"], environ["CONTENT_TYPE"]) == ("/a b", "/a%20b", "a/b")


def test_status_line_and_status_code_are_converted_into_each_other() -> None:
    assert status_line_to_status_code("404 Not Found") == 404
    assert status_code_to_status_line(404) == "404 Not Found"
    assert status_code_to_status_line(299) == "299 "


def test_text_headers_and_byte_headers_are_converted_into_each_other() -> None:
    assert str_headers_to_byte_headers([("X-A", "caf\xe9")]) == [[b"x-a", b"caf\xe9"]]
    assert byte_headers_to_str_headers([[b"x-a", b"caf\xe9"]]) == [("x-a", "caf\xe9")]


def test_conversion_of_an_invalid_status_or_header_raises() -> None:
    with pytest.raises(LocalProtocolError):
        str_headers_to_byte_headers([("x", "a\r\nb: c")])
    with pytest.raises(LocalProtocolError):
        byte_headers_to_str_headers([[b"x", b"a\r\nb: c"]])
    with pytest.raises(LocalProtocolError):
        status_line_to_status_code("OK")
    with pytest.raises(LocalProtocolError):
        status_code_to_status_line(99)


class Body:
    """A body channel that is read from a file."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    async def receive(self) -> dict[str, Any]:
        content = self._content.read(3)
        return {"content": content, "more_content": bool(content)}


@pytest.mark.parametrize(
    ("message", "channels", "content"),
    [
        ({}, {}, b""),
        ({"body": b"inline"}, {}, b"inline"),
        ({}, {"body": Body(b"channel")}, b"channel"),
        ({"body": b"inline, "}, {"body": Body(b"channel")}, b"inline, channel"),
    ],
)
def test_function_read_body_returns_the_whole_content(
    message: dict[str, Any], channels: dict[str, Any], content: bytes
) -> None:
    assert asyncio.run(read_body(message, channels)) == content


def test_function_read_body_raises_if_the_content_is_incomplete() -> None:
    raised: list[BaseException] = []

    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        try:
            await read_body(message, channels)
        except ClientDisconnected as error:
            raised.append(error)
            raise

    environ = environ_of(REQUEST_METHOD="POST", CONTENT_LENGTH="10", **{"wsgi.input": io.BytesIO(b"part")})
    list(WSGIAdapter(app)(environ, lambda status, headers: None))
    assert raised
