"""The only conversion between request heads and WSGI's environ (PEP 3333), both ways."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from uvicorn.errors import LocalProtocolError
from uvicorn.exchange import Endpoint, HTTPExchange, HTTPGateway
from uvicorn.types import Headers

# Common fields by their environ keys; others are made up when they come.
_COMMON_KEYS: Final = {
    name: "HTTP_" + name.decode().upper().replace("-", "_")
    for name in (
        b"accept accept-charset accept-encoding accept-language authorization cache-control connection cookie dnt "
        b"expect from host if-match if-modified-since if-none-match if-range if-unmodified-since origin pragma range "
        b"referer sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user te upgrade upgrade-insecure-requests "
        b"user-agent via x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip x-request-id x-requested-with"
    ).split()
} | {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}

# `Proxy:` would become HTTP_PROXY, which libraries take for the address of an outgoing proxy (httpoxy).
_NEVER: Final = frozenset((b"proxy",))

# What an environ says about the request itself; everything else in it is the host's own, and rides along.
_OF_THE_REQUEST: Final = frozenset(
    (
        "REQUEST_METHOD",
        "SCRIPT_NAME",
        "PATH_INFO",
        "QUERY_STRING",
        "CONTENT_TYPE",
        "CONTENT_LENGTH",
        "SERVER_NAME",
        "SERVER_PORT",
        "SERVER_PROTOCOL",
        "REMOTE_ADDR",
        "REMOTE_PORT",
        "REQUEST_URI",
        "RAW_URI",
    )
)

_CONTROLS: Final = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_STATUS: Final = re.compile(r"([2-5][0-9][0-9])(?: (.*))?")


def build_environ(exchange: HTTPExchange) -> dict[str, Any]:
    """The environ of a request, without the `wsgi.` keys that concern its content.

    Fields whose name has an underscore are left out: in environ they cannot be told from their dashed namesakes.
    """
    endpoint = exchange.endpoint
    template = endpoint.template
    if template is None:
        template = endpoint.template = _of_the_connection(endpoint)
    environ = {**exchange.host_environ, **template} if exchange.host_environ else template.copy()
    raw_path = exchange.raw_path
    path = exchange.path
    if path.isascii() and b"%" not in raw_path:
        path_info = path
    else:
        octets = unquote_to_bytes(raw_path)
        # Byte for byte what the client sent, unless somebody has given the message another path.
        path_info = (octets if octets.decode("utf-8", "replace") == path else path.encode()).decode("latin-1")
    script_name = template["SCRIPT_NAME"]
    if script_name and path_info.startswith(script_name):
        path_info = path_info[len(script_name) :]
    query = exchange.query_string.decode("latin-1")
    target = raw_path.decode("latin-1")
    environ["REQUEST_METHOD"] = exchange.method
    environ["PATH_INFO"] = path_info
    environ["QUERY_STRING"] = query
    environ["REQUEST_URI"] = environ["RAW_URI"] = f"{target}?{query}" if query else target
    environ["SERVER_PROTOCOL"] = "HTTP/" + exchange.http_version
    for name, value in exchange.headers:
        key = _COMMON_KEYS.get(name)
        if key is None:
            if b"_" in name or name in _NEVER:
                continue
            key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        if key in environ and key[:5] in ("HTTP_", "CONTE"):
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text
    return environ


def exchange_from_environ(
    environ: Mapping[str, Any], gateway: HTTPGateway, loop: asyncio.AbstractEventLoop
) -> HTTPExchange:
    """The exchange that an environ describes; to be called on the thread of `loop`."""
    script_name: str = environ.get("SCRIPT_NAME", "")
    path_info: str = environ.get("PATH_INFO", "")
    octets = (script_name + path_info).encode("latin-1") or b"/"
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    raw_path = raw.partition("?")[0].encode("latin-1", "replace")
    if not raw_path.startswith(b"/") or unquote_to_bytes(raw_path) != octets:
        raw_path = quote(octets, safe="/!$&'()*+,;=:@~").encode()
    query: str = environ.get("QUERY_STRING", "")
    target = raw_path + b"?" + query.encode("latin-1") if query else raw_path
    headers = [
        [key[5:].lower().replace("_", "-").encode("latin-1"), value.encode("latin-1")]
        for key, value in environ.items()
        if key.startswith("HTTP_") and isinstance(value, str)
    ]
    for key, name in (("CONTENT_TYPE", b"content-type"), ("CONTENT_LENGTH", b"content-length")):
        if environ.get(key):
            headers.append([name, environ[key].encode("latin-1")])
    endpoint = Endpoint(
        environ.get("wsgi.url_scheme", "http"),
        script_name.encode("latin-1").decode("utf-8", "replace"),
        _address(environ.get("SERVER_NAME"), environ.get("SERVER_PORT")),
        _address(environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT", "0")),
        loop,
    )
    exchange = HTTPExchange(
        gateway,
        endpoint,
        environ.get("REQUEST_METHOD", "GET"),
        target,
        environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
        headers,
        content_length(environ) != 0,
    )
    exchange.host_environ = {
        key: value
        for key, value in environ.items()
        if key not in _OF_THE_REQUEST and not key.startswith(("HTTP_", "wsgi."))
    }
    return exchange


def content_length(environ: Mapping[str, Any]) -> int:
    """Bytes of content that an environ announces; -1 if it ends where `wsgi.input` does."""
    declared = environ.get("CONTENT_LENGTH")
    if declared:
        return int(declared) if declared.isascii() and declared.isdigit() and len(declared) < 19 else 0
    terminated = environ.get("wsgi.input_terminated") or "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    return -1 if terminated else 0


def encode_response(status: object, headers: Iterable[Sequence[object]]) -> tuple[int, bytes, list[list[bytes]]]:
    """What `start_response` was given, as code, reason phrase and fields. LocalProtocolError if it cannot be."""
    match = _STATUS.fullmatch(status) if isinstance(status, str) else None
    if match is None:
        raise LocalProtocolError(f"start_response: expected a status such as '200 OK', got {status!r:.100}")
    try:
        code, reason = int(match[1]), (match[2] or "").encode("latin-1")
        return code, reason, [[name.encode("latin-1"), value.encode("latin-1")] for name, value in headers]  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):
        raise LocalProtocolError(
            f"start_response: expected headers as (name, value) pairs of latin-1 text, got {headers!r:.200}"
        ) from None


def decode_response(status: int, reason: bytes, headers: Headers, phrase: str) -> tuple[str, list[tuple[str, str]]]:
    """A response's head as `start_response` takes it; LocalProtocolError if a field is not fit for the wire."""
    text = reason.decode("latin-1") if reason else phrase
    if not isinstance(status, int) or not 200 <= status < 600 or _CONTROLS.search(text):
        raise LocalProtocolError(f"status: expected an int from 200 to 599, got {status!r:.40} {text!r:.100}")
    fields: list[tuple[str, str]] = []
    try:
        for name, value in headers:
            field = (bytes(name).decode("latin-1").lower(), bytes(value).decode("latin-1"))
            if _TOKEN.fullmatch(field[0]) is None or _CONTROLS.search(field[1]):
                raise LocalProtocolError(
                    f"header field: expected a token and a value without controls, got {field!r:.200}"
                )
            fields.append(field)
    except (TypeError, ValueError):
        raise LocalProtocolError(f"headers: expected [name, value] pairs of bytes, got {headers!r:.200}") from None
    return f"{status} {text}", fields


def _of_the_connection(endpoint: Endpoint) -> dict[str, Any]:
    host, port = endpoint.server or ("localhost", 443 if endpoint.scheme == "https" else 80)
    template: dict[str, Any] = {
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SCRIPT_NAME": endpoint.root_path.encode().decode("latin-1"),
        "REMOTE_ADDR": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": endpoint.scheme,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    if endpoint.client is not None:
        template["REMOTE_ADDR"], template["REMOTE_PORT"] = endpoint.client[0], str(endpoint.client[1])
    return template


def _address(host: Any, port: Any) -> tuple[str, int] | None:
    return (host, int(port)) if host and str(port).isdigit() else None
