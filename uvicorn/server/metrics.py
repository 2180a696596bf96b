"""Prometheus metrics of all processes of a server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias, final

from uvicorn import measurements
from uvicorn.core.counts import BOUNDS, BUCKETS, CLASSES, Counts

#: Group to labels to numbers. The labels are text as in the output: `entry="/shop",kind="wsgi"`.
Section: TypeAlias = dict[str, dict[str, list[float]]]

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"

_CELLS: Final = CLASSES * BUCKETS

# Up to this status class, a count of 0 is shown: Prometheus ignores the first value of a new time series.
_USUAL_CLASSES: Final = 5


class Snapshot(NamedTuple):
    """The metrics of one or more processes."""

    #: Added up over all processes, also those that have ended.
    counters: Section
    #: Added up over the running processes.
    gauges: Section
    #: The highest number of all running processes.
    peaks: Section


class Metric(NamedTuple):
    name: str
    help: str
    #: A part of the labels of each sample. Rows without it have no sample.
    only: str = ""


_Columns: TypeAlias = Mapping[str, tuple[Metric, ...]]

#: The columns of each group. Those of `requests` in the counters stand behind the cells of the histogram.
_COUNTERS: Final = {
    "requests": (
        Metric("request_content_bytes_total", "Content bytes received, without request heads."),
        Metric("response_content_bytes_total", "Content bytes sent, without response heads."),
        Metric(
            "fallbacks_total",
            "Requests that the new side of a Shift has passed on to the old one.",
            'side="new"',
        ),
    ),
    "lanes": (Metric("lane_refused_total", "Requests answered with 503 because too many waited for a thread."),),
    "ws_threads": (
        Metric(
            "websocket_threads_refused_total", "Handshakes answered with 503 because too many threads serve WebSockets."
        ),
    ),
    "supervisor": (Metric("processes_ended_total", "Worker processes that have ended, for any reason."),),
    "server": (
        Metric("connections_total", "Connections accepted."),
        Metric("websocket_messages_received_total", "WebSocket messages received."),
    ),
    "broadcast": (
        Metric("broadcast_published_total", "Messages that the backend has accepted."),
        Metric("broadcast_publish_failures_total", "Messages that could not be published."),
        Metric("broadcast_delivered_total", "Messages sent to clients, one for each client."),
        Metric("broadcast_dropped_total", "Messages that slow or closed clients did not get."),
        Metric("broadcast_gaps_total", "Gap events reported to clients."),
        Metric("broadcast_reconnects_total", "Lost connections to the backend that were replaced."),
    ),
}
_GAUGES: Final = {
    "requests": (
        Metric("requests_in_flight", "Requests whose response is not complete."),
        Metric("websockets", "Open WebSockets."),
    ),
    "lanes": (
        Metric("lane_threads", "The most threads of a lane."),
        Metric("lane_busy", "Threads that run a call."),
        Metric("lane_waiting", "Requests that wait for a thread."),
    ),
    "ws_threads": (
        Metric("websocket_threads", "The most threads that serve WebSockets of WSGI applications."),
        Metric("websocket_threads_busy", "Threads that serve a WebSocket of a WSGI application."),
    ),
    "server": (
        Metric("connections", "Open connections."),
        Metric("processes", "Processes that serve and report."),
    ),
    "broadcast": (
        Metric("broadcast_members", "Clients of this server that are members of a group."),
        Metric("broadcast_connected", "Processes that are connected to the backend."),
    ),
}
_PEAKS: Final = {
    "server": (Metric("loop_lag_seconds", "The longest delay of a timer of an event loop in the last minute."),),
}
#: The columns and the Prometheus type of each section of a snapshot.
_SECTIONS: Final[Sequence[tuple[_Columns, str]]] = ((_COUNTERS, "counter"), (_GAUGES, "gauge"), (_PEAKS, "gauge"))

# A line of a worker above this size is dropped: a table of a thousand entries fits.
MAX_LINE_BYTES: Final = 1 << 20


def snapshot_of(counts: Counts, connections: int, accepted: int, messages: int, lag: float) -> Snapshot:
    """Return the metrics of this process."""
    counters: Section = {"requests": {}, "lanes": {}, "server": {"": [accepted, messages]}}
    gauges: Section = {"requests": {}, "lanes": {}, "server": {"": [connections, 1]}}
    for entry, running in counts.running().items():
        if not entry.is_shown:
            continue
        side = f'side="{entry.side}",' if entry.side else ""
        labels = f'entry="{escaped_label(entry.entry)}",{side}kind="{entry.kind}"'
        row = [*entry.cells, entry.seconds, entry.received, entry.sent, entry.fallbacks]
        _add(counters["requests"], labels, row)
        _add(gauges["requests"], labels, running)
    for name, lane in counts.lanes.items():
        labels = f'lane="{escaped_label(name)}"'
        _add(counters["lanes"], labels, [lane.refused])
        _add(gauges["lanes"], labels, [lane.threads, lane.running, lane.waiting])
    threads = counts.ws_threads
    if threads is not None:
        counters["ws_threads"] = {"": [threads.refused]}
        gauges["ws_threads"] = {"": [threads.most, threads.count]}
    for group, read in measurements.sources.items():
        offered = read()
        for section, columns, values in zip((counters, gauges), (_COUNTERS, _GAUGES), offered, strict=True):
            section[group] = {"": [values.get(metric.name, 0) for metric in columns[group]]}
    return Snapshot(counters, gauges, {"server": {"": [lag]}})


def escaped_label(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _add(rows: dict[str, list[float]], labels: str, row: Sequence[float]) -> None:
    known = rows.get(labels)
    rows[labels] = list(row) if known is None else [one + other for one, other in zip(known, row, strict=True)]


def _merge(total: Section, section: Section) -> None:
    for group, rows in section.items():
        for labels, row in rows.items():
            _add(total.setdefault(group, {}), labels, row)


@final
class Totals:
    """Combines the snapshots of several processes. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._latest: dict[int, Snapshot] = {}
        self._ended: Section = {}
        self._ended_processes = 0
        # The text until the next change, because any number of clients may ask for it.
        self._text: bytes | None = None

    def update(self, process: int, snapshot: Snapshot) -> None:
        """Replace the snapshot of a process. `process` is the process id."""
        with self._lock:
            self._latest[process] = snapshot
            self._text = None

    def update_from(self, process: int, line: str) -> None:
        """Decode `line` and call `update`. Ignore a malformed line."""
        try:
            self.update(process, _known_groups(Snapshot(*json.loads(line))))
        except (AttributeError, ValueError, TypeError):
            pass  # The last one counts until the next comes.

    def end(self, process: int) -> None:
        """Drop the snapshot of an ended process, except its counters."""
        with self._lock:
            self._text = None
            self._ended_processes += 1
            snapshot = self._latest.pop(process, None)
            if snapshot is not None:
                _merge(self._ended, snapshot.counters)

    def sum(self) -> Snapshot:
        """Return the combined numbers of all processes."""
        with self._lock:
            total = Snapshot({"supervisor": {"": [self._ended_processes]}}, {}, {})
            _merge(total.counters, self._ended)
            for snapshot in self._latest.values():
                _merge(total.counters, snapshot.counters)
                _merge(total.gauges, snapshot.gauges)
                for group, rows in snapshot.peaks.items():
                    highest = total.peaks.setdefault(group, {})
                    for labels, row in rows.items():
                        highest[labels] = list(map(max, row, highest.get(labels, row)))
            return total

    def text(self) -> bytes:
        """Return the metrics of all processes."""
        with self._lock:
            if self._text is None:
                self._text = text_of(self.sum())
            return self._text


def _known_groups(snapshot: Snapshot) -> Snapshot:
    # A worker of another version may send other groups.
    return Snapshot(
        *(
            {group: rows for group, rows in section.items() if _fits(rows, columns, group)}
            for (columns, _), section in zip(_SECTIONS, snapshot, strict=True)
        )
    )


def _fits(rows: dict[str, list[float]], columns: _Columns, group: str) -> bool:
    # In front of the other columns: the cells of the histogram, and the sum of its seconds.
    histogram = _CELLS + 1 if columns is _COUNTERS and group == "requests" else 0
    return all(len(row) == histogram + len(columns.get(group, ())) for row in rows.values())


def encoded(snapshot: Snapshot) -> str:
    """Encode `snapshot` as a line for `Totals.update_from`."""
    return json.dumps(snapshot, separators=(",", ":"))


def text_of(snapshot: Snapshot) -> bytes:
    """Return the metrics in the text format of Prometheus."""
    lines: list[str] = []
    requests = snapshot.counters.get("requests", {})
    lines += _family(
        Metric("requests_total", "Requests whose response has ended, by entry, kind and status class."),
        "counter",
        (
            (f'{labels},status="{f"{number}xx" if number else "none"}"', count)
            for labels, row in requests.items()
            for number in range(CLASSES)
            if (count := sum(row[number * BUCKETS : (number + 1) * BUCKETS])) or number <= _USUAL_CLASSES
        ),
    )
    lines += _histogram(
        Metric("request_duration_seconds", "Time from the end of the request head to the end of the response."),
        requests,
    )
    for (columns, kind), section in zip(_SECTIONS, snapshot, strict=True):
        for group, metrics in columns.items():
            rows = section.get(group, {})
            for number, metric in enumerate(metrics, -len(metrics)):
                samples = ((labels, row[number]) for labels, row in rows.items() if metric.only in labels)
                lines += _family(metric, kind, samples)
    return "".join(lines).encode("utf-8", "replace")


def _family(metric: Metric, kind: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    name = f"uvicorn_{metric.name}"
    is_first = True
    for labels, value in samples:
        if is_first:
            is_first = False
            yield f"# HELP {name} {metric.help}\n# TYPE {name} {kind}\n"
        yield f"{name}{{{labels}}} {value}\n" if labels else f"{name} {value}\n"


def _histogram(metric: Metric, rows: dict[str, list[float]]) -> Iterator[str]:
    name = f"uvicorn_{metric.name}"
    if rows:
        yield f"# HELP {name} {metric.help}\n# TYPE {name} histogram\n"
    for labels, row in rows.items():
        count: float = 0
        for number, bound in enumerate((*map(str, BOUNDS), "+Inf")):
            count += sum(row[number:_CELLS:BUCKETS])
            yield f'{name}_bucket{{{labels},le="{bound}"}} {count}\n'
        yield f"{name}_sum{{{labels}}} {row[_CELLS]}\n{name}_count{{{labels}}} {count}\n"
