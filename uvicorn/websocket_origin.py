"""Whose pages may open a WebSocket: browsers send cookies along with any page's handshake (requirement E1)."""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address
from typing import Final

_ORIGIN: Final = re.compile(r"(?i:https?)://(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\\\s]+)(?::[0-9]*)?")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/?#@\\\s]+)(?::[0-9]*)?")


def is_allowed_origin(origin: str | None, host: str, allowed: Collection[str], checks_origin: bool) -> bool:
    """Whether a page of `origin` may open a websocket to `host`. Who is no browser sends none.

    `allowed` are the origins that may, `*` for any; if there are none, those of the host itself, unless
    `checks_origin` is false.
    """
    if origin is None or "*" in allowed:
        return True
    if allowed:
        return origin in allowed
    return not checks_origin or is_same_origin(origin, host)


def is_same_origin(origin: str, host: str) -> bool:
    """Whether a page of `origin` talks to the `host` that it came from.

    Ports do not count, since cookies, which is what a foreign page would abuse, know none either; and all names of
    the loopback interface are one host. A page without an origin to speak of (`null`) comes from nowhere.
    """
    from_origin = _ORIGIN.fullmatch(origin)
    from_host = _HOST.fullmatch(host)
    if from_origin is None or from_host is None:
        return False
    ours, theirs = from_host[1].lower(), from_origin[1].lower()
    return ours == theirs or (_is_loopback(ours) and _is_loopback(theirs))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
