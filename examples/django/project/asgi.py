"""The same site with its first asynchronous paths: `uvicorn project.asgi:app`."""

import asyncio

from django.core.asgi import get_asgi_application
from uvicorn import Route, Router
from uvicorn.broadcast import BroadcastMiddleware
from uvicorn.django import DjangoThreads

from project.wsgi import application


async def live(message, channels):
    """A page that wants to know what happens while it is open. It leaves the group when it goes."""
    if message["channel"] == "websocket.connect":
        await channels["groups"].send({"group": "news", "add": channels["reply"].name})


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


# For asynchronous views: sessions, logins and CSRF work as before; each request has database connections of its own.
asynchronous = DjangoThreads(get_asgi_application())

app = Router(
    Route("/recent", asynchronous),
    Route("/ticks", ticks),
    Route("/live", live, protocol="websocket"),
    default=application,
)

# Django's own code needs none of this: a view or a command publishes, whatever process it runs in.
app = BroadcastMiddleware(app, gaps=False)
