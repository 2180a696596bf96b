"""The same chat in Starlette, with encode/broadcaster (`broadcaster`) or a channel layer of channels_redis."""

import asyncio
import contextlib
import os

from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

URL = os.environ["BENCH_REDIS"]


async def receive_all(websocket, publish):
    try:
        while True:
            await publish(await websocket.receive_text())
    except WebSocketDisconnect:
        pass


def broadcaster():
    from broadcaster import Broadcast

    broadcast = Broadcast(URL)

    async def chat(websocket):
        async with broadcast.subscribe("chat") as subscriber:

            async def send_all():
                async for event in subscriber:
                    await websocket.send_text(event.message)

            await websocket.accept()
            sending = asyncio.create_task(send_all())
            await receive_all(websocket, lambda text: broadcast.publish("chat", text))
            sending.cancel()

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with broadcast:
            yield

    return Starlette(routes=[WebSocketRoute("/", chat)], lifespan=lifespan)


def layer():
    from channels_redis.pubsub import RedisPubSubChannelLayer

    layer = RedisPubSubChannelLayer(hosts=[URL])

    async def chat(websocket):
        channel = await layer.new_channel()
        await layer.group_add("chat", channel)

        async def send_all():
            while True:
                await websocket.send_text((await layer.receive(channel))["text"])

        await websocket.accept()
        sending = asyncio.create_task(send_all())
        await receive_all(websocket, lambda text: layer.group_send("chat", {"text": text}))
        sending.cancel()
        await layer.group_discard("chat", channel)

    return Starlette(routes=[WebSocketRoute("/", chat)])
