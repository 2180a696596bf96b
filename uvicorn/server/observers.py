"""Observers of ended responses: the access log, and the counts for reports and metrics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Protocol, TypeAlias

from uvicorn.core.counts import BOUNDS, BUCKETS, FIRST_BOUND, Counts
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
            sent = connection.content_sent if exchange.method != "HEAD" else 0
            outcome = "" if exchange.state is COMPLETE else connection.aborted or "client disconnected"
            log(exchange, sent, seconds, outcome)

    return observe


def counting_observer(counts: Counts) -> Observer:
    """Return an observer that adds each observed response to `counts`."""

    def observe(connection: ObservedConnection, exchange: HTTPExchange, seconds: float) -> None:
        entry = exchange.endpoint.counts
        if entry is None:
            entry = exchange.endpoint.counts = counts.of(exchange.endpoint)
        entry.seconds += seconds
        bucket = 0 if seconds <= FIRST_BOUND else bisect_left(BOUNDS, seconds)
        # `int`, because an application may send 404.0.
        entry.other_cells[int(exchange.status) // 100 * BUCKETS + bucket] += 1
        if exchange.method != "HEAD":
            entry.sent += connection.content_sent
        if exchange.has_content:
            entry.received += connection.received

    return observe
