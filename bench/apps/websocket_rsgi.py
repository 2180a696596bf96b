"""An echo for RSGI, granian's own interface."""

from typing import Any

from granian.rsgi import WebsocketMessageType


async def echo(scope: Any, protocol: Any) -> None:
    websocket = await protocol.accept()
    while (message := await websocket.receive()).kind != WebsocketMessageType.close:
        if message.kind == WebsocketMessageType.string:
            await websocket.send_str(message.data)
        else:
            await websocket.send_bytes(message.data)
