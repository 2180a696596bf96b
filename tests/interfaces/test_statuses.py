"""Status codes from 200 to 999 pass, however the application is served: sites answer scrapers with 999."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.helpers import GET, Conversation, until
from uvicorn.adapters import ASGI3Adapter, ASGIAdapter, WSGIAdapter

Maker = Callable[[int], Any]


def wsgi(status: int) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(f"{status} Unknown", [("X-App", "probe")])
        return [b"content"]

    return app


def channels(status: int) -> Any:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await channels["reply"].send({"status": status, "status_text": b"Unknown", "content": b"content"})

    return app


def consumer(status: int) -> Any:
    async def app(message: dict[str, Any]) -> None:
        message["reply_channel"].send({"status": status, "status_text": b"Unknown", "content": b"content"})

    return app


def threaded_consumer(status: int) -> Any:
    def app(message: dict[str, Any]) -> None:
        message["reply_channel"].send({"status": status, "status_text": b"Unknown", "content": b"content"})

    return app


def asgi3(status: int) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"content"})

    return app


def asgi2(status: int) -> Any:
    return lambda scope: lambda receive, send: asgi3(status)(scope, receive, send)


WAYS: dict[str, Maker] = {
    "wsgi": wsgi,
    "channels": channels,
    "consumer": consumer,
    "consumer on threads": threaded_consumer,
    "asgi3": asgi3,
    "asgi2": asgi2,
    "WSGIAdapter(channels)": lambda status: WSGIAdapter(channels(status)),
    "WSGIAdapter(asgi3)": lambda status: WSGIAdapter(asgi3(status)),
    "WSGIAdapter(ASGIAdapter(wsgi))": lambda status: WSGIAdapter(ASGIAdapter(wsgi(status))),
    "ASGIAdapter(wsgi)": lambda status: ASGIAdapter(wsgi(status)),
    "ASGIAdapter(wsgi) by messages": lambda status: by_messages(ASGIAdapter(wsgi(status))),
    "ASGI3Adapter(wsgi)": lambda status: ASGI3Adapter(wsgi(status)),
    "ASGI3Adapter(channels)": lambda status: ASGI3Adapter(channels(status)),
}


def by_messages(adapter: ASGIAdapter) -> Any:
    async def app(message: dict[str, Any], channels: dict[str, Any]) -> None:
        await adapter(message, channels)

    app.shutdown = adapter.shutdown  # type: ignore[attr-defined]
    return app


async def answer(way: str, status: int) -> bytes:
    """What the client receives."""
    conversation = Conversation(WAYS[way](status))
    conversation.send(GET)
    await until(lambda: conversation.received and not conversation.context.requests)
    received = conversation.received
    await conversation.lose()
    await conversation.interface.shutdown(1)
    return received


@pytest.mark.parametrize("status", [200, 299, 599, 600, 799, 999])
@pytest.mark.parametrize("way", WAYS)
async def test_status_from_200_to_999_reaches_the_client(way: str, status: int) -> None:
    assert (await answer(way, status)).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("status", [0, 99, 199, 1000])
@pytest.mark.parametrize("way", WAYS)
async def test_status_outside_200_to_999_gives_500(way: str, status: int) -> None:
    assert (await answer(way, status)).startswith(b"HTTP/1.1 500 ")


async def test_wsgi_status_999_keeps_its_reason_phrase() -> None:
    assert (await answer("wsgi", 999)).startswith(b"HTTP/1.1 999 Unknown\r\n")
