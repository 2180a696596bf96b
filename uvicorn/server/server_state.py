"""Counts and connections of a running server, under the names that the public release uses."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uvicorn.server.context import ServerContext


class ServerState:
    """A view of a running server. The view is empty until the server has started."""

    def __init__(self, context: ServerContext | None = None) -> None:
        self.context = context
        #: Encoded header fields that the public release adds to responses; not used here.
        self.default_headers: list[tuple[bytes, bytes]] = []

    @property
    def total_requests(self) -> int:
        return self.context.begun if self.context is not None else 0

    @property
    def connections(self) -> Collection[Any]:
        return self.context.connections if self.context is not None else ()

    @property
    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """The running handlers of asynchronous applications."""
        tasks = getattr(self.context.interface, "tasks", None) if self.context is not None else None
        return tasks.running if tasks is not None else ()
