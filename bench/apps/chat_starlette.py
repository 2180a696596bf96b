"""The chat of the seeds in Starlette: a loop over all clients."""

from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

clients: set[Any] = set()


async def chat(websocket: Any) -> None:
    await websocket.accept()
    clients.add(websocket)
    try:
        while True:
            text = await websocket.receive_text()
            for client in clients:
                await client.send_text(text)
    except WebSocketDisconnect:
        pass
    finally:
        clients.remove(websocket)


app = Starlette(routes=[WebSocketRoute("/", chat)])
