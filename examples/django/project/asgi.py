"""The site for asynchronous servers."""

import asyncio
import os

from django.core.asgi import get_asgi_application
from uvicorn import Route, Router
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.django import DjangoThreads, login_required

from project.wsgi import application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

asynchronous = DjangoThreads(get_asgi_application())


@login_required
async def live(message, channels):
    if message["channel"] == "websocket.connect":
        await channels["groups"].send({"group": "members", "add": channels["reply"].name})


async def ticks(message, channels):
    """A line every half second. A thousand clients that wait for the next one take no thread."""
    reply = channels["reply"]
    # Without nosniff browsers show nothing until there is enough to guess from.
    headers = [[b"content-type", b"text/plain"], [b"x-content-type-options", b"nosniff"]]
    await reply.send({"status": 200, "headers": headers, "more_content": True})
    for number in range(1, 11):
        await reply.send({"content": b"tick %d\n" % number, "more_content": True})
        await asyncio.sleep(0.5)
    await reply.send({"content": b"done\n"})


app = Router(
    Route("/", asynchronous),
    Route("/recent", asynchronous),
    Route("/ticks", ticks),
    Route("/live", BroadcastMiddleware(DjangoThreads(live), gaps=False), protocol="websocket"),
    default=application,
)
