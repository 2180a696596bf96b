"""Fallback of a Shift from the new application to the old one (rules M47, M48)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.test_routed import on_asgi, on_wsgi
from tests.helpers import Conversation, settle, until
from tests.routing.apps import KINDS, asgi3_app, channels_app, wsgi_app
from tests.routing.test_interface import answers, get
from tests.websocket_client import WebSocketConversation
from uvicorn import ASGI3Adapter, Route, Router, Shift, WSGIAdapter
from uvicorn.errors import ConfigError


async def channels_404(message: dict[str, Any], channels: dict[str, Any]) -> None:
    await channels["reply"].send({"status": 404, "content": b"new"})


async def channels_stream_404(message: dict[str, Any], channels: dict[str, Any]) -> None:
    await channels["reply"].send({"status": 404, "content": b"new", "more_content": True})
    await channels["reply"].send({"content": b"new"})


def consumer_404(message: dict[str, Any]) -> None:
    message["reply_channel"].send({"status": 404, "content": b"new"})


def wsgi_404(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("404 Not Found", [("set-cookie", "a=b")])
    return [b"new", b"new"]


async def asgi3_404(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"new"})


UNKNOWN = {
    "channels": channels_404,
    "channels stream": channels_stream_404,
    "consumer": consumer_404,
    "wsgi": wsgi_404,
    "asgi3": asgi3_404,
    "a Router": Router(Route("/elsewhere", channels_app)),
}


async def received(app: Any, *requests: bytes) -> bytes:
    """All bytes that the client gets for requests on one connection, the last of which closes it."""
    conversation = Conversation(app, date_header=False)
    await conversation.interface.startup()
    try:
        for number, request in enumerate(requests, 1):
            conversation.send(request)
            if b"HEAD" in request:
                await until(lambda number=number: conversation.received.count(b"HTTP/1.1") == number)  # type: ignore[misc]
            else:
                await until(lambda number=number: len(conversation.responses()) == number)  # type: ignore[misc]
        return conversation.received
    finally:
        await conversation.interface.shutdown(0)
        await conversation.lose()


@pytest.mark.parametrize("new", UNKNOWN)
@pytest.mark.parametrize("old", KINDS)
async def test_M48_fallback_sends_the_unchanged_response_of_the_old_application(old: str, new: str) -> None:
    requests = [get("/shop/a"), get("/shop/b"), get("/shop/c", method=b"HEAD")]
    alone = await received(Router(Route("/shop/*", KINDS[old])), *requests)
    shift = Shift(KINDS[old], UNKNOWN[new], weight=100, fallback=(404,))
    assert await received(Router(Route("/shop/*", shift)), *requests) == alone


async def asgi3_trailers(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})
        await send({"type": "http.response.trailers", "headers": [(b"x-a", b"b")]})


async def failing(message: dict[str, Any], channels: dict[str, Any]) -> None:
    raise LookupError("no database")


def file_app(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [("content-length", str(Path(__file__).stat().st_size))])
    return environ["wsgi.file_wrapper"](open(__file__, "rb"))


@pytest.mark.parametrize("app", [*KINDS.values(), asgi3_trailers, failing, file_app, channels_stream_404])
async def test_M48_shift_does_not_change_the_response_of_the_new_application(app: Any) -> None:
    requests = [get("/a", b"te: trailers"), get("/b", method=b"HEAD")]
    alone = await received(Router(default=app), *requests)
    assert await received(Router(default=Shift(wsgi_app, app, weight=100, fallback=())), *requests) == alone


@pytest.mark.parametrize("value", [b"1", b"0"])
async def test_M47_X_Uvicorn_Pass_header_of_the_new_application_causes_the_fallback(value: bytes) -> None:
    async def passing(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": 202, "headers": [[b"X-Uvicorn-Pass", value]]})

    shift = Shift(wsgi_app, passing, weight=100, fallback=())
    assert await answers(shift, get("/x")) == ([["wsgi", "", "/x"]] if value == b"1" else [202])


@pytest.mark.parametrize(
    "request_",
    [
        get("/x", b"content-length: 1") + b"a",
        get("/x", b"content-length: 0", method=b"POST"),
        get("/x", method=b"DELETE"),
    ],
    ids=["a GET with content", "a POST", "a DELETE"],
)
async def test_M47_only_a_GET_or_HEAD_request_without_content_falls_back(request_: bytes) -> None:
    assert await answers(Shift(wsgi_app, channels_404, weight=100, fallback=(404,)), request_) == [404]


@pytest.mark.parametrize("kind", KINDS)
async def test_M47_fallback_does_not_double_the_root_path_of_the_new_application(kind: str) -> None:
    shift = Shift(wsgi_404, KINDS[kind], weight=100, fallback=[404])
    found = await answers(shift, get("/shop/cart"), root_path="/base", root_path_cut="yes")
    assert found == [[kind, "/base", "/base/shop/cart"]]


async def test_M47_a_status_outside_the_fallback_list_is_sent_to_the_client() -> None:
    assert await answers(Shift(wsgi_app, channels_404, weight=100, fallback=(410,)), get("/x")) == [404]


async def test_M47_shift_without_a_fallback_sends_the_404_of_the_new_application() -> None:
    assert await answers(Shift(wsgi_app, channels_404, weight=100), get("/x")) == [404]


@pytest.mark.parametrize("fallback", [(401,), (403,), (404, 407), (429,), (500,), (503,), ("404",), (True,), "404"])
def test_M47_invalid_fallback_statuses_are_rejected(fallback: Any) -> None:
    with pytest.raises(
        ConfigError, match="^Shift: fallback: expected integer status codes from 200 to 499, except 401"
    ):
        Shift(wsgi_app, channels_app, fallback=fallback)


async def test_M47_a_websocket_does_not_fall_back() -> None:
    conversation = WebSocketConversation(Shift(asgi3_app, wsgi_404, weight=100, fallback=(404,)), path="/live")
    await conversation.open()
    assert conversation.response is None or conversation.response.status_code == 404
    await conversation.interface.shutdown(0)


@pytest.mark.parametrize(("reads", "seconds", "event"), [(True, 10, "http.disconnect"), (False, 0, "cancelled")])
async def test_M47_fallback_sends_http_disconnect_to_the_new_application_or_cancels_it(
    reads: bool, seconds: int, event: str
) -> None:
    events: list[str] = []

    async def endless(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"new", "more_body": True})
        if reads:
            await receive()
            events.append((await receive())["type"])
            return
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    shift = Shift(channels_app, endless, weight=100, fallback=(404,))
    conversation = Conversation(shift, timeout_disconnect=seconds)
    conversation.send(get("/x"))
    await until(lambda: events)
    await until(lambda: conversation.responses())
    assert events == [event]
    assert conversation.statuses == [200]


async def test_M47_new_application_gets_http_disconnect_when_the_client_leaves() -> None:
    events: list[str] = []

    async def waiting(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await receive()
            events.append("request")
            events.append((await receive())["type"])

    conversation = Conversation(Shift(channels_app, waiting, weight=100, fallback=(404,)))
    conversation.send(get("/x"))
    await until(lambda: events)
    await conversation.lose()
    await until(lambda: len(events) == 2)
    assert events == ["request", "http.disconnect"]


async def test_M47_old_application_is_not_called_after_a_disconnect() -> None:
    calls: list[str] = []
    release = asyncio.Event()

    async def old(message: dict[str, Any], channels: dict[str, Any]) -> None:
        calls.append("old")

    async def new(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await release.wait()
        calls.append("new")
        await channels["reply"].send({"status": 404})

    conversation = Conversation(Shift(old, new, weight=100, fallback=(404,)))
    conversation.send(get("/x"))
    await settle()
    await conversation.lose()
    release.set()
    await until(lambda: calls)
    await settle()
    assert calls == ["new"]


def test_M47_wsgi_request_falls_back_to_the_old_application() -> None:
    adapter = WSGIAdapter(Router(Route("/x", Shift(wsgi_app, channels_404, weight=100, fallback=(404,)))))
    assert on_wsgi(adapter, "/x") == ["wsgi", "", "/x"]


async def test_M47_asgi_request_falls_back_to_the_old_application() -> None:
    adapter = ASGI3Adapter(Router(Route("/x", Shift(asgi3_app, asgi3_404, weight=100, fallback=(404,)))))
    assert await on_asgi(adapter, "/x") == ["asgi3", "", "/x"]


def test_M48_WSGIAdapter_raises_the_exception_of_the_new_application() -> None:
    adapter = WSGIAdapter(Shift(wsgi_app, failing, weight=100, fallback=(404,)))
    with pytest.raises(LookupError, match="no database"):
        list(adapter({"REQUEST_METHOD": "GET", "PATH_INFO": "/x", "SERVER_NAME": "x", "SERVER_PORT": "80"}, print))
