"""The observer of ended responses that writes the access log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from uvicorn.core.exchange import COMPLETE, HTTPExchange
from uvicorn.server.access_log import AccessLog


class ObservedConnection(Protocol):
    """The attributes that observers read from a connection."""

    #: The number of content bytes sent.
    content_sent: int
    #: The number of content bytes received.
    received: int
    #: Why the response was aborted.
    aborted: str


#: Called once for each response that has ended, with its duration in seconds.
Observer: TypeAlias = Callable[[ObservedConnection, HTTPExchange, float], None]


def log_observer(log: AccessLog) -> Observer:
    """Return an observer that passes ended responses to `log`."""

    def observe(connection: ObservedConnection, exchange: HTTPExchange, seconds: float) -> None:
        if exchange.status:
            outcome = "" if exchange.state is COMPLETE else connection.aborted or "client disconnected"
            log(exchange, connection.content_sent, seconds, outcome)

    return observe
