"""`ChannelClosed`, which ends a handler after its client has disconnected."""

from __future__ import annotations

# In a module of its own, because a supervisor saves 6 MiB without asyncio.
import asyncio


class ChannelClosed(asyncio.CancelledError):
    """Raised by `send` if the client has disconnected and the calling task serves this client.

    ChannelClosed is a CancelledError, so a handler that ends with it leaves no traceback.
    """

    __module__ = "uvicorn.errors"
