"""Group members that send through the reply channels of another server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, final

from uvicorn.types import GroupMember, Message


class AwaitedMember:
    """A group member whose messages are sent one at a time."""

    is_ready = False

    def offer_text(self, text: str) -> bool:
        return False


@final
class HostReply(AwaitedMember):
    """A GroupMember around an object that has only `name` and a coroutine function `send`."""

    def __init__(self, reply: Any, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._reply = reply
        self._start = start
        self.reports_close = hasattr(reply, "on_close")

    @property
    def name(self) -> str:
        name: str = self._reply.name
        return name

    def send(self, message: Message) -> Awaitable[None] | None:
        sent: Awaitable[None] | None = self._reply.send(message)
        return sent

    async def wait_ready(self) -> None:
        pass

    def break_off(self, reason: str) -> None:
        self._start(self._close(reason))

    def on_close(self, callback: Callable[[], object]) -> None:
        if self.reports_close:
            self._reply.on_close(callback)

    async def _close(self, reason: str) -> None:
        await self._reply.send({"close": 1013, "reason": reason})


def as_member(reply: Any, start: Callable[[Coroutine[Any, Any, None]], object]) -> GroupMember:
    return reply if isinstance(reply, GroupMember) else HostReply(reply, start)
