"""Converts requests to WSGI environs (PEP 3333), and back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from uvicorn import process_count
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway

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

# Keys of the request itself; all others are added by the host, and passed on.
_OF_THE_REQUEST: Final = (
    "REQUEST_METHOD SCRIPT_NAME PATH_INFO QUERY_STRING CONTENT_TYPE CONTENT_LENGTH SERVER_NAME SERVER_PORT "
    "SERVER_PROTOCOL REMOTE_ADDR REMOTE_PORT REQUEST_URI RAW_URI"
).split()

# Some hosts copy the environment of their process into each environ. Except under CGI, it is not passed on.
_OF_THE_PROCESS: Final = frozenset(() if "GATEWAY_INTERFACE" in os.environ else os.environ)

# Keys that look like header fields. Content-Type and Content-Length have keys without HTTP_; for proxy see `_key_of`.
_NOT_FIELDS: Final = frozenset(("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH", "HTTP_PROXY"))

# For each environ key: the name of its field, b"" if it is not passed on, _OWN if the host has added it. Unknown fields
# are not stored, because clients may invent any number of them.
_OWN: Final = b":"
_MEANINGS: Final[dict[str, bytes]] = (
    dict.fromkeys((key for key in _OF_THE_PROCESS if not key.startswith("HTTP_")), b"")
    | {key: name for name, key in _COMMON_KEYS.items()}
    | dict.fromkeys((*_OF_THE_REQUEST, *_NOT_FIELDS), b"")
)

_OF_CONTENT: Final = (("CONTENT_TYPE", b"content-type"), ("CONTENT_LENGTH", b"content-length"))

# The keys of an environ's fields, the names of these fields, the host's own keys, and the environ's _OF_CONTENT.
# A host's environs have few shapes. The cache is bounded, and cleared when full.
_Shape = tuple[list[str], tuple[bytes, ...], list[str], list[tuple[str, bytes]]]
_SHAPES: Final[dict[tuple[str, ...], _Shape]] = {}
_MOST_SHAPES: Final = 256
_SHAPE_LENGTH: Final = 2048
# A key costs 110 bytes besides its own and its field's name. Hosts have some 30 keys, and browsers send 20 fields.
_SHAPE_KEYS: Final = 128

# Cache of environ keys, by the names of the fields. Empty if a field is repeated or left out. Bounded, because clients
# may invent names. Without the cache, a request with 8 fields takes 0.3 us more.
_KEYS: Final[dict[tuple[bytes, ...], tuple[str, ...]]] = {}
_MOST_KEYS: Final = 512
_KEYS_BYTES: Final = 1024

#: Results of `content_length` other than a length: the content ends where `wsgi.input` ends, or its end is unknown.
UNTIL_END: Final = -1
UNREADABLE: Final = -2

_MOST_MEANINGS: Final = len(_MEANINGS) + 256

_MULTIPROCESS: Final = "wsgi.multiprocess"
_NOTHING: Final[Mapping[str, Any]] = {}


def build_environ(exchange: HTTPExchange, own: Mapping[str, Any] = _NOTHING) -> dict[str, Any]:
    """Build a WSGI environ without `wsgi.input`. Add the keys of `own`."""
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
    # `find`, because `in` first tries to convert b"%" to an int and discards a TypeError: 0.3 us.
    path_info = exchange.path if raw_path.find(b"%") < 0 else unquote_to_bytes(raw_path).decode("latin-1")
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
    names, values = exchange.fields
    keys = _KEYS.get(names)
    if keys is None:
        keys = _keys_of(names)
    if keys:
        for key, value in zip(keys, values):  # noqa: B905
            environ[key] = value.decode("latin-1")
        return environ
    for name, value in zip(names, values, strict=True):
        key = _key_of(name)
        if not key:
            continue
        text = value.decode("latin-1")
        if key in environ:
            if key[:5] != "HTTP_":
                # Two lengths or types must not be joined: the first one counts.
                continue
            text = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + text
        environ[key] = text
    return environ


def _key_of(name: bytes) -> str:
    key = _COMMON_KEYS.get(name)
    if key is not None:
        return key
    # A name with dashes would have the same key as a name with underscores. `Proxy:` would become HTTP_PROXY, which
    # libraries take for the address of an outgoing proxy (httpoxy).
    return "" if b"_" in name or name == b"proxy" else "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


def _keys_of(names: tuple[bytes, ...]) -> tuple[str, ...]:
    keys = tuple(map(_key_of, names))
    if "" in keys or len(set(keys)) < len(keys):
        keys = ()
    if len(names) <= _SHAPE_KEYS and sum(map(len, names)) <= _KEYS_BYTES:
        if len(_KEYS) >= _MOST_KEYS:
            _KEYS.clear()
        _KEYS[names] = keys
    return keys


def exchange_from_environ(
    environ: Mapping[str, Any], gateway: HTTPGateway, loop: asyncio.AbstractEventLoop | None, length: int | None = None
) -> HTTPExchange:
    """Create an exchange from `environ`. For use on the event loop's thread."""
    script_name, path = environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")
    query = environ.get("QUERY_STRING", "")
    target: str = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    keys, names, own, of_content = _shape_of(environ)
    try:
        values = [environ[key].encode("latin-1") for key in keys]
    except (AttributeError, UnicodeEncodeError):
        octets = [text_octets(environ[key]) if isinstance(environ[key], str) else None for key in keys]
        names = tuple(name for name, value in zip(names, octets, strict=True) if value is not None)
        values = [value for value in octets if value is not None]
    for key, name in of_content:
        if environ[key]:
            names += (name,)
            values.append(text_octets(str(environ[key])))
    scheme = environ.get("wsgi.url_scheme", "http")
    endpoint = Endpoint(
        scheme,
        text_octets(script_name).decode("utf-8", "replace") if script_name else "",
        _address(environ.get("SERVER_NAME"), environ.get("SERVER_PORT"), _default_port(scheme)),
        _address(environ.get("REMOTE_ADDR"), environ.get("REMOTE_PORT"), 0),
        loop,
    )
    endpoint.environ = _own_of(environ, own)
    return HTTPExchange(
        gateway,
        endpoint,
        environ.get("REQUEST_METHOD", "GET"),
        # Most paths have nothing in them that is quoted: 0.6 us less.
        target.encode()
        if target.isascii()
        and target[:1] == "/"
        and target == (f"{path}?{query}" if query else path)
        and not (script_name or "%" in path or "?" in path)
        else _target_of(script_name, path, query, target),
        environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
        (names, tuple(values)),
        (content_length(environ) if length is None else length) != 0,
    )


def _target_of(script_name: str, path: str, query: str, target: str) -> bytes:
    prefix, octets, query_octets = text_octets(script_name), text_octets(path), text_octets(query)
    if prefix and octets and not octets.startswith(b"/"):
        octets = b"/" + octets
    octets = prefix + octets or b"/"
    raw_path, mark, raw_query = text_octets(target).partition(b"?")
    decoded = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
    if decoded != octets or not raw_path.startswith(b"/") or not raw_path.isascii():
        raw_path, mark = quote(octets, safe="/!$&'()*+,;=:@~").encode(), b""
    if query_octets or raw_query:
        mark = b"?" if query_octets else b""
    return raw_path + mark + query_octets


def host_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of `environ` that the WSGI server has added."""
    return _own_of(environ, _shape_of(environ)[2])


def content_length(environ: Mapping[str, Any]) -> int:
    """Return the length of the request's content. UNTIL_END and UNREADABLE mean an unknown length."""
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
    """Parse a content-length of 1 to 18 digits. Return None for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


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
    server_port = str(_default_port(scheme) if port is None else port)
    keys = {"SERVER_PORT": server_port, "wsgi.url_scheme": scheme, "REMOTE_ADDR": ""}
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
    shape = fields, tuple(names), own, [(key, name) for key, name in _OF_CONTENT if key in environ]
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


def text_octets(text: Any) -> bytes:
    """Encode `text` as Latin-1 (PEP 3333), or as UTF-8 if necessary."""
    try:
        return text.encode("latin-1")  # type: ignore[no-any-return]
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace")  # type: ignore[no-any-return]


def _default_port(scheme: str) -> int:
    return 443 if scheme == "https" else 80


@lru_cache(1024, typed=True)
def _address(host: Any, port: Any, default_port: int) -> tuple[str, int] | None:
    if not host:
        return None
    number = parse_length(str(port))
    return host, default_port if number is None else number
