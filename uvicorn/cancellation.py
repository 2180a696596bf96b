"""The exception that ends a handler whose client has disconnected.

Public as `uvicorn.errors.ChannelClosed`. In a file of its own because it imports asyncio: a supervisor, which does not
need asyncio, saves 6 MiB.
"""

from __future__ import annotations

import asyncio


class ChannelClosed(asyncio.CancelledError):
    """Raised by `send` on the reply channel of a disconnected client, in a task of that client's handler.

    A CancelledError, so that an endless `while True: await reply.send(...)` ends without a traceback
    and `except Exception` does not catch it.
    """

    __module__ = "uvicorn.errors"
