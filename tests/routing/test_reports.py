"""`report(token=...)`: its figures, as text and as JSON (rules K4 and M50)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.helpers import Response
from tests.routing.apps import channels_app, wsgi_app
from tests.routing.test_interface import get
from tests.routing.test_status import AUTHORIZED, TOKEN, responses
from uvicorn import Route, Router, Shift, process_count, report
from uvicorn.core.counts import BOUNDS, BUCKETS, Counts, Place
from uvicorn.core.endpoint import Endpoint
from uvicorn.routing.reports import figures_of, lines_of, quantile

JSON: Final = b"accept: application/json"
STATUS: Final = Route("/_status", report(token=TOKEN))


async def unknown(message: Any, channels: Any) -> None:
    """Knows no page."""
    await channels["reply"].send({"status": 404, "content": b""})


async def reported(*requests: bytes, accept: bytes = JSON) -> Response:
    """The report after these requests."""
    shift = Shift(wsgi_app, unknown, weight=100, fallback=(404,))
    table = Router(STATUS, Route("/account/*", shift), default=channels_app)
    *_, last = await responses(table, *requests, get("/_status", AUTHORIZED, accept))
    return last


async def test_K4_json_report_has_the_statuses_of_each_route_and_application() -> None:
    answer = await reported(get("/a"), get("/account/x"), get("/account/x", method=b"DELETE"))
    assert answer.header(b"content-type") == b"application/json"
    entries = json.loads(answer.content)["entries"]
    assert [(entry["entry"], entry.get("side"), entry["kind"], entry["statuses"]) for entry in entries] == [
        ("/_status", None, "report", {}),
        ("/account/*", "old", "wsgi", {"2xx": 1}),
        ("/account/*", "new", "channels", {"4xx": 1}),
        ("*", None, "channels", {"2xx": 1}),
    ]


async def test_K4_report_counts_the_request_for_the_report_as_in_flight() -> None:
    entries = json.loads((await reported()).content)["entries"]
    assert [entry["in_flight"] for entry in entries] == [1, 0, 0, 0]


async def test_M50_most_frequent_fallback_paths_are_reported_first() -> None:
    answer = await reported(get("/account/name"), *[get("/account/avatar")] * 3)
    assert json.loads(answer.content)["fallbacks"] == [
        {"entry": "/account/*", "path": "/account/avatar", "times": 3},
        {"entry": "/account/*", "path": "/account/name", "times": 1},
    ]


async def test_M50_text_report_lists_paths_that_fell_back_to_the_old_application() -> None:
    answer = await reported(get("/account/name"), *[get("/account/avatar")] * 31, accept=b"accept: */*")
    assert answer.content.decode().splitlines()[-2:] == [
        "answered by old although moved: /account/avatar 31 times",
        "answered by old although moved: /account/name once",
    ]


@pytest.mark.parametrize("accept", [b"x: y", b"accept: */*", b"accept: text/html,application/xhtml+xml"])
async def test_K4_report_is_plain_text_unless_the_client_accepts_json(accept: bytes) -> None:
    assert (await reported(accept=accept)).header(b"content-type") == b"text/plain; charset=utf-8"


def counts_of(*paths: str) -> Counts:
    counts = Counts()
    counts.add(Place(Endpoint(), "/a/*"), "wsgi")
    [entry] = counts.entries
    entry.buckets[0][200] = [0] * 90
    entry.buckets[9][200] = [0] * 8
    entry.buckets[BUCKETS - 1][500] = [0] * 2
    counts.fallbacks = {("/a/*", path): 1 for path in paths}
    return counts


def test_K4_text_report_has_one_line_per_route() -> None:
    _, _, headings, row = lines_of(figures_of(counts_of()))
    assert headings.split() == [
        *("entry", "side", "kind", "requests", "statuses", "in", "flight", "websockets", "p50", "p90", "p99")
    ]
    assert row.split() == [
        *("/a/*", "wsgi", "100", "98", "2xx,", "2", "5xx", "0", "0", "1", "ms", "1", "ms", ">", "30", "s"),
    ]


@dataclass
class Threads:
    most: int = 200
    count: int = 3
    refused: int = 1


def test_K4_report_shows_the_threads_that_serve_websockets() -> None:
    counts = counts_of()
    counts.ws_threads = Threads()
    figures = figures_of(counts)
    assert figures["websocket_threads"] == {"most": 200, "busy": 3, "refused": 1}
    assert list(lines_of(figures))[-1] == "threads that serve websockets: 3 of 200; rejected handshakes: 1"


def test_K4_text_report_omits_unused_websocket_threads() -> None:
    counts = counts_of()
    counts.ws_threads = Threads(count=0, refused=0)
    assert not any("websockets:" in line for line in lines_of(figures_of(counts)))


def test_K4_text_report_begins_with_process_and_start_time() -> None:
    counts = Counts()
    counts.since = 1_000_000_000.0
    assert next(lines_of(figures_of(counts))) == f"process {os.getpid()} since 2001-09-09T01:46:40Z"


def test_K4_text_report_notes_that_it_covers_one_of_4_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_count, "count", 4)
    assert next(lines_of(figures_of(Counts()))).endswith("; each of 4 processes reports its own requests")


def test_M50_text_report_lists_at_most_fifty_fallback_paths() -> None:
    lines = list(lines_of(figures_of(counts_of(*map(str, range(60))))))
    assert sum("although moved" in line for line in lines) == 50
    assert lines[-1] == "10 more paths; the JSON has all of them"


def test_M50_text_report_escapes_control_characters_of_a_path() -> None:
    *_, line = lines_of(figures_of(counts_of("/a\x1b[31m\n")))
    assert line == "answered by old although moved: /a\\x1b[31m\\n once"


@pytest.mark.parametrize(
    ("buckets", "share", "bound"),
    [
        ([1, 0, 0], 0.5, BOUNDS[0]),
        ([1, 1, 0], 0.5, BOUNDS[0]),
        ([1, 2, 0], 0.5, BOUNDS[1]),
        ([98, 1, 1], 0.99, BOUNDS[1]),
        ([97, 1, 2], 0.99, BOUNDS[2]),
        ([0] * BUCKETS, 0.5, None),
        ([0] * (BUCKETS - 1) + [1], 0.5, None),
    ],
)
def test_K4_reported_quantile_is_the_upper_bound_of_a_histogram_bucket(
    buckets: list[int], share: float, bound: float | None
) -> None:
    assert quantile(buckets, share) == bound
