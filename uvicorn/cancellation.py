"""The exception that ends a handler whose client has disconnected.

Its public name is `uvicorn.errors.ChannelClosed`. It has its own file because it imports asyncio, and a supervisor
saves 6 MiB without asyncio.
"""

from __future__ import annotations

import asyncio


class ChannelClosed(asyncio.CancelledError):
    """Raised by `send` on the reply channel of a disconnected client, in tasks that serve this client.

    It is a CancelledError. An endless `while True: await reply.send(...)` therefore ends without a traceback, and
    `except Exception` does not catch it.
    """

    __module__ = "uvicorn.errors"
