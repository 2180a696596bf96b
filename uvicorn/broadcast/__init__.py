"""Broadcast sends messages to groups of connections in all processes."""

from __future__ import annotations

from uvicorn.broadcast.middleware import BroadcastMiddleware
from uvicorn.broadcast.publisher import Publisher, publish

#: The first documents of the project use both spellings.
BroadCastMiddleware = BroadcastMiddleware

__all__ = ["BroadCastMiddleware", "BroadcastMiddleware", "Publisher", "publish"]
