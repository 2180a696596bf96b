"""Conversion between exchanges and WSGI's environ and start_response (PEP 3333), both ways."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from uvicorn import process_count
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway
from uvicorn.errors import LocalProtocolError
from uvicorn.fields import has_controls, is_token
from uvicorn.types import Headers

# Environ keys of common fields; the keys of other fields are computed for each request.
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

# Keys of the request itself; all others are added by the host, and passed on.
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

# Some hosts copy the environment of their process, which may contain passwords, into each environ. It is not passed on,
# except under CGI, where the environment of the process describes the request.
_OF_THE_PROCESS: Final = frozenset(() if "GATEWAY_INTERFACE" in os.environ else os.environ)

# Keys that look like header fields. Content-Type and Content-Length have keys without HTTP_; for proxy see _NEVER.
_NOT_FIELDS: Final = frozenset(("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_PROXY"))

# For each environ key: the name of its field, b"" if it is not passed on, _OWN if the host has added it. New keys of
# hosts are stored here; keys of unknown fields are not, because clients may invent any number of them.
_OWN: Final = b":"
_MEANINGS: Final[dict[str, bytes]] = (
    dict.fromkeys((key for key in _OF_THE_PROCESS if not key.startswith("HTTP_")), b"")
    | {key: name for name, key in _COMMON_KEYS.items()}
    | dict.fromkeys((*_OF_THE_REQUEST, *_NOT_FIELDS), b"")
)

# The shape of an environ, from its keys: the keys of its fields, the names of these fields, and the host's own keys. A
# host's environs have few shapes. The cache is bounded in number and size, and cleared when full.
_Shape = tuple[list[str], tuple[bytes, ...], list[str]]
_SHAPES: Final[dict[tuple[str, ...], _Shape]] = {}
_MOST_SHAPES: Final = 256
_SHAPE_LENGTH: Final = 2048
# A key costs 110 bytes besides its own and its field's name. Hosts have some 30 keys, and browsers send 20 fields.
_SHAPE_KEYS: Final = 128

#: Results of `content_length` other than a length.
UNTIL_END: Final = -1
UNREADABLE: Final = -2

# Caches of checked statuses and field names, bounded because applications may send any number of them.
_STATUSES: Final[dict[str, tuple[int, bytes]]] = {}
_FIELD_NAMES: Final[dict[str, bytes]] = {}
_DECODED_NAMES: Final[dict[bytes, str]] = {}
_MOST_NAMES: Final = 256
_MEMO_LENGTH: Final = 64
_MOST_MEANINGS: Final = len(_MEANINGS) + 256

_MULTIPROCESS: Final = "wsgi.multiprocess"
_NOTHING: Final[Mapping[str, Any]] = {}

_STATUS: Final = re.compile(r"([2-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?")


def build_environ(exchange: HTTPExchange, own: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """Build the environ of a request, without the `wsgi.` keys that concern its content.

    `own` has the interface's keys, the same for all requests. Fields whose name has an underscore are left out, because
    their environ keys equal those of names with dashes.
    """
    endpoint = exchange.endpoint
    kept = endpoint.environ_template
    if kept is None or kept[0] is not own:
        kept = endpoint.environ_template = own, {**_of_the_connection(endpoint), **own}
    template = kept[1]
    environ = template.copy()
    if exchange.forwarded is not None:
        environ.pop("REMOTE_PORT", None)
        environ |= _of_the_client(endpoint, *exchange.forwarded)
    raw_path = exchange.raw_path
    # The bytes that the client sent; without percent-encoding they are those of the path.
    path_info = unquote_to_bytes(raw_path).decode("latin-1") if b"%" in raw_path else exchange.path
    script_name: str = template["SCRIPT_NAME"]
    if script_name and not exchange.root_path:
        environ["SCRIPT_NAME"] = ""
    elif script_name:
        if not path_info.startswith(script_name):
            # A root path that is not UTF-8 contains U+FFFD; its slashes are the same.
            script_name = "/".join(path_info.split("/", script_name.count("/") + 1)[: script_name.count("/") + 1])
            environ["SCRIPT_NAME"] = script_name
        path_info = path_info[len(script_name) :]
    environ["REQUEST_METHOD"] = exchange.method
    environ["PATH_INFO"] = path_info
    environ["QUERY_STRING"] = exchange.query_string.decode("latin-1")
    environ["REQUEST_URI"] = environ["RAW_URI"] = exchange.target.decode("latin-1")
    environ["SERVER_PROTOCOL"] = "HTTP/" + exchange.http_version
    for name, value in exchange.pairs or zip(*exchange.fields):  # noqa: B905
        key = _COMMON_KEYS.get(name)
        if key is None:
            if b"_" in name or name in _NEVER:
                continue
            key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        text = value.decode("latin-1")
        if key in environ:
            if key[:5] != "HTTP_":
                # Two lengths or types must not be joined: the first one counts.
                continue
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text
    return environ


def exchange_from_environ(
    environ: Mapping[str, Any], gateway: HTTPGateway, loop: asyncio.AbstractEventLoop | None
) -> HTTPExchange:
    """Create an exchange from an environ with possibly missing or invalid keys. Call it on the thread of `loop`."""
    script_name = _octets(environ.get("SCRIPT_NAME", ""))
    path_info = _octets(environ.get("PATH_INFO", ""))
    if script_name and path_info and not path_info.startswith(b"/"):
        path_info = b"/" + path_info
    octets = script_name + path_info or b"/"
    raw_path, mark, raw_query = _octets(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "").partition(b"?")
    decoded = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    if decoded != octets or not raw_path.startswith(b"/") or not raw_path.isascii():
        raw_path, mark = quote(octets, safe="/!$&'()*+,;=:@~").encode(), b""
    query = _octets(environ.get("QUERY_STRING", ""))
    if query or raw_query:
        mark = b"?" if query else b""
    keys, names, own = _shape_of(environ)
    values = [
        text.encode() if type(text := environ[key]) is str and text.isascii() else _octets_if_text(text) for key in keys
    ]
    if None in values:
        names = tuple(name for name, value in zip(names, values, strict=True) if value is not None)
    for key, name in (("CONTENT_TYPE", b"content-type"), ("CONTENT_LENGTH", b"content-length")):
        if environ.get(key):
            names += (name,)
            values.append(_octets(str(environ[key])))
    scheme = environ.get("wsgi.url_scheme", "http")
    endpoint = Endpoint(
        scheme,
        script_name.decode("utf-8", "replace"),
        _address(environ.get("SERVER_NAME"), environ.get("SERVER_PORT"), _default_port(scheme)),
        _address(environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT"), 0),
        loop,
    )
    endpoint.environ = _own_of(environ, own)
    return HTTPExchange(
        gateway,
        endpoint,
        environ.get("REQUEST_METHOD", "GET"),
        raw_path + mark + query,
        environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
        (names, tuple([value for value in values if value is not None])),
        content_length(environ) != 0,
    )


def host_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys that the host has added to an environ, without those of the request and of the process."""
    return _own_of(environ, _shape_of(environ)[2])


def content_length(environ: Mapping[str, Any]) -> int:
    """Return the content length of an environ, or UNTIL_END if the content ends where `wsgi.input` ends.

    UNREADABLE means content of unknown length: the host leaves chunked coding to the application, or passes on a
    malformed Content-Length.
    """
    declared = environ.get("CONTENT_LENGTH")
    if declared:
        length = parse_length(str(declared))
        return UNREADABLE if length is None else length
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    chunked = coding is not None and "chunked" in coding.lower()
    if not environ.get("wsgi.input_terminated"):
        return UNREADABLE if chunked else 0
    # Some hosts set the flag for requests without content too. A host may have removed the fields that announce content
    # in HTTP/1, but hardly for GET and HEAD.
    plain = environ.get("REQUEST_METHOD") in ("GET", "HEAD") and environ.get("SERVER_PROTOCOL", "").startswith("HTTP/1")
    return 0 if plain and not chunked else UNTIL_END


def parse_length(text: str) -> int | None:
    """Parse a content-length of 1 to 18 digits; return None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def encode_response(status: object, headers: Iterable[Sequence[Any]]) -> tuple[int, bytes, list[list[bytes]]]:
    """Convert the arguments of `start_response` to code, reason phrase and fields. Raises LocalProtocolError."""
    code, reason = (_STATUSES.get(status) if type(status) is str else None) or _checked_status(status)
    try:
        return (
            code,
            reason,
            [
                [
                    _FIELD_NAMES.get(name) or _checked_name(name),
                    # isprintable() is a fast check that most values pass.
                    value.encode("latin-1") if value.isprintable() else _checked_value(value),
                ]
                for name, value in headers
            ],
        )
    except (AttributeError, TypeError, ValueError):
        raise LocalProtocolError(
            f"start_response: expected headers as (name, value) pairs of latin-1 text, got {headers!r:.200}"
        ) from None


def decode_response(status: int, reason: bytes, headers: Headers, phrase: str) -> tuple[str, list[tuple[str, str]]]:
    """Convert a response's head to arguments of `start_response`. Raises LocalProtocolError for an invalid field."""
    if reason and (not isinstance(reason, bytes) or has_controls(reason)):
        raise LocalProtocolError(f"status_text: expected bytes without controls, got {reason!r:.100}")
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise LocalProtocolError(f"status: expected an int from 200 to 999, got {status!r:.40}")
    fields: list[tuple[str, str]] = []
    try:
        for name, value in headers:
            octets = name if type(name) is bytes else field_octets(name)
            text = (value if type(value) is bytes else field_octets(value)).decode("latin-1")
            if not text.isprintable() and has_controls(text.encode("latin-1")):
                raise LocalProtocolError(
                    f"header field: expected a value without controls, got {(octets, text)!r:.200}"
                )
            fields.append((_DECODED_NAMES.get(octets) or _decoded_name(octets), text))
    except (TypeError, ValueError):
        raise LocalProtocolError(f"headers: expected [name, value] pairs of bytes, got {headers!r:.200}") from None
    return f"{status} {reason.decode('latin-1') if reason else phrase}", fields


def field_octets(part: object) -> bytes:
    """Convert a field's name or value to bytes. Raises TypeError for other types, such as an int."""
    if not isinstance(part, (bytes, bytearray, memoryview)):
        raise TypeError(part)
    return bytes(part)


def _checked_status(status: object) -> tuple[int, bytes]:
    match = _STATUS.fullmatch(status) if isinstance(status, str) else None
    if match is None:
        raise LocalProtocolError(f"start_response: expected a status such as '200 OK', got {status!r:.100}")
    checked = int(match[1]), (match[2] or "").encode("latin-1")
    if len(_STATUSES) < _MOST_NAMES and len(match.string) <= _MEMO_LENGTH:
        _STATUSES[match.string] = checked
    return checked


def _checked_name(name: Any) -> bytes:
    # Characters beyond latin-1 become question marks, which a token must not contain.
    encoded: bytes = name.encode("latin-1", "replace")
    if not is_token(encoded):
        raise LocalProtocolError(f"start_response: expected a token as a header's name, got {name!r:.100}")
    if len(_FIELD_NAMES) < _MOST_NAMES:
        _FIELD_NAMES[name] = encoded
    return encoded


def _decoded_name(name: bytes) -> str:
    if not is_token(name):
        raise LocalProtocolError(f"header field: expected a token as its name, got {name!r:.100}")
    text = name.decode().lower()
    if len(_DECODED_NAMES) < _MOST_NAMES:
        _DECODED_NAMES[name] = text
    return text


def _checked_value(value: Any) -> bytes:
    encoded: bytes = value.encode("latin-1")
    if has_controls(encoded):
        raise LocalProtocolError(f"start_response: a header's value has a control character in it: {value!r:.100}")
    return encoded


def _of_the_connection(endpoint: Endpoint) -> dict[str, Any]:
    own = endpoint.environ or {}
    return {
        **own,
        "SERVER_NAME": endpoint.server[0] if endpoint.server is not None else "localhost",
        "SCRIPT_NAME": endpoint.root_path.encode().decode("latin-1"),
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        _MULTIPROCESS: process_count.are_several() or own.get(_MULTIPROCESS, False),
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        **_of_the_client(endpoint, endpoint.client, endpoint.scheme),
    }


def _of_the_client(endpoint: Endpoint, client: tuple[str, int] | None, scheme: str) -> dict[str, Any]:
    port = endpoint.server[1] if endpoint.server is not None else None
    keys = {
        "SERVER_PORT": str(_default_port(scheme) if port is None else port),
        "wsgi.url_scheme": scheme,
        "REMOTE_ADDR": "",
    }
    if client is not None:
        keys["REMOTE_ADDR"], port = client
        if port:
            keys["REMOTE_PORT"] = str(port)
    return keys


def _own_of(environ: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    own = {key: environ[key] for key in keys}
    if environ.get(_MULTIPROCESS):
        # The flag describes the host's processes, and so applies behind any number of adapters.
        own[_MULTIPROCESS] = True
    return own


def _shape_of(environ: Mapping[str, Any]) -> _Shape:
    keys = tuple(environ)
    shape = _SHAPES.get(keys)
    if shape is not None:
        return shape
    fields: list[str] = []
    names: list[bytes] = []
    own: list[str] = []
    for key in keys:
        meaning = _MEANINGS[key] if key in _MEANINGS else _meaning_of(key)
        if meaning is _OWN:
            own.append(key)
        elif meaning:
            fields.append(key)
            names.append(meaning)
    shape = fields, tuple(names), own
    if len(keys) <= _SHAPE_KEYS and sum(map(len, keys)) <= _SHAPE_LENGTH:
        if len(_SHAPES) >= _MOST_SHAPES:
            _SHAPES.clear()
        _SHAPES[keys] = shape
    return shape


def _meaning_of(key: str) -> bytes:
    if key.startswith("HTTP_"):
        # Names of fields are ASCII, so another key is not that of a field.
        return key[5:].lower().replace("_", "-").encode() if key.isascii() else b""
    meaning = b"" if key.startswith("wsgi.") else _OWN
    if len(_MEANINGS) < _MOST_MEANINGS:
        _MEANINGS[key] = meaning
    return meaning


def _octets(text: Any) -> bytes:
    """Encode a text of the environ as Latin-1 (PEP 3333), or as UTF-8 if it has other characters."""
    try:
        return text.encode("latin-1")  # type: ignore[no-any-return]
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")  # type: ignore[no-any-return]


def _octets_if_text(value: object) -> bytes | None:
    return _octets(value) if isinstance(value, str) else None


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


@lru_cache(1024, typed=True)
def _address(host: Any, port: Any, default_port: int) -> tuple[str, int] | None:
    if not host:
        return None
    number = parse_length(str(port))
    return host, default_port if number is None else number
