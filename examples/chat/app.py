"""A chat for one process: `uvicorn app:chat_server` in this folder, and open the page in two windows."""

from pathlib import Path

from uvicorn.types import Channels, Message, ReplyChannel

clients: set[ReplyChannel] = set()
homepage = Path(__file__).with_name("index.html").read_bytes()


async def chat_server(message: Message, channels: Channels) -> None:
    if message["channel"] == "websocket.connect":
        await channels["reply"].send({"accept": True})
        clients.add(channels["reply"])

    elif message["channel"] == "websocket.receive":
        for client in clients:
            await client.send({"text": message["text"]})

    elif message["channel"] == "websocket.disconnect":
        clients.remove(channels["reply"])

    elif message["channel"] == "http.request":
        await channels["reply"].send(
            {"status": 200, "headers": [[b"content-type", b"text/html"]], "content": homepage}
        )
