"""`ChannelClosed`, which ends a handler after its client has disconnected."""

from __future__ import annotations

# In a module of its own, because a supervisor saves 6 MiB without asyncio.
import asyncio


class ChannelClosed(asyncio.CancelledError):
    """Raised by `send` if the client has disconnected and the calling task serves this client.

    A handler that ends with this CancelledError leaves no traceback, such as `while True: await reply.send(...)`.
    """

    __module__ = "uvicorn.errors"
