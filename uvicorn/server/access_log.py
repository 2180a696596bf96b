"""The access log, and warnings about clients."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Final, TypeAlias

from uvicorn.core.exchange import HTTPExchange

access_logger: Final = logging.getLogger("uvicorn.access")
server_logger: Final = logging.getLogger("uvicorn.error")

# The level of lines about each connection: `uvicorn.logging.TRACE_LOG_LEVEL`.
_TRACE: Final = 5

_LONGEST: Final = 1000
_LONGEST_METHOD: Final = 40

_HARMLESS: Final = re.compile(rb"[ !#-\[\]-~]*")
_ESCAPED: Final = [chr(c) if _HARMLESS.fullmatch(bytes([c])) else f"\\x{c:02x}" for c in range(256)]

# The most warnings about clients in one second. The next tick logs the number of the others.
_WARNINGS_A_SECOND: Final = 10


def printable(text: str | bytes) -> str:
    """Return `text` truncated and escaped for the log."""
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    cut = data[:_LONGEST]
    shown = cut.decode("ascii") if _HARMLESS.fullmatch(cut) else "".join(map(_ESCAPED.__getitem__, cut))
    return shown + "..." if len(data) > _LONGEST else shown


def peer_name(client: tuple[str, int] | None) -> str:
    """Return the client's address for the log."""
    if client is None:
        return "a local client"
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def trace(client: tuple[str, int] | None, event: str) -> None:
    """Log `event` at level TRACE."""
    if server_logger.isEnabledFor(_TRACE):
        server_logger.log(_TRACE, "%s - %s", peer_name(client), event)


def log_exchange(exchange: HTTPExchange, sent: int, seconds: float, outcome: str) -> None:
    """Log an ended exchange. `outcome` is empty for a complete response."""
    target, query = exchange.raw_path, exchange.query_string
    if query:
        target += b"?" + query
    milliseconds = seconds * 1000
    line = f'%s - "%s %s HTTP/%s" %d {sent} {milliseconds:.1f}ms'
    if outcome:
        # It may contain the text of an exception.
        outcome = printable(outcome)
        line += " (" + outcome.replace("%", "%%") + ")"
    method = exchange.method
    # Access formatters of other servers unpack five arguments.
    access_logger.info(
        line,
        peer_name(exchange.client),
        method if len(method) <= _LONGEST_METHOD else f"{method[:_LONGEST_METHOD]}...",
        printable(target),
        exchange.http_version,
        exchange.status,
        extra={"size": sent, "duration": milliseconds, "outcome": outcome or "complete"},
    )


#: Called with the exchange, its content bytes sent, its seconds, and the reason for an incomplete response.
AccessLog: TypeAlias = Callable[[HTTPExchange, int, float, str], None]


class ClientWarnings:
    """Logs at most ten warnings a second about clients."""

    def __init__(self) -> None:
        self._left = _WARNINGS_A_SECOND
        self._held_back = 0

    def warn(self, client: tuple[str, int] | None, what: str) -> None:
        """Log `what` as a warning about `client`."""
        if self._left:
            self._left -= 1
            server_logger.warning("%s %s", peer_name(client), what)
        else:
            self._held_back += 1

    def tick(self) -> None:
        """Log the number of suppressed warnings. Called once a second."""
        if self._held_back:
            server_logger.warning("suppressed %d more warnings about clients within a second", self._held_back)
            self._held_back = 0
        self._left = _WARNINGS_A_SECOND
