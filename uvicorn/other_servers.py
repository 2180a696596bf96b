"""Translates, ignores or rejects options of other servers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from uvicorn.errors import ConfigError, LocalProtocolError
from uvicorn.settings import Settings
from uvicorn.wire.http1.encoder import encode_default_fields

if TYPE_CHECKING:
    from ssl import SSLContext

#: The accepted values of `http` and `ws`, with placeholder classes. There is one implementation of each protocol.
HTTP_PROTOCOLS: Final[dict[str, str | None]] = {
    "auto": "uvicorn.protocols.http.auto:AutoHTTPProtocol",
    "httptools": "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol",
    "h11": "uvicorn.protocols.http.h11_impl:H11Protocol",
    "zttp": "uvicorn.protocols.http.zttp_impl:ZttpProtocol",
}
WS_PROTOCOLS: Final[dict[str, str | None]] = {
    "auto": "uvicorn.protocols.websockets.auto:AutoWebSocketsProtocol",
    "none": None,
    "websockets": "uvicorn.protocols.websockets.websockets_impl:WebSocketProtocol",
    "websockets-sansio": "uvicorn.protocols.websockets.websockets_sansio_impl:WebSocketsSansIOProtocol",
    "wsproto": "uvicorn.protocols.websockets.wsproto_impl:WSProtocol",
}
#: The values that name our implementations.
_OURS: Final = frozenset(("auto", "httptools", "none", "websockets"))

#: Unsupported settings of other servers, each with the reason or the alternative.
REFUSED: Final = {"http2": "HTTP/2 is not supported; use a proxy in front that supports it"}


def translate(http: str | type, ws: str | type, settings: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Translate other servers' options. Return settings and log lines. Raises ConfigError."""
    notes = [*_implementation("http", http, [*HTTP_PROTOCOLS]), *_implementation("ws", ws, [*WS_PROTOCOLS])]
    translated = dict(settings)
    for name, reason in REFUSED.items():
        if translated.pop(name, None):
            raise ConfigError(f"unsupported setting {name!r}: {reason}")
    translated.pop("reset_contextvars", None)
    if translated.pop("h11_max_incomplete_event_size", None) is not None:
        notes.append("h11_max_incomplete_event_size has no effect; see max_request_line_bytes and max_header_bytes")
    if translated.get("loop") == "none":
        # "none" elsewhere means the default event loop of asyncio.
        translated["loop"] = "asyncio"
    if translated.get("loop") == "zuvloop":
        translated["loop"] = "auto"
        notes.append("loop 'zuvloop' has no effect; the event loop is uvloop if installed, otherwise asyncio's")
    root_path = translated.get("root_path")
    if isinstance(root_path, str) and root_path.endswith("/"):
        translated["root_path"] = root_path.rstrip("/")
        notes.append(f"root_path {root_path!r} means {translated['root_path']!r}: the trailing slash has no effect")
    trusted = translated.get("forwarded_allow_ips")
    if isinstance(trusted, (list, tuple)):
        translated["forwarded_allow_ips"] = ",".join(trusted)
    if "ws_ping_interval" in translated and translated["ws_ping_interval"] is None:
        translated["ws_ping_interval"] = 0.0
    return translated, notes


def _implementation(option: str, value: str | type, names: list[str]) -> list[str]:
    if value in names and value in _OURS:
        return []
    # Programs import classes of this package and pass them.
    module = value.__module__ if isinstance(value, type) else str(value).partition(":")[0]
    if value in names or module.startswith("uvicorn."):
        return [f"{option} {getattr(value, '__name__', value)!r:.100} has no effect; there is only one implementation"]
    raise ConfigError(
        f"{option}: expected one of {', '.join(names)}, got {value!r:.60}; other implementations are not supported"
    )


def checked_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[bytes, bytes], ...]:
    """Encode header fields for every response. Raises ConfigError."""
    pairs: list[tuple[bytes, bytes]] = []
    try:
        pairs += ((name.strip().lower().encode("latin-1"), value.strip().encode("latin-1")) for name, value in headers)
        encode_default_fields(pairs)
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(f"headers: expected pairs of name and value, got {headers!r:.200}") from None
    except LocalProtocolError as error:
        raise ConfigError(f"headers: a field is invalid: {error}") from None
    return tuple(pairs)


def load_environment(path: str | os.PathLike[str]) -> None:
    """Set environment variables from an .env file. Existing variables keep their values. Raises ConfigError."""
    try:
        from dotenv import load_dotenv
    except ImportError:
        raise ConfigError("env_file: python-dotenv is not installed; run pip install python-dotenv") from None
    if not os.path.isfile(path):
        raise ConfigError(f"env_file: file not found: {os.path.abspath(path)!r}")
    load_dotenv(path)


# Names that programs import from `uvicorn.config`: mostly to offer the values of an option as choices.
LoopFactoryType: TypeAlias = Literal["none", "auto", "asyncio", "uvloop", "zuvloop"]
HTTPProtocolType: TypeAlias = Literal["auto", "h11", "httptools", "zttp"]
WSProtocolType: TypeAlias = Literal["auto", "none", "websockets", "websockets-sansio", "wsproto"]
LifespanType: TypeAlias = Literal["auto", "on", "off"]
InterfaceType: TypeAlias = Literal["auto", "asgi3", "asgi2", "wsgi", "channels", "consumer"]
LIFESPAN: Final = {
    "auto": "uvicorn.lifespan.on:LifespanOn",
    "on": "uvicorn.lifespan.on:LifespanOn",
    "off": "uvicorn.lifespan.off:LifespanOff",
}
LOOP_FACTORIES: Final = {
    "none": None,
    "auto": "uvicorn.loops.auto:auto_loop_factory",
    "asyncio": "uvicorn.loops.asyncio:asyncio_loop_factory",
    "uvloop": "uvicorn.loops.uvloop:uvloop_loop_factory",
    "zuvloop": "uvicorn.loops.zuvloop:zuvloop_loop_factory",
}
#: Attributes of `Config` that return a placeholder class, with the keyword that chooses the class and its values.
PROTOCOL_CLASSES: Final = {"http_protocol_class": ("http", HTTP_PROTOCOLS), "ws_protocol_class": ("ws", WS_PROTOCOLS)}
#: The kinds of applications, with those that only this server has.
INTERFACES: Final = ["auto", "asgi3", "asgi2", "wsgi", "channels", "consumer"]
#: `ssl.PROTOCOL_TLS_SERVER`.
SSL_PROTOCOL_VERSION: Final = 17


def protocol_class(chosen: str | type | None, table: dict[str, str | None]) -> Any:
    """Return the protocol class for `chosen`. For 'none', return None."""
    from uvicorn.importer import import_from_string

    return import_from_string(table.get(chosen, chosen) if isinstance(chosen, str) else chosen)


def checked_context(context: Any) -> SSLContext:
    """Return `context`. Raises ConfigError if it is not an SSLContext."""
    from ssl import SSLContext

    if not isinstance(context, SSLContext):
        raise ConfigError(f"ssl_context_factory: expected an ssl.SSLContext, got {type(context).__name__}")
    return context


class UvicornDeprecationWarning(UserWarning):
    """A warning that users' filters may name. The server never issues it."""


def create_ssl_context(
    certfile: str | os.PathLike[str],
    keyfile: str | os.PathLike[str] | None,
    password: str | None,
    ssl_version: int,
    cert_reqs: int,
    ca_certs: str | os.PathLike[str] | None,
    ciphers: str | None,
    alpn_protocols: list[str] | None = None,
) -> SSLContext:
    """Return a TLS context for a server. Raises ConfigError."""
    from uvicorn.server.tls import build_ssl_context

    settings = Settings(
        ssl_certfile=os.fspath(certfile),
        ssl_keyfile=os.fspath(keyfile or ""),
        ssl_keyfile_password=password or "",
        ssl_version=ssl_version,
        ssl_cert_reqs=cert_reqs,
        ssl_ca_certs=os.fspath(ca_certs or ""),
        ssl_ciphers=ciphers or "",
    )
    context = build_ssl_context(settings)
    if context is None:
        raise ConfigError("create_ssl_context: expected a certificate file, got an empty name")
    if alpn_protocols:
        context.set_alpn_protocols(alpn_protocols)
    return context
