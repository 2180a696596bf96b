"""The text format of Prometheus, read by its own parser, and the sum over processes."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.helpers import GET, Conversation, until
from tests.routing.apps import channels_app, wsgi_app
from tests.routing.test_interface import get
from uvicorn import Mount, Route, Router, Shift, measurements
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.server import metrics
from uvicorn.server.context import ServerContext
from uvicorn.server.metrics import Snapshot, Totals, encoded, text_of
from uvicorn.utils import threaded

METRICS: Final = "127.0.0.1:0"
ENDED: Final = "uvicorn_processes_ended_total"


def samples(text: bytes) -> dict[str, float]:
    """Each sample of the text, as Prometheus reads it: its name and labels, and its value."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation.endswith("."), family.name
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sample.labels.items())
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found
            found[name] = sample.value
    return found


async def served(app: Any, *requests: bytes) -> ServerContext:
    """The state of a server that has answered these requests."""
    conversation = Conversation(app, metrics=METRICS)
    await conversation.interface.startup()
    for number, request in enumerate(requests, 1):
        conversation.send(request)
        await until(lambda number=number: len(conversation.responses()) == number)  # type: ignore[misc]
    await conversation.interface.shutdown(0)
    return conversation.context


async def values(app: Any, *requests: bytes) -> dict[str, float]:
    return samples(text_of((await served(app, *requests)).snapshot()))


async def test_request_metrics_have_the_labels_entry_and_kind_and_status() -> None:
    found = await values(Router(Route("/a/*", channels_app), default=wsgi_app), get("/a/x"), get("/b"), get("/c"))
    assert found["uvicorn_requests_total{entry=/a/*,kind=channels,status=2xx}"] == 1
    assert found["uvicorn_requests_total{entry=*,kind=wsgi,status=2xx}"] == 2


async def test_request_metrics_distinguish_the_two_applications_of_a_shift() -> None:
    found = await values(Router(Route("/a/*", Shift(wsgi_app, channels_app, weight=100))), get("/a/x"))
    assert found["uvicorn_requests_total{entry=/a/*,side=old,kind=wsgi,status=2xx}"] == 0
    assert found["uvicorn_requests_total{entry=/a/*,side=new,kind=channels,status=2xx}"] == 1


async def test_router_has_request_metrics_only_after_a_request_that_matches_no_route() -> None:
    table = Router(Route("/a", channels_app))
    assert not any("kind=router" in name for name in await values(table))
    found = await values(table, get("/b"))
    assert found["uvicorn_requests_total{entry=*,kind=router,status=4xx}"] == 1


async def test_last_bucket_of_the_duration_histogram_counts_all_requests() -> None:
    found = await values(channels_app, GET, GET, GET)
    buckets = [value for name, value in found.items() if "_duration_seconds_bucket" in name]
    assert buckets == sorted(buckets)
    assert found["uvicorn_request_duration_seconds_bucket{entry=*,kind=channels,le=+Inf}"] == 3
    assert found["uvicorn_request_duration_seconds_count{entry=*,kind=channels}"] == 3


async def test_route_without_requests_has_metrics_of_zero() -> None:
    found = await values(Router(Route("/a", channels_app), default=wsgi_app))
    assert found["uvicorn_requests_total{entry=/a,kind=channels,status=2xx}"] == 0


async def test_routes_with_the_same_name_share_one_request_counter() -> None:
    table = Router(Route("/a", channels_app, name="both"), Route("/b", channels_app, name="both"))
    found = await values(table, get("/a"), get("/b"))
    assert found["uvicorn_requests_total{entry=both,kind=channels,status=2xx}"] == 2


@pytest.mark.parametrize("name", ['quoted "name"', "back\\slash", "two\nlines", "ünïcode", "{curly}", "a,b=c"])
async def test_route_name_with_special_characters_is_escaped_in_the_metrics(name: str) -> None:
    context = await served(Router(Route("/a", channels_app, name=name)), get("/a"))
    [family, *_] = text_string_to_metric_families(text_of(context.snapshot()).decode())
    assert {sample.labels["entry"] for sample in family.samples} == {name}


async def test_lone_surrogate_in_a_route_name_is_replaced_in_the_metrics() -> None:
    found = await values(Router(Route("/a", channels_app, name="x\ud800")), get("/a"))
    assert found["uvicorn_requests_total{entry=x?,kind=channels,status=2xx}"] == 1


async def test_thread_pool_metrics_show_threads_and_refused_requests() -> None:
    found = await values(Router(Route("/a", wsgi_app, threads=2), default=wsgi_app), get("/a"))
    assert found["uvicorn_lane_threads{lane=/a}"] == 2
    assert found["uvicorn_lane_threads{lane=*}"] == 16
    assert found["uvicorn_lane_busy{lane=/a}"] == found["uvicorn_lane_waiting{lane=/a}"] == 0
    assert found["uvicorn_lane_refused_total{lane=/a}"] == 0


async def test_metrics_show_the_thread_count_of_a_threaded_application() -> None:
    def app(message: Any, channels: Any) -> None:
        channels["reply"].send({"status": 200, "content": b""})

    found = await values(Router(Route("/a", threaded(app, threads=3))), get("/a"))
    assert found["uvicorn_lane_threads{lane=/a}"] == 3


async def test_fallback_metric_exists_for_the_new_application_but_not_for_the_old_one() -> None:
    async def unknown(message: Any, channels: Any) -> None:
        await channels["reply"].send({"status": 404, "content": b""})

    shift = Shift(wsgi_app, unknown, weight=100, fallback=(404,))
    # An entry whose path ends like the label of a new side.
    found = await values(Router(Route("/a", shift), Route("/forum/new", wsgi_app), default=wsgi_app), get("/a"))
    fallbacks = {name: value for name, value in found.items() if "fallbacks" in name}
    assert fallbacks == {"uvicorn_fallbacks_total{entry=/a,side=new,kind=channels}": 1}


async def test_websocket_thread_metrics_exist_only_for_a_wsgi_application() -> None:
    threads = {name: value for name, value in (await values(wsgi_app)).items() if "websocket_threads" in name}
    assert threads == {
        "uvicorn_websocket_threads": 200,
        "uvicorn_websocket_threads_busy": 0,
        "uvicorn_websocket_threads_refused_total": 0,
    }
    assert not any("websocket_threads" in name for name in await values(channels_app))


async def test_route_without_requests_has_a_zero_counter_for_each_status_class() -> None:
    found = await values(Router(Route("/a", channels_app)))
    assert {name: value for name, value in found.items() if "requests_total{" in name} == {
        f"uvicorn_requests_total{{entry=/a,kind=channels,status={status}}}": 0
        for status in ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
    }


async def test_metrics_count_connections_and_processes() -> None:
    found = await values(channels_app, GET)
    assert found["uvicorn_connections"] == found["uvicorn_connections_total"] == found["uvicorn_processes"] == 1


async def test_loop_lag_metric_is_the_longest_delay_in_the_last_minute() -> None:
    conversation = Conversation(channels_app, metrics=METRICS)
    for late, seconds in ((2.5, 0), (0, 59), (0, 1)):
        conversation.clock.seconds += late
        conversation.clock.advance(seconds or 1)
        lag = samples(text_of(conversation.context.snapshot()))["uvicorn_loop_lag_seconds"]
        assert lag == (2.5 if seconds != 1 else 0)


async def test_metrics_count_a_published_broadcast_message() -> None:
    async def publishing(message: Any, channels: Any) -> None:
        await channels["groups"].send({"group": "g", "send": {"text": "hello"}})
        await channels["reply"].send({"status": 200, "content": b""})

    conversation = Conversation(BroadcastMiddleware(publishing, url="memory://"), metrics=METRICS)
    await conversation.interface.startup()
    conversation.send(GET)
    await until(lambda: len(conversation.responses()) == 1)
    found = samples(text_of(conversation.context.snapshot()))
    await conversation.interface.shutdown(0)
    assert found["uvicorn_broadcast_published_total"] == 1
    assert found["uvicorn_broadcast_connected"] == 1


def test_each_broadcast_counter_and_gauge_has_a_metric() -> None:
    counters, gauges = measurements.sources["broadcast"]()
    text = text_of(Snapshot({"broadcast": {"": [1] * 6}}, {"broadcast": {"": [1] * 2}}, {}))
    assert {f"uvicorn_{name}" for name in (*counters, *gauges)} == samples(text).keys()


async def totals_of_two() -> Totals:
    table = Router(Mount("/a", channels_app), default=wsgi_app)
    totals = Totals()
    totals.update(1, (await served(table, get("/a"))).snapshot())
    totals.update_from(2, encoded((await served(table, get("/a"), get("/b"))).snapshot()))
    return totals


REQUESTS_A: Final = "uvicorn_requests_total{entry=/a,kind=channels,status=2xx}"
REQUESTS_B: Final = "uvicorn_requests_total{entry=*,kind=wsgi,status=2xx}"


async def test_metrics_of_two_processes_are_added_up() -> None:
    found = samples((await totals_of_two()).text())
    assert (found[REQUESTS_A], found[REQUESTS_B]) == (2, 1)
    assert found["uvicorn_request_duration_seconds_count{entry=/a,kind=channels}"] == 2
    assert found["uvicorn_processes"] == found["uvicorn_connections"] == 2


async def test_metrics_keep_counters_and_drop_gauges_of_an_ended_process() -> None:
    totals = await totals_of_two()
    totals.end(2)
    found = samples(totals.text())
    assert (found[REQUESTS_A], found[REQUESTS_B]) == (2, 1)
    assert found["uvicorn_processes"] == found["uvicorn_connections"] == 1


async def test_later_snapshot_of_a_process_replaces_the_earlier_snapshot() -> None:
    totals = await totals_of_two()
    totals.update(2, totals.sum())
    assert samples(totals.text())[REQUESTS_A] == 3


async def test_loop_lag_metric_of_several_processes_shows_the_longest_lag() -> None:
    totals = Totals()
    for process, lag in enumerate((0.25, 0.5, 0.125)):
        totals.update(process, Snapshot({}, {}, {"server": {"": [lag]}}))
    assert samples(totals.text())["uvicorn_loop_lag_seconds"] == 0.5


@pytest.mark.parametrize("section", range(3), ids=["counters", "gauges", "peaks"])
async def test_worker_metrics_in_the_format_of_another_version_are_ignored(section: int) -> None:
    totals = await totals_of_two()
    later = json.loads(encoded((await served(wsgi_app, get("/"))).snapshot()))
    for rows in later[section].values():
        for row in rows.values():
            row.append(1)
    later[section]["new group"] = {"": [1]}
    totals.update_from(3, json.dumps(later))
    assert samples(totals.text())[REQUESTS_B] == (1 if section == 0 else 2)
    totals.end(3)
    assert samples(totals.text())[REQUESTS_B] == (1 if section == 0 else 2)


@pytest.mark.parametrize("line", ["", "{", "[]", "[1, 2]", "null", "[1, 2, 3]", "[{}, {}, {}, {}]"])
def test_malformed_metrics_line_from_a_worker_process_is_ignored(line: str) -> None:
    totals = Totals()
    totals.update_from(1, line)
    assert samples(totals.text()) == {ENDED: 0}


def test_process_that_ends_before_it_reports_metrics_counts_as_ended() -> None:
    totals = Totals()
    assert samples(totals.text()) == {ENDED: 0}
    totals.end(1)
    assert samples(totals.text()) == {ENDED: 1}


def test_metrics_text_is_rebuilt_only_after_a_new_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Snapshot] = []
    monkeypatch.setattr(metrics, "text_of", lambda snapshot: written.append(snapshot) or b"text")
    totals = Totals()
    for _ in range(2):
        totals.update(1, Snapshot({}, {}, {}))
        assert [totals.text(), totals.text()] == [b"text", b"text"]
    assert len(written) == 2


async def test_encoded_snapshot_of_a_process_has_no_line_break() -> None:
    line = encoded((await served(Router(Route("/a", channels_app, name="two\nlines")), get("/a"))).snapshot())
    assert "\n" not in line
    assert json.loads(line)
