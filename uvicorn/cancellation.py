"""The exception that ends a handler whose client has disconnected (`uvicorn.errors.ChannelClosed`)."""

from __future__ import annotations

# In a module of its own, because a supervisor saves 6 MiB without asyncio.
import asyncio


class ChannelClosed(asyncio.CancelledError):
    """Raised by `send` on the reply channel of a disconnected client, in tasks that serve this client.

    It is a CancelledError. An endless `while True: await reply.send(...)` therefore ends without a traceback.
    """

    __module__ = "uvicorn.errors"
