"""Checks the origin of WebSocket handshakes (E1)."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

_ORIGIN: Final = re.compile(r"(?i:https?)://(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\\\s]+)(?::[0-9]*)?")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\\\s]+)(?::[0-9]*)?")


# Without this check, any web page could open a WebSocket with the user's cookies.
def is_allowed_origin(origin: str | None, host: str, allowed: Collection[str], checks_origin: bool) -> bool:
    """Return whether a page of `origin` may open a WebSocket to `host`."""
    if origin is None or "*" in allowed:
        return True
    if allowed:
        return origin in allowed
    return not checks_origin or is_same_origin(origin, host)


def is_same_origin(origin: str, host: str) -> bool:
    """Compare the host names without ports. All loopback addresses are equal."""
    from_origin = _ORIGIN.fullmatch(origin)
    from_host = _HOST.fullmatch(host)
    if from_origin is None or from_host is None:
        return False
    # Browsers ignore ports for cookies.
    ours, theirs = from_host[1].lower(), from_origin[1].lower()
    return ours == theirs or (_is_loopback(ours) and _is_loopback(theirs))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
