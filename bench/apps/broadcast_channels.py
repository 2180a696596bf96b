"""The seeds' chat over Redis."""

import os

from uvicorn.broadcast import BroadcastMiddleware


async def chat(message, channels):
    if message["channel"] == "websocket.connect":
        await channels["groups"].send({"group": "chat", "add": channels["reply"].name})
    elif message["channel"] == "websocket.receive":
        await channels["groups"].send({"group": "chat", "send": {"text": message["text"]}})


chat = BroadcastMiddleware(chat, url=os.environ["BENCH_REDIS"])
