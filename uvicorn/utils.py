"""The import path of the project's first documents: adapters, and what the early module had beside them.

The conversions are those of the adapters, laid open: one way to read an environ, and one to make it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from uvicorn.adapters import ASGIAdapter, WSGIAdapter
from uvicorn.adapters.asgi import exchange_from_message
from uvicorn.core.exchange import HTTPGateway
from uvicorn.interfaces.environ import build_environ, decode_response, encode_response, exchange_from_environ
from uvicorn.types import Headers, Message

__all__ = [
    "ASGIAdapter",
    "WSGIAdapter",
    "byte_headers_to_str_headers",
    "environ_to_message",
    "message_to_environ",
    "read_body",
    "status_code_to_status_line",
    "status_line_to_status_code",
    "str_headers_to_byte_headers",
]


def message_to_environ(message: Message) -> dict[str, Any]:
    """The environ (PEP 3333) of an `http.request` message, without `wsgi.input`, `wsgi.errors` and
    `wsgi.file_wrapper`, which are the host's to add. Fields whose name has an underscore are left out."""
    return build_environ(exchange_from_message(message, HTTPGateway(), has_content=False))


def environ_to_message(environ: Mapping[str, Any]) -> Message:
    """The `http.request` message of an environ, without content. What the host has put into environ besides the
    request is in the message's `environ`."""
    exchange = exchange_from_environ(environ, HTTPGateway(), None)
    endpoint = exchange.endpoint
    return {
        "channel": "http.request",
        "http_version": exchange.http_version,
        "method": exchange.method,
        "scheme": endpoint.scheme,
        "path": exchange.path,
        "raw_path": exchange.raw_path,
        "query_string": exchange.query_string,
        "root_path": endpoint.root_path,
        "headers": exchange.headers,
        "server": endpoint.server,
        "client": endpoint.client,
        "environ": endpoint.environ,
    }


def status_line_to_status_code(status: str) -> int:
    """`"404 Not Found"` as 404. LocalProtocolError if it is no status of a response."""
    return encode_response(status, ())[0]


def status_code_to_status_line(status: int) -> str:
    """404 as `"404 Not Found"`; a code that has no phrase of its own gets an empty one."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    return decode_response(status, b"", (), phrase)[0]


def str_headers_to_byte_headers(headers: Iterable[Sequence[str]]) -> list[list[bytes]]:
    """`start_response`'s headers as a message carries them. LocalProtocolError for one that is not fit for the wire."""
    return [[name.lower(), value] for name, value in encode_response("200 OK", headers)[2]]


def byte_headers_to_str_headers(headers: Headers) -> list[tuple[str, str]]:
    """A message's headers as `start_response` takes them. LocalProtocolError for one that is not fit for the wire."""
    return decode_response(200, b"", headers, "OK")[1]


async def read_body(message: Message, channels: dict[str, Any]) -> bytes:
    """All of a request's content, whether it is in the message, in the body channel, or begins in one and ends in
    the other. Raises ClientDisconnected if the client leaves before it is whole."""
    content: bytes = message.get("body", b"")
    if "body" in channels:
        pieces = [content]
        while True:
            chunk = await channels["body"].receive()
            pieces.append(chunk["content"])
            if not chunk.get("more_content", False):
                break
        content = b"".join(pieces)
    return content
