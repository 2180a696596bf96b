"""The chat of the seeds, over Redis."""

import os
from typing import Any

from uvicorn.broadcast import BroadcastMiddleware


async def talk(message: Any, channels: Any) -> None:
    if message["channel"] == "websocket.connect":
        await channels["groups"].send({"group": "chat", "add": channels["reply"].name})
    elif message["channel"] == "websocket.receive":
        await channels["groups"].send({"group": "chat", "send": {"text": message["text"]}})


chat = BroadcastMiddleware(talk, url=os.environ["BENCH_REDIS"])
