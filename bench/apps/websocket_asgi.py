"""An echo as an ASGI application: text returns as text, bytes as bytes."""

from typing import Any


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        data = {"text": text} if text is not None else {"bytes": message["bytes"]}
        await send({"type": "websocket.send", **data})
