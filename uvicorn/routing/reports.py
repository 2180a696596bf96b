"""`report` makes an application that shows statistics of a site's requests."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import accumulate
from time import gmtime, strftime
from typing import Any, Final

from uvicorn import process_count
from uvicorn.core.counts import BOUNDS, BUCKETS, CLASSES, Counts, EntryCounts
from uvicorn.escape import escaped
from uvicorn.routing.status import StatusEntry

_QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
_HEADINGS: Final = ("entry", "side", "kind", "requests", "statuses", "in flight", "websockets", *_QUANTILES)

# The most lines about fallbacks in the text.
_MOST_LINES: Final = 50


class Report(StatusEntry):
    name = "report"

    def response(self, counts: Counts, accept: str) -> tuple[bytes, bytes]:
        figures = figures_of(counts)
        if "application/json" in accept.lower():
            return b"application/json", json.dumps(figures).encode() + b"\n"
        return b"text/plain; charset=utf-8", "".join(f"{line}\n" for line in lines_of(figures)).encode()


def report(*, token: str) -> Report:
    """Return an application that shows request statistics of each entry.

    Example: `Route("/_status", report(token=...))`. Requests without `Authorization: Bearer <token>` get 404. The
    response is text, or JSON for `Accept: application/json`. Each worker process reports only its own requests.

    Raises ConfigError for a token that is too short or malformed.
    """
    return Report(token)


def figures_of(counts: Counts) -> dict[str, Any]:
    running = counts.running()
    threads = counts.ws_threads
    return {
        "process": os.getpid(),
        "processes": process_count.count or 1,
        "since": strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(counts.since)),
        "entries": [_entry(entry, *running[entry]) for entry in counts.entries if entry.is_shown],
        **(
            {"websocket_threads": {"most": threads.most, "busy": threads.count, "refused": threads.refused}}
            if threads is not None
            else {}
        ),
        "fallbacks": [
            {"entry": entry, "path": path, "times": times}
            for (entry, path), times in sorted(counts.fallbacks.items(), key=lambda item: -item[1])
        ],
    }


def _entry(entry: EntryCounts, in_flight: int, websockets: int) -> dict[str, Any]:
    cells = entry.cells
    statuses = [sum(cells[number * BUCKETS : (number + 1) * BUCKETS]) for number in range(CLASSES)]
    buckets = [sum(cells[number::BUCKETS]) for number in range(BUCKETS)]
    return {
        "entry": entry.entry,
        **({"side": entry.side} if entry.side else {}),
        "kind": entry.kind,
        "requests": sum(statuses),
        "statuses": {f"{number}xx" if number else "none": count for number, count in enumerate(statuses) if count},
        "in_flight": in_flight,
        "websockets": websockets,
        "fallbacks": entry.fallbacks,
        "seconds": {name: quantile(buckets, share) for name, share in _QUANTILES.items()},
    }


def quantile(buckets: list[int], share: float) -> float | None:
    """Return an upper bound of a quantile, or None if no bound is known."""
    total = sum(buckets)
    for bound, count in zip(BOUNDS, accumulate(buckets), strict=False):
        if total and count >= share * total:
            return bound
    return None


def lines_of(figures: dict[str, Any]) -> Iterator[str]:
    others = f"; each of {figures['processes']} processes reports its own requests" * (figures["processes"] > 1)
    yield f"process {figures['process']} since {figures['since']}{others}"
    yield ""
    yield from aligned([_HEADINGS, *map(_row, figures["entries"])])
    if (threads := figures.get("websocket_threads")) and (threads["busy"] or threads["refused"]):
        yield ""
        yield "threads that serve websockets: {busy} of {most}; rejected handshakes: {refused}".format(**threads)
    fallbacks = figures["fallbacks"]
    if fallbacks:
        yield ""
    for fallback in fallbacks[:_MOST_LINES]:
        times = f"{fallback['times']} times" if fallback["times"] > 1 else "once"
        yield f"answered by old although moved: {escaped(fallback['path'])} {times}"
    if len(fallbacks) > _MOST_LINES:
        yield f"{len(fallbacks) - _MOST_LINES} more paths; the JSON has all of them"


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Return the rows of a table as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        escaped(entry["entry"]),
        entry.get("side", ""),
        entry["kind"],
        str(entry["requests"]),
        ", ".join(f"{count} {name}" for name, count in entry["statuses"].items()),
        str(entry["in_flight"]),
        str(entry["websockets"]),
        *(_duration(bound, entry["requests"]) for bound in entry["seconds"].values()),
    )


def _duration(bound: float | None, requests: int) -> str:
    if not requests:
        return ""
    if bound is None:
        return f"> {BOUNDS[-1]:g} s"
    return f"{bound:g} s" if bound >= 1 else f"{bound * 1000:g} ms"
