"""The same site, one path of which is asynchronous: `uvicorn mixed:app` in this folder."""

import asyncio

from uvicorn import Route, Router
from uvicorn.types import Channels, Message

from frontpage import app as flask_app


async def ticks(message: Message, channels: Channels) -> None:
    """A line every half second. A thousand clients that wait for the next one take no thread."""
    reply = channels["reply"]
    # Without nosniff browsers show nothing until there is enough to guess from.
    headers = [[b"content-type", b"text/plain"], [b"x-content-type-options", b"nosniff"]]
    await reply.send({"status": 200, "headers": headers, "more_content": True})
    for number in range(1, 11):
        await reply.send({"content": b"tick %d\n" % number, "more_content": True})
        await asyncio.sleep(0.5)
    await reply.send({"content": b"done\n"})


app = Router(Route("/ticks", ticks), default=flask_app)
