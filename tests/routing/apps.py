"""One application of each kind, which answers with its root path and its path."""

from __future__ import annotations

import json
from typing import Any


def answer(kind: str, root_path: str, path: str) -> bytes:
    return json.dumps([kind, root_path, path]).encode()


async def channels_app(message: dict[str, Any], channels: dict[str, Any]) -> None:
    if message["channel"] == "websocket.connect":
        text = answer("channels", message["root_path"], message["path"]).decode()
        await channels["reply"].send({"accept": True, "text": text})
    elif message["channel"] == "http.request":
        content = answer("channels", message["root_path"], message["path"])
        await channels["reply"].send({"status": 200, "content": content})


async def consumer_app(message: dict[str, Any]) -> None:
    content = answer("consumer", message["root_path"], message["path"])
    await message["reply_channel"].send({"status": 200, "content": content})


def threaded_consumer_app(message: dict[str, Any]) -> None:
    content = answer("threaded consumer", message["root_path"], message["path"])
    message["reply_channel"].send({"status": 200, "content": content})


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    path = environ["PATH_INFO"].encode("latin-1").decode()
    root_path = environ["SCRIPT_NAME"].encode("latin-1").decode()
    return [answer("wsgi", root_path, root_path + path)]


async def asgi3_app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    content = answer("asgi3", scope["root_path"], scope.get("path", ""))
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": content.decode()})
        await receive()
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": content})


def asgi2_app(scope: dict[str, Any]) -> Any:
    async def instance(receive: Any, send: Any) -> None:
        content = answer("asgi2", scope["root_path"], scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": content})

    return instance


KINDS = {
    "channels": channels_app,
    "consumer": consumer_app,
    "threaded consumer": threaded_consumer_app,
    "wsgi": wsgi_app,
    "asgi3": asgi3_app,
    "asgi2": asgi2_app,
}
