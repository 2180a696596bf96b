"""The exception `ChannelClosed`."""

from __future__ import annotations

# In a module of its own, because a supervisor saves 6 MiB without asyncio.
import asyncio


# As a CancelledError, it ends a handler without a traceback.
class ChannelClosed(asyncio.CancelledError):
    """Raised by a handler's `send` after the handler's client has disconnected."""

    __module__ = "uvicorn.errors"
