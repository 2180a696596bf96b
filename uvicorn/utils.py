"""Adapters, and functions that convert between WSGI and messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from uvicorn.adapters import ASGIAdapter, WSGIAdapter
from uvicorn.adapters.asgi import exchange_from_message
from uvicorn.core.exchange import HTTPGateway
from uvicorn.interfaces.channels import message_template
from uvicorn.interfaces.channels_threads import threaded
from uvicorn.interfaces.environ import build_environ, exchange_from_environ
from uvicorn.interfaces.wsgi_response import decode_response, encode_response
from uvicorn.types import Headers, Message

__all__ = [
    "ASGIAdapter", "WSGIAdapter", "byte_headers_to_str_headers", "environ_to_message", "message_to_environ",
    "read_body", "status_code_to_status_line", "status_line_to_status_code", "str_headers_to_byte_headers", "threaded",
]  # fmt: skip


def message_to_environ(message: Message) -> dict[str, Any]:
    """Convert a request message to an environ (PEP 3333). The caller adds `wsgi.input` and `wsgi.errors`."""
    return build_environ(exchange_from_message(message, HTTPGateway(), has_content=False))


def environ_to_message(environ: Mapping[str, Any]) -> Message:
    """Return the `http.request` message of an environ, without the content."""
    exchange = exchange_from_environ(environ, HTTPGateway(), None)
    endpoint = exchange.endpoint
    return message_template(endpoint) | {
        "http_version": exchange.http_version,
        "method": exchange.method,
        "path": exchange.path,
        "raw_path": exchange.raw_path,
        "query_string": exchange.query_string,
        "headers": exchange.headers,
    }


def status_line_to_status_code(status: str) -> int:
    """Convert `"404 Not Found"` to 404. Raises LocalProtocolError."""
    return encode_response(status, ())[0]


def status_code_to_status_line(status: int) -> str:
    """Convert 404 to `"404 Not Found"`. The phrase of an unknown code is empty."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    return decode_response(status, b"", (), phrase)[0]


def str_headers_to_byte_headers(headers: Iterable[Sequence[str]]) -> list[list[bytes]]:
    """Convert `start_response` headers to message headers. Raises LocalProtocolError."""
    return [[name.lower(), value] for name, value in encode_response("200 OK", headers)[2]]


def byte_headers_to_str_headers(headers: Headers) -> list[tuple[str, str]]:
    """Convert message headers to `start_response` headers. Raises LocalProtocolError."""
    return decode_response(200, b"", headers, "OK")[1]


async def read_body(message: Message, channels: Mapping[str, Any]) -> bytes:
    """Return the whole request content. Raises ClientDisconnected."""
    pieces = [message.get("body", b"")]
    more_content = "body" in channels
    while more_content:
        chunk = await channels["body"].receive()
        pieces.append(chunk["content"])
        more_content = chunk.get("more_content", False)
    return b"".join(pieces)
