"""The chat for any number of processes: `uvicorn app:chat_server` in this folder, on as many ports as you like."""

from pathlib import Path

from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.types import Channels, Message

homepage = Path(__file__).with_name("index.html").read_bytes()


@BroadcastMiddleware
async def chat_server(message: Message, channels: Channels) -> None:
    if message["channel"] == "websocket.connect":
        await channels["groups"].send({"group": "chat", "add": channels["reply"].name})

    elif message["channel"] == "websocket.receive":
        await channels["groups"].send({"group": "chat", "send": {"text": message["text"]}})

    elif message["channel"] == "groups.gap":
        # Redis was away for a while, perhaps: what was said meanwhile has not arrived.
        await channels["reply"].send({"text": "(some messages may be missing here)"})

    elif message["channel"] == "http.request":
        await channels["reply"].send(
            {"status": 200, "headers": [[b"content-type", b"text/html"]], "content": homepage}
        )
