"""Messages to groups of connections, across processes."""

from __future__ import annotations

from uvicorn.broadcast.middleware import BroadcastMiddleware
from uvicorn.broadcast.publisher import Publisher, publish

#: The first documents spell it both ways.
BroadCastMiddleware = BroadcastMiddleware

__all__ = ["BroadCastMiddleware", "BroadcastMiddleware", "Publisher", "publish"]
