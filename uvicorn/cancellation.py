"""`ChannelClosed`, which ends a handler after its client has disconnected."""

from __future__ import annotations

# In a module of its own, because a supervisor saves 6 MiB without asyncio.
import asyncio


class ChannelClosed(asyncio.CancelledError):
    """Raised by `send` in a task that serves a client, after this client has disconnected.

    A handler that ends with ChannelClosed leaves no traceback, because ChannelClosed is a CancelledError.
    """

    __module__ = "uvicorn.errors"
