"""The end of a handler whose client has gone, as a cancellation.

Public as `uvicorn.errors.ChannelClosed`. It stands in a file of its own because it needs asyncio, which a supervisor
does without: that takes 6 MiB less.
"""

from __future__ import annotations

import asyncio


class ChannelClosed(asyncio.CancelledError):
    """`send` on the reply channel of a client that has gone, from a task of that client's own.

    A CancelledError, so that an endless `while True: await reply.send(...)` ends without a traceback
    and `except Exception` does not hold it up.
    """

    __module__ = "uvicorn.errors"
