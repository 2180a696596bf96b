"""Observers of ended responses: the access log, and the counts for reports and metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Protocol, TypeAlias

from uvicorn.core.counts import BOUNDS, BUCKETS, Counts
from uvicorn.core.exchange import COMPLETE, HTTPExchange
from uvicorn.server.access_log import AccessLog


class ObservedConnection(Protocol):
    """The attributes that observers read from a connection."""

    #: When the head of the request was complete.
    began: float
    #: The number of content bytes sent.
    content_sent: int
    #: The number of content bytes received.
    received: int
    #: Why the response was aborted.
    aborted: str


#: Called once for each response that has ended.
Observer: TypeAlias = Callable[[ObservedConnection, HTTPExchange], None]


def log_observer(log: AccessLog, monotonic: Callable[[], float]) -> Observer:
    """Return an observer that passes ended responses to `log`."""

    def observe(connection: ObservedConnection, exchange: HTTPExchange) -> None:
        if exchange.status:
            sent = connection.content_sent if exchange.method != "HEAD" else 0
            outcome = "" if exchange.state is COMPLETE else connection.aborted or "client disconnected"
            log(exchange, sent, monotonic() - connection.began, outcome)

    return observe


def counting_observer(counts: Counts, following: Observer | None, monotonic: Callable[[], float]) -> Observer:
    """Return an observer that counts ended responses and then calls `following`, another observer."""
    first = BOUNDS[0]

    def observe(connection: ObservedConnection, exchange: HTTPExchange) -> None:
        seconds = monotonic() - connection.began
        entry = exchange.endpoint.counts
        if entry is None:
            entry = exchange.endpoint.counts = counts.of(exchange.endpoint)
        entry.seconds += seconds
        if seconds <= first and exchange.status == 200 and exchange.method == "GET" and not exchange.has_content:
            entry.ordinary += 1
            entry.sent += connection.content_sent
            return
        # An application may send 404.0.
        entry.other_cells[int(exchange.status) // 100 * BUCKETS + bisect_left(BOUNDS, seconds)] += 1
        if exchange.method != "HEAD":
            entry.sent += connection.content_sent
        if exchange.has_content:
            entry.received += connection.received

    if following is None:
        return observe
    log = following

    def observe_and_log(connection: ObservedConnection, exchange: HTTPExchange) -> None:
        observe(connection, exchange)
        log(connection, exchange)

    return observe_and_log
