"""Groups whose members are WebSockets of WSGI applications (rule W1)."""

from __future__ import annotations

from typing import Any

from tests.broadcast.scripted import ScriptedBackend
from tests.helpers import settle, until
from tests.websocket_client import WebSocketConversation
from uvicorn import Route, Router
from uvicorn.broadcast import BroadcastMiddleware


def chat(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Send each message to the group of all clients. `leave` ends the client's membership."""
    websocket, groups = environ["uvicorn.websocket"], environ["uvicorn.groups"]
    websocket.accept()
    groups.send({"group": "chat", "add": websocket.name})
    websocket.send("joined")
    for text in websocket:
        if text == "leave":
            groups.send({"group": "chat", "discard": websocket.name})
            websocket.send("left")
        else:
            groups.send({"group": "chat", "send": {"text": text}})
    return []


async def joined(middleware: Any) -> WebSocketConversation:
    client = WebSocketConversation(middleware)
    await client.interface.startup()
    await client.open()
    await until(lambda: client.heard == ["joined"])
    return client


async def test_group_message_reaches_a_wsgi_websocket() -> None:
    client = await joined(BroadcastMiddleware(chat, url="memory://"))
    await client.say("hello")
    await until(lambda: client.heard == ["joined", "hello"])
    await client.lose()
    await client.interface.shutdown(30)


async def test_discard_removes_a_wsgi_websocket_from_its_group() -> None:
    middleware = BroadcastMiddleware(chat, url="memory://")
    client = await joined(middleware)
    await client.say("leave")
    await until(lambda: client.heard == ["joined", "left"])
    await client.say("hello")
    await settle()
    assert (client.heard, middleware.metrics["groups"]) == (["joined", "left"], 0)
    await client.lose()
    await client.interface.shutdown(30)


async def test_wsgi_websocket_leaves_its_groups_when_the_client_disconnects() -> None:
    middleware = BroadcastMiddleware(chat, url="memory://")
    client = await joined(middleware)
    assert middleware.metrics["members"] == 1
    await client.lose()
    assert middleware.metrics["members"] == 0
    await client.interface.shutdown(30)


async def test_M25_gap_of_a_wsgi_member_is_not_reported_to_another_application() -> None:
    events: list[str] = []

    async def live(message: dict[str, Any], channels: dict[str, Any]) -> None:
        events.append(message["channel"])

    backend = ScriptedBackend()
    routed = BroadcastMiddleware(Router(Route("/live", live), Route("/chat", chat)), backend=backend)
    other = WebSocketConversation(routed, path="/live")
    await other.interface.startup()
    await other.open()
    client = await joined(routed)
    backend.lose("chat", since=77.0)
    await settle()
    assert events == ["websocket.connect"]
    await client.lose()
    await other.lose()
    await client.interface.shutdown(30)
    await other.interface.shutdown(30)
