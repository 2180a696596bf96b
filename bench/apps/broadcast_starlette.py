"""The chat in Starlette, over Redis, with encode/broadcaster (`broadcaster`) or a channel layer of channels_redis."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

URL = os.environ["BENCH_REDIS"]


async def receive_all(websocket: Any, publish: Any) -> None:
    try:
        while True:
            await publish(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


def broadcaster() -> Any:
    from broadcaster import Broadcast

    broadcast = Broadcast(URL)

    async def chat(websocket: Any) -> None:
        async with broadcast.subscribe("chat") as subscriber:

            async def send_all() -> None:
                async for event in subscriber:
                    await websocket.send_text(event.message)

            await websocket.accept()
            sending = asyncio.create_task(send_all())
            await receive_all(websocket, lambda text: broadcast.publish("chat", text))
            sending.cancel()

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with broadcast:
            yield

    return Starlette(routes=[WebSocketRoute("/", chat)], lifespan=lifespan)


def layer() -> Any:
    from channels_redis.pubsub import RedisPubSubChannelLayer

    layer = RedisPubSubChannelLayer(hosts=[URL])

    async def chat(websocket: Any) -> None:
        channel = await layer.new_channel()
        await layer.group_add("chat", channel)

        async def send_all() -> None:
            while True:
                await websocket.send_text((await layer.receive(channel))["text"])

        await websocket.accept()
        sending = asyncio.create_task(send_all())
        await receive_all(websocket, lambda text: layer.group_send("chat", {"text": text}))
        sending.cancel()
        await layer.group_discard("chat", channel)

    return Starlette(routes=[WebSocketRoute("/", chat)])
