"""Options of other servers: translated to ours, ignored if they have no effect, or rejected with a reason."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.errors import ConfigError, LocalProtocolError
from uvicorn.wire.http1.encoder import encode_default_fields

#: Accepted values of `http` and `ws`. There is one implementation of each; the names are those of other servers.
HTTP_NAMES: Final = ("auto", "httptools")
WS_NAMES: Final = ("auto", "none", "websockets", "websockets-sansio")

#: Unsupported settings of other servers, each with the reason or the alternative.
REFUSED: Final = {
    "h11_max_incomplete_event_size": "not supported without h11; use max_request_line_bytes and max_header_bytes",
    "http2": "HTTP/2 is not supported; use a proxy in front that supports it",
    "callback_notify": "not supported; start a task in the application's startup",
}

# Settings of other servers that have no effect here.
_WITHOUT_EFFECT: Final = ("reset_contextvars", "timeout_notify")


def translate(http: str, ws: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return `settings` under our names. Raise ConfigError, with the reason, for an unsupported one."""
    for name, value, names in (("http", http, HTTP_NAMES), ("ws", ws, WS_NAMES)):
        if value not in names:
            raise ConfigError(
                f"{name}: expected one of {', '.join(names)}, got {value!r:.60}; there is only one implementation"
            )
    translated = dict(settings)
    for name, reason in REFUSED.items():
        if translated.pop(name, None):
            raise ConfigError(f"{name}: {reason}")
    for name in _WITHOUT_EFFECT:
        translated.pop(name, None)
    if translated.get("loop") == "none":
        # "none" elsewhere means the default event loop of asyncio.
        translated["loop"] = "asyncio"
    trusted = translated.get("forwarded_allow_ips")
    if isinstance(trusted, (list, tuple)):
        translated["forwarded_allow_ips"] = ",".join(trusted)
    if "ws_ping_interval" in translated and translated["ws_ping_interval"] is None:
        translated["ws_ping_interval"] = 0.0
    return translated


def checked_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[bytes, bytes], ...]:
    """Encode the fields that are added to every response. Raise ConfigError for an invalid one."""
    pairs: list[tuple[bytes, bytes]] = []
    try:
        pairs += ((name.strip().lower().encode("latin-1"), value.strip().encode("latin-1")) for name, value in headers)
        encode_default_fields(pairs)
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(f"headers: expected pairs of name and value, got {headers!r:.200}") from None
    except LocalProtocolError as error:
        raise ConfigError(f"headers: {error}") from None
    return tuple(pairs)


def load_environment(path: str | os.PathLike[str]) -> None:
    """Set those variables of an .env file that are not set yet. Raise ConfigError if the file cannot be read."""
    try:
        from dotenv import load_dotenv
    except ImportError:
        raise ConfigError("env_file needs python-dotenv; pip install python-dotenv") from None
    if not os.path.isfile(path):
        raise ConfigError(f"env_file: file not found: {os.path.abspath(path)!r}")
    load_dotenv(path)
