"""Channels of other processes: their owner is asked to add or discard them, and says when it has.

Each process hears a group that is named after it, as its channels are (`reply.<process>.<number>`).
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, final

from uvicorn.broadcast.serialize import PROCESS_GROUPS, encode
from uvicorn.errors import BroadcastUnavailable, LocalProtocolError
from uvicorn.sending import channel_names
from uvicorn.types import Message

if TYPE_CHECKING:
    from uvicorn.broadcast.hub import Hub

logger = logging.getLogger("uvicorn.broadcast")

# Asked again now and then, for the owner may only just be connecting: doing it twice is the same as doing it once.
_TRIES: Final = 4
_TRY_SECONDS: Final = 0.25

_KEY: Final = "_uvicorn_control"


def owner_of(name: str) -> str:
    """The process that a channel belongs to. Raises LocalProtocolError for what is no channel's name."""
    parts = name.split(".")
    if len(parts) != 3 or not all(parts):
        raise LocalProtocolError(
            f"groups.send: expected the name of a reply channel, as in channels['reply'].name, got {name!r:.100}"
        )
    return parts[1]


@final
class Elsewhere:
    """What one hub asks of others, and they of it."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.group = _group(channel_names.process)
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[None]] = {}

    async def ask(self, action: str, group: str, name: str) -> None:
        """Have the owner of `name` add it to `group`, or discard it; returns when it has.

        Raises BroadcastUnavailable if it cannot be asked. If nobody answers, the process has ended, and its clients
        with it: that is logged.
        """
        number = next(self._numbers)
        answer = self._asked[number] = self._hub.loop.create_future()
        request = encode({_KEY: action, "group": group, "name": name, "number": number, "answer": self.group})
        try:
            for _ in range(_TRIES):
                await self._hub.hand_over(_group(owner_of(name)), request)
                await asyncio.wait((answer,), timeout=_TRY_SECONDS)
                if answer.done():
                    return
        finally:
            del self._asked[number]
        logger.warning("group %r: nobody answers for channel %s (%s): its process has ended", group, name, action)

    def on_message(self, message: Message) -> None:
        """A message to this process."""
        action, number = message.get(_KEY), message.get("number")
        if action == "done":
            asked = self._asked.get(number) if isinstance(number, int) else None
            if asked is not None and not asked.done():
                asked.set_result(None)
            return
        group, name, answer = message.get("group"), message.get("name"), message.get("answer")
        if not (isinstance(group, str) and isinstance(name, str) and isinstance(answer, str)):
            return
        waiting: Any = None
        if action == "add":
            reply = channel_names.find(name)
            if reply is not None:
                waiting = self._hub.add(group, name, reply, Context())
        elif action == "discard":
            self._hub.discard(group, name)
        self._hub.start_task(self._answer(answer, number, waiting))

    async def _answer(self, group: str, number: Any, waiting: asyncio.Future[None] | None) -> None:
        if waiting is not None:
            await asyncio.wait((waiting,))
        try:
            await self._hub.hand_over(group, encode({_KEY: "done", "number": number}))
        except BroadcastUnavailable:
            # It will ask again.
            pass


def _group(process: str) -> str:
    return PROCESS_GROUPS + process
