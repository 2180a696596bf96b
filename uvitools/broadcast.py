"""`from uvitools.broadcast import BroadcastMiddleware`, as the project's later documents have it."""

from __future__ import annotations

from uvicorn.broadcast import BroadCastMiddleware, BroadcastMiddleware

__all__ = ["BroadCastMiddleware", "BroadcastMiddleware"]
