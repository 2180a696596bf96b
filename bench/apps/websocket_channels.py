"""WebSockets of channels applications: the echo and the chat of the seeds."""

from typing import Any

clients: set[Any] = set()


async def echo(message: Any, channels: Any) -> None:
    if message["channel"] == "websocket.connect":
        await channels["reply"].send({"accept": True})
    elif message["channel"] == "websocket.receive":
        text = message["text"]
        await channels["reply"].send({"text": text} if text is not None else {"bytes": message["bytes"]})


async def chat(message: Any, channels: Any) -> None:
    if message["channel"] == "websocket.connect":
        await channels["reply"].send({"accept": True})
        clients.add(channels["reply"])
    elif message["channel"] == "websocket.receive":
        for client in clients:
            await client.send({"text": message["text"]})
    elif message["channel"] == "websocket.disconnect":
        clients.remove(channels["reply"])
