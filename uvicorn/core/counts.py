"""Counts requests for reports and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, final

from uvicorn.core.endpoint import Endpoint

if TYPE_CHECKING:
    from uvicorn.core.exchange import HTTPExchange

#: The upper bounds, in seconds, of the buckets for durations. One more bucket has the longer durations.
BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: The upper bound of the first bucket.
FIRST_BOUND: Final = BOUNDS[0]

#: The number of buckets.
BUCKETS: Final = len(BOUNDS) + 1

#: The number of status classes. Class 0 has exchanges without a response: the client has disconnected before it.
CLASSES: Final = 10

# The most paths whose fallbacks are counted separately, and the most characters of such a path: clients choose them.
_MOST_PATHS: Final = 1000
_LONGEST_PATH: Final = 200

#: The path that stands for all paths above the limit.
OTHER_PATHS: Final = "(other paths)"


class Place(NamedTuple):
    """The route to an application, through Routers, Mounts and Shifts."""

    #: The endpoint of its exchanges, or an equal one.
    endpoint: Endpoint
    #: The entry, as reports name it.
    entry: str = "*"
    #: The side of a Shift: `old` or `new`.
    side: str = ""
    #: The prefixes of the Mounts above.
    prefix: str = ""


class Lane(Protocol):
    """A pool of worker threads."""

    threads: int
    #: The number of jobs that were refused since the start.
    refused: int

    @property
    def running(self) -> int:
        """The number of threads that have a job."""

    @property
    def waiting(self) -> int:
        """The number of jobs that wait for a thread."""


class TakenThreads(Protocol):
    """The worker threads that serve WebSockets."""

    #: The most threads, and the number of threads.
    most: int
    count: int
    #: The number of rejected handshakes since the start.
    refused: int


@final
class EntryCounts:
    """The counts of the requests for one application."""

    __slots__ = ("_cells", "_sent", "buckets", "entry", "fallbacks", "first", "kind", "received", "seconds", "side")

    def __init__(self, place: Place, kind: str) -> None:
        self.entry = place.entry
        self.side = place.side
        self.kind = kind
        #: The requests since the last fold: by bucket and status, the content bytes that each response has sent.
        # To append them to a list takes half the time of increasing a count and a sum. The lists grow for one second.
        self.buckets: list[dict[int, list[int]]] = [{} for _ in range(BUCKETS)]
        #: The first of the buckets.
        self.first = self.buckets[0]
        self._cells = [0] * (CLASSES * BUCKETS)
        self._sent = 0
        #: The sum of the durations.
        self.seconds = 0.0
        #: The number of content bytes received.
        self.received = 0
        #: The number of requests that `new` has passed on to `old`.
        self.fallbacks = 0

    def fold(self) -> None:
        """Add the latest requests to the totals."""
        for number, statuses in enumerate(self.buckets):
            if statuses:
                for status, sent in statuses.items():
                    # `int`, because an application may send 404.0.
                    self._cells[int(status) // 100 * BUCKETS + number] += len(sent)
                    self._sent += sum(sent)
                statuses.clear()

    @property
    def cells(self) -> list[int]:
        """The numbers of requests by status class and duration."""
        self.fold()
        return self._cells.copy()

    @property
    def sent(self) -> int:
        """The number of content bytes sent."""
        self.fold()
        return self._sent

    @property
    def is_shown(self) -> bool:
        """Whether reports show these counts."""
        return self.kind not in ("router", "shift") or any(self.cells)


@final
class Counts:
    """The request counts of one server. For use on the event loop's thread."""

    def __init__(self) -> None:
        self.entries: list[EntryCounts] = []
        #: The time of day at which counting began.
        self.since = time.time()
        #: The pools of worker threads, by the first entry that uses them.
        self.lanes: dict[str, Lane] = {}
        #: The threads that serve WebSockets of WSGI applications. None if there is no such application.
        self.ws_threads: TakenThreads | None = None
        #: The number of fallbacks by entry and path.
        self.fallbacks: dict[tuple[str, str], int] = {}
        #: Returns the endpoint of each request and each WebSocket that is served now, and whether it is a WebSocket.
        self.served: Callable[[], Iterable[tuple[Endpoint, bool]]] = tuple
        #: Returns the metrics of this process as text, behind the content type. Set by the server.
        self.metrics: Callable[[], tuple[bytes, bytes]] = lambda: (b"", b"")
        self._places: dict[str, dict[object, EntryCounts]] = {}

    def add(self, place: Place, kind: str, lane: Lane | None = None) -> None:
        """Begin to count the requests for `place`."""
        counts = EntryCounts(place, kind)
        self.entries.append(counts)
        self._places.setdefault(place.endpoint.above, {})[place.endpoint.entry] = counts
        if lane is not None and lane not in self.lanes.values():
            # Two entries with the same name may have different pools.
            name = " ".join(filter(None, (place.entry, place.side)))
            self.lanes[name if name not in self.lanes else f"{name} ({len(self.lanes) + 1})"] = lane

    def fold(self) -> None:
        """Add the latest requests to the totals. Called once a second."""
        for entry in self.entries:
            entry.fold()

    def of(self, endpoint: Endpoint) -> EntryCounts:
        """Return the counts for exchanges with `endpoint`."""
        return self._places.get(endpoint.above, {}).get(endpoint.entry, self.entries[0])

    def fell_back(self, exchange: HTTPExchange) -> None:
        """Count a fallback to the old application of a Shift."""
        counts = self.of(exchange.endpoint)
        counts.fallbacks += 1
        key = counts.entry, exchange.path[:_LONGEST_PATH]
        if key not in self.fallbacks and len(self.fallbacks) >= _MOST_PATHS:
            key = counts.entry, OTHER_PATHS
        self.fallbacks[key] = self.fallbacks.get(key, 0) + 1

    def running(self) -> dict[EntryCounts, tuple[int, int]]:
        """Return the numbers of current requests and WebSockets for each entry."""
        found = dict.fromkeys(self.entries, (0, 0))
        for endpoint, is_websocket in self.served():
            counts = self.of(endpoint)
            requests, websockets = found[counts]
            found[counts] = (requests, websockets + 1) if is_websocket else (requests + 1, websockets)
        return found
