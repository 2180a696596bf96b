"""Counts of requests by entry."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from tests.helpers import GET, Conversation, read_body, settle, until
from tests.routing.apps import asgi3_app, channels_app, wsgi_app
from tests.routing.test_interface import get
from tests.websocket_client import WebSocketConversation
from uvicorn import Mount, Route, Router, Shift
from uvicorn.concurrency.worker_pool import WorkerPool
from uvicorn.core.counts import BOUNDS, BUCKETS, OTHER_PATHS, Counts, EntryCounts, Place
from uvicorn.core.endpoint import Endpoint
from uvicorn.core.exchange import HTTPExchange, HTTPGateway

METRICS: Final = "127.0.0.1:0"


async def never(message: Any, channels: Any) -> None:
    """Does not respond before the client has disconnected."""
    await asyncio.Event().wait()


def statuses(counts: EntryCounts) -> dict[str, int]:
    """The number of responses by status class."""
    cells = counts.cells
    sums = {f"{number}xx": sum(cells[number * BUCKETS : (number + 1) * BUCKETS]) for number in range(10)}
    return {name: count for name, count in sums.items() if count}


async def counted(app: Any, *requests: bytes, **settings: Any) -> list[tuple[str, str, str, dict[str, int]]]:
    """The entry, side, kind and statuses of all entries with requests, after these requests."""
    conversation = Conversation(app, metrics=METRICS, **settings)
    await conversation.interface.startup()
    for number, request in enumerate(requests, 1):
        conversation.send(request)
        await until(lambda number=number: len(conversation.responses()) == number)  # type: ignore[misc]
    await conversation.interface.shutdown(0)
    await conversation.lose()
    assert conversation.context.counts is not None
    return [
        (entry.entry, entry.side, entry.kind, statuses(entry))
        for entry in conversation.context.counts.entries
        if statuses(entry)
    ]


async def test_requests_are_not_counted_by_default() -> None:
    assert Conversation(channels_app).context.counts is None
    assert Conversation(channels_app).context.response_clock is None


async def test_requests_without_a_router_are_counted_under_one_route() -> None:
    assert await counted(wsgi_app, GET, GET) == [("*", "", "wsgi", {"2xx": 2})]


async def test_each_route_is_counted_with_its_kind_of_application() -> None:
    table = Router(Route("/a/*", channels_app), Route("/b", asgi3_app), default=wsgi_app)
    assert await counted(table, get("/a"), get("/a/x"), get("/b"), get("/c")) == [
        ("/a/*", "", "channels", {"2xx": 2}),
        ("/b", "", "asgi3", {"2xx": 1}),
        ("*", "", "wsgi", {"2xx": 1}),
    ]


async def test_unmatched_request_is_counted_for_the_router() -> None:
    assert await counted(Router(Route("/a", channels_app)), get("/b")) == [("*", "", "router", {"4xx": 1})]


async def test_requests_to_both_applications_of_a_shift_are_counted() -> None:
    shift = Shift(wsgi_app, channels_app, weight=50, key=lambda exchange: exchange.path)
    requests = [get(f"/a/{number}") for number in range(20)]
    found = await counted(Router(Route("/a/*", shift)), *requests)
    assert [entry[:3] for entry in found] == [("/a/*", "old", "wsgi"), ("/a/*", "new", "channels")]
    assert sum(entry[3]["2xx"] for entry in found) == 20


async def test_routes_below_mounts_are_counted_under_their_whole_path() -> None:
    shop = Router(Route("/cart/*", channels_app), Mount("/old", wsgi_app), default=asgi3_app)
    requests = get("/shop/cart/1"), get("/shop/old"), get("/shop/other")
    assert [entry[0] for entry in await counted(Router(Mount("/shop", shop)), *requests)] == [
        "/shop/cart/*",
        "/shop/old",
        "/shop",
    ]


async def test_router_mounted_twice_has_separate_counts_for_each_mount() -> None:
    inner = Router(Route("/x", channels_app))
    found = await counted(Router(Mount("/a", inner), Mount("/b", inner)), get("/a/x"), get("/b/x"), get("/b/x"))
    assert [(entry[0], entry[3]) for entry in found] == [("/a/x", {"2xx": 1}), ("/b/x", {"2xx": 2})]


async def test_routes_with_the_same_path_are_counted_under_different_names() -> None:
    table = Router(
        Route("/a", channels_app, methods=("GET",)),
        Route("/a", wsgi_app, host="b.example"),
        Route("/a", asgi3_app, name="the rest"),
    )
    from_b = get("/a").replace(b"host: x", b"host: b.example")
    found = await counted(table, get("/a"), get("/a", method=b"POST"), from_b)
    assert [entry[0] for entry in found] == ["GET,HEAD /a", "b.example/a", "the rest"]


async def test_request_whose_client_disconnects_is_counted_without_a_status() -> None:
    conversation = Conversation(never, metrics=METRICS)
    conversation.send(GET)
    await conversation.lose()
    counts = conversation.context.counts
    assert counts is not None
    assert statuses(counts.entries[0]) == {"0xx": 1}
    await conversation.interface.shutdown(0)


async def test_response_is_counted_once_if_the_client_disconnects_in_the_next_request() -> None:
    async def app(message: Any, channels: Any) -> None:
        if message["path"] == "/never":
            await asyncio.Event().wait()
        await channels["reply"].send({"status": 200, "content": b"1234567"})

    conversation = Conversation(app, metrics=METRICS)
    conversation.send(get("/"))
    await until(conversation.responses)
    conversation.send(get("/never"))
    await conversation.lose()
    counts = conversation.context.counts
    assert counts is not None
    assert (statuses(counts.entries[0]), counts.entries[0].sent) == ({"0xx": 1, "2xx": 1}, 7)
    await conversation.interface.shutdown(0)


async def test_content_bytes_of_requests_and_responses_are_counted() -> None:
    conversation = Conversation(wsgi_app, metrics=METRICS)
    conversation.send(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello")
    await until(lambda: len(conversation.responses()) == 1)
    counts = conversation.context.counts
    assert counts is not None
    entry = counts.entries[0]
    assert (entry.received, entry.sent) == (5, len(conversation.responses()[0].content))
    await conversation.interface.shutdown(0)


async def test_response_content_of_a_HEAD_request_is_not_counted() -> None:
    conversation = Conversation(channels_app, metrics=METRICS)
    conversation.send(get("/x", method=b"HEAD"))
    await settle()
    counts = conversation.context.counts
    assert counts is not None
    assert counts.entries[0].sent == 0


@pytest.mark.parametrize("seconds", [0, 1])
@pytest.mark.parametrize("status", [200, 204, 404])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_one_response_is_counted_once_with_status_duration_and_sent_bytes(
    method: str, status: int, seconds: int
) -> None:
    async def app(message: Any, channels: Any) -> None:
        conversation.clock.advance(seconds)
        await channels["reply"].send({"status": status, "content": b"" if status == 204 else b"1234567"})

    conversation = Conversation(app, metrics=METRICS)
    conversation.send(get("/x", method=method.encode()))
    await until(lambda: conversation.responses(method))
    counts = conversation.context.counts
    assert counts is not None
    [entry] = counts.entries
    bucket = BOUNDS.index(1.0) if seconds else 0
    assert [number for number, count in enumerate(entry.cells) if count] == [status // 100 * BUCKETS + bucket]
    assert (sum(entry.cells), entry.seconds) == (1, seconds)
    assert entry.sent == (0 if method == "HEAD" or status == 204 else 7)


@pytest.mark.parametrize("status", [204, 304])
async def test_content_is_not_counted_if_the_response_status_forbids_it(status: int) -> None:
    async def app(message: Any, channels: Any) -> None:
        await channels["reply"].send({"status": status, "content": b"1234567"})

    conversation = Conversation(app, metrics=METRICS)
    conversation.send(GET)
    await until(conversation.responses)
    counts = conversation.context.counts
    assert counts is not None
    assert counts.entries[0].sent == 0


async def test_periodic_cleanup_keeps_the_counts_of_requests() -> None:
    conversation = Conversation(channels_app, metrics=METRICS)
    conversation.send(GET * 3)
    await until(lambda: len(conversation.responses()) == 3)
    counts = conversation.context.counts
    assert counts is not None
    [entry] = counts.entries
    assert any(entry.buckets)
    conversation.context.tick()
    assert not any(entry.buckets)
    assert statuses(entry) == {"2xx": 3}


async def test_response_with_a_float_status_is_counted() -> None:
    async def app(message: Any, channels: Any) -> None:
        await channels["reply"].send({"status": 404.0, "content": b""})

    assert await counted(app, GET) == [("*", "", "channels", {"4xx": 1})]


async def test_content_bytes_of_a_GET_request_are_counted() -> None:
    async def reading(message: Any, channels: Any) -> None:
        await read_body(message, channels)
        await channels["reply"].send({"status": 200, "content": b""})

    conversation = Conversation(reading, metrics=METRICS)
    conversation.send(b"GET /x HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello")
    await until(conversation.responses)
    counts = conversation.context.counts
    assert counts is not None
    assert counts.entries[0].received == 5


async def test_request_duration_is_added_to_a_histogram_bucket_and_the_sum() -> None:
    async def slow(message: Any, channels: Any) -> None:
        conversation.clock.advance(3)
        await channels["reply"].send({"status": 200, "content": b""})

    conversation = Conversation(slow, metrics=METRICS)
    conversation.send(GET)
    await until(lambda: len(conversation.responses()) == 1)
    counts = conversation.context.counts
    assert counts is not None
    entry = counts.entries[0]
    assert [number for number, count in enumerate(entry.cells) if count] == [2 * BUCKETS + 11]
    assert entry.seconds == 3


async def test_open_request_is_counted_as_in_flight() -> None:
    conversation = Conversation(Router(Route("/a", never), default=wsgi_app), metrics=METRICS)
    await conversation.interface.startup()
    conversation.send(get("/a"))
    await settle()
    counts = conversation.context.counts
    assert counts is not None
    assert {entry.entry: count for entry, count in counts.running().items() if any(count)} == {"/a": (1, 0)}
    await conversation.lose()
    assert not any(map(any, counts.running().values()))
    await conversation.interface.shutdown(0)


async def test_open_websocket_is_counted_for_its_route() -> None:
    conversation = WebSocketConversation(Router(Route("/live", channels_app)), path="/live", metrics=METRICS)
    await conversation.open()
    counts = conversation.context.counts
    assert counts is not None
    assert {entry.entry: count for entry, count in counts.running().items() if any(count)} == {"/live": (0, 1)}
    await conversation.lose()


def test_worker_pool_shared_by_two_routes_is_named_after_the_first_route() -> None:
    counts, pool = Counts(), WorkerPool(1)
    for entry in ("/a", "/b"):
        counts.add(Place(Endpoint(), entry), "wsgi", pool)
    assert counts.lanes == {"/a": pool}


def test_second_worker_pool_with_the_same_name_gets_a_number() -> None:
    counts = Counts()
    for _ in range(2):
        counts.add(Place(Endpoint(), "/a"), "wsgi", WorkerPool(1))
    assert list(counts.lanes) == ["/a", "/a (2)"]


def fall_back(counts: Counts, path: str) -> None:
    counts.fell_back(HTTPExchange(HTTPGateway(), Endpoint(), "GET", path.encode(), "1.1", ((), ()), False))


def test_M50_fallbacks_are_counted_by_path() -> None:
    counts = Counts()
    counts.add(Place(Endpoint(), "/account/*"), "shift")
    for path in ("/account/avatar", "/account/avatar", "/account/name"):
        fall_back(counts, path)
    assert counts.fallbacks == {("/account/*", "/account/avatar"): 2, ("/account/*", "/account/name"): 1}


def test_M50_fallback_paths_beyond_a_thousand_share_one_count() -> None:
    counts = Counts()
    counts.add(Place(Endpoint()), "shift")
    for number in range(1500):
        fall_back(counts, f"/{number}")
    fall_back(counts, "/0")
    assert len(counts.fallbacks) == 1001
    assert counts.fallbacks["*", OTHER_PATHS] == 500
    assert counts.fallbacks["*", "/0"] == 2


def test_M50_fallback_path_is_truncated_to_200_characters() -> None:
    counts = Counts()
    counts.add(Place(Endpoint()), "shift")
    fall_back(counts, "/" * 60000)
    assert max(len(path) for _, path in counts.fallbacks) == 200


@pytest.mark.parametrize("weight", [0, 100])
async def test_M50_response_after_a_fallback_is_counted_for_the_old_application_only(weight: int) -> None:
    async def unknown(message: Any, channels: Any) -> None:
        await channels["reply"].send({"status": 404, "content": b""})

    conversation = Conversation(
        Router(Route("/a/*", Shift(wsgi_app, unknown, weight=weight, fallback=(404,)))), metrics=METRICS
    )
    await conversation.interface.startup()
    conversation.send(get("/a/x"))
    await until(lambda: len(conversation.responses()) == 1)
    counts = conversation.context.counts
    assert counts is not None
    assert counts.fallbacks == ({("/a/*", "/a/x"): 1} if weight else {})
    assert [(entry.side, statuses(entry)) for entry in counts.entries if any(entry.cells)] == [("old", {"2xx": 1})]
    await conversation.interface.shutdown(0)
