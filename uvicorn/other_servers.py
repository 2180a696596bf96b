"""What users of other servers say in their words: accepted if it can be had here, refused with the reason if not."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

from uvicorn.errors import ConfigError, LocalProtocolError
from uvicorn.wire.http1.encoder import encode_default_fields

#: What `http` and `ws` may be: there is one implementation of each, and these are its names elsewhere.
HTTP_NAMES: Final = ("auto", "httptools")
WS_NAMES: Final = ("auto", "none", "websockets", "websockets-sansio")

#: Settings of other servers that are not to be had, with what is to be had instead.
REFUSED: Final = {
    "h11_max_incomplete_event_size": "requests are not parsed by h11; see max_request_line_bytes and max_header_bytes",
    "http2": "HTTP/2 is not spoken; leave it to a proxy in front",
    "callback_notify": "there is no such hook; an application's startup may start a task of its own",
}

# Settings of other servers that change nothing here.
_WITHOUT_EFFECT: Final = ("reset_contextvars", "timeout_notify")


def translate(http: str, ws: str, settings: dict[str, Any]) -> dict[str, Any]:
    """`settings` in our words. Raises ConfigError for what is refused, with the reason."""
    for name, value, names in (("http", http, HTTP_NAMES), ("ws", ws, WS_NAMES)):
        if value not in names:
            raise ConfigError(
                f"{name}: expected one of {', '.join(names)}, for there is one implementation; got {value!r:.60}"
            )
    translated = dict(settings)
    for name, reason in REFUSED.items():
        if translated.pop(name, None):
            raise ConfigError(f"{name}: {reason}")
    for name in _WITHOUT_EFFECT:
        translated.pop(name, None)
    if translated.get("loop") == "none":
        # The event loop that asyncio makes.
        translated["loop"] = "asyncio"
    trusted = translated.get("forwarded_allow_ips")
    if isinstance(trusted, (list, tuple)):
        translated["forwarded_allow_ips"] = ",".join(trusted)
    if "ws_ping_interval" in translated and translated["ws_ping_interval"] is None:
        translated["ws_ping_interval"] = 0.0
    return translated


def checked_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[bytes, bytes], ...]:
    """Fields that each response is to have, encoded. Raises ConfigError for what cannot be one."""
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
    """Set the variables of an .env file that are not set. Raises ConfigError if it cannot be read."""
    try:
        from dotenv import load_dotenv
    except ImportError:
        raise ConfigError("env_file needs python-dotenv; pip install python-dotenv") from None
    if not os.path.isfile(path):
        raise ConfigError(f"env_file: expected a file, found none at {os.path.abspath(path)!r}")
    load_dotenv(path)
