"""Log lines about clients: the access log, and a bounded number of warnings about faulty or slow clients.

Text from a client is escaped and truncated, so that it cannot end a line, control a terminal or fill the log.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from uvicorn.core.exchange import HTTPExchange

access_logger: Final = logging.getLogger("uvicorn.access")
server_logger: Final = logging.getLogger("uvicorn.error")

# Enough for any honest URL; the rest of a dishonest one is of no use to a reader.
_LONGEST: Final = 1000

# A token, so that nothing in it needs escaping.
_LONGEST_METHOD: Final = 40

_HARMLESS: Final = re.compile(rb"[ !#-\[\]-~]*")
_ESCAPED: Final = [chr(c) if _HARMLESS.fullmatch(bytes([c])) else f"\\x{c:02x}" for c in range(256)]

# So many warnings about clients in a second; the others are counted and summed up on the next tick.
_WARNINGS_A_SECOND: Final = 10


def printable(text: str | bytes) -> str:
    r"""Truncate `text` to 1,000 characters; escape quotes, backslashes and all but printable ASCII as `\xNN`."""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    cut = data[:_LONGEST]
    shown = cut.decode("ascii") if _HARMLESS.fullmatch(cut) else "".join(map(_ESCAPED.__getitem__, cut))
    return shown + "..." if len(data) > _LONGEST else shown


def peer_name(client: tuple[str, int] | None) -> str:
    """Return a client's name for log lines."""
    if client is None:
        return "a local client"
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def log_access(
    client: tuple[str, int] | None,
    method: str,
    raw_path: bytes,
    query_string: bytes,
    http_version: str,
    status: int,
    sent: int,
    seconds: float,
    outcome: str = "",
) -> None:
    """Log one line for a response that has ended.

    `sent` is the number of content bytes, `seconds` the duration, `outcome` why the response is incomplete, or empty.

    `record.args` has five values, client, method, target, HTTP version and status, because other servers' access
    formatters unpack exactly these. Size, duration and outcome are attributes of the record.
    """
    target = raw_path + b"?" + query_string if query_string else raw_path
    milliseconds = seconds * 1000
    line = f'%s - "%s %s HTTP/%s" %d {sent} {milliseconds:.1f}ms'
    if outcome:
        # It may be what an exception says.
        outcome = printable(outcome)
        line += " (" + outcome.replace("%", "%%") + ")"
    access_logger.info(
        line,
        peer_name(client),
        method if len(method) <= _LONGEST_METHOD else f"{method[:_LONGEST_METHOD]}...",
        printable(target),
        http_version,
        status,
        extra={"size": sent, "duration": milliseconds, "outcome": outcome or "complete"},
    )


def log_exchange(exchange: HTTPExchange, sent: int, seconds: float, outcome: str) -> None:
    """Log one line for an exchange whose response has ended."""
    log_access(
        exchange.client,
        exchange.method,
        exchange.raw_path,
        exchange.query_string,
        exchange.http_version,
        exchange.status,
        sent,
        seconds,
        outcome,
    )


#: Called with each exchange whose response has begun and ended, the bytes of its content that were sent, the seconds
#: it took, and why it is not complete (empty if it is).
AccessLog: TypeAlias = Callable[[HTTPExchange, int, float, str], None]


class ClientWarnings:
    """Logs at most ten warnings a second, so that a flood of bad requests does not flood the log."""

    def __init__(self) -> None:
        self._left = _WARNINGS_A_SECOND
        self._held_back = 0

    def warn(self, client: tuple[str, int] | None, what: str) -> None:
        """Log `what` about `client`, or count it if this second's ten have been logged."""
        if self._left:
            self._left -= 1
            server_logger.warning("%s %s", peer_name(client), what)
        else:
            self._held_back += 1

    def tick(self) -> None:
        """Log how many warnings were left out in the last second, and begin a new one."""
        if self._held_back:
            server_logger.warning("%d more clients were refused or dropped within a second", self._held_back)
            self._held_back = 0
        self._left = _WARNINGS_A_SECOND
