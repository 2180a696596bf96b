"""A reply channel of another server as a group member."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, final

from uvicorn.types import GroupMember, Message


@final
class HostReply:
    """Needs only `name` and a coroutine function `send`: each message is awaited, and one message closes the client.

    With `on_close` it is a member until its client disconnects, otherwise for as long as it is in a group.
    """

    def __init__(self, reply: Any, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._reply = reply
        self._start = start

    @property
    def name(self) -> str:
        name: str = self._reply.name
        return name

    @property
    def is_ready(self) -> bool:
        return False

    def offer_text(self, text: str) -> bool:
        return False

    def send(self, message: Message) -> Awaitable[None] | None:
        sent: Awaitable[None] | None = self._reply.send(message)
        return sent

    async def wait_ready(self) -> None:
        pass

    def break_off(self, reason: str) -> None:
        self._start(self._close(reason))

    @property
    def reports_close(self) -> bool:
        """Whether it reports that its client has disconnected."""
        return hasattr(self._reply, "on_close")

    def on_close(self, callback: Callable[[], object]) -> None:
        if self.reports_close:
            self._reply.on_close(callback)

    async def _close(self, reason: str) -> None:
        await self._reply.send({"close": 1013, "reason": reason})


def as_member(reply: Any, start: Callable[[Coroutine[Any, Any, None]], object]) -> GroupMember:
    """Return a reply channel as a GroupMember; `start` starts a task."""
    return reply if isinstance(reply, GroupMember) else HostReply(reply, start)
