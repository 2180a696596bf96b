"""Channels of other processes: their owner is asked to add or discard them, and says when it has.

Each process hears a group that is named after it, as its channels are (`reply.<process>.<number>`). Whoever may publish
can send to that group, so nothing that comes from there is taken on trust.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Coroutine, Mapping, Sequence
from contextvars import Context
from typing import Any, Final, Protocol, final

from uvicorn.broadcast.encoding import PROCESS_GROUPS, Encoded, encode, group_name
from uvicorn.broadcast.log_limit import LogLimit, shown
from uvicorn.broadcast.members import DeliveryMetrics, Member
from uvicorn.broadcast.signing import Signer
from uvicorn.channel import channel_names
from uvicorn.errors import BroadcastUnavailable, LocalProtocolError
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.broadcast")

# Asked again now and then, for the owner may only just be connecting: doing it twice is the same as doing it once.
_TRIES: Final = 4
_TRY_SECONDS: Final = 0.25

_KEY: Final = "_uvicorn_control"

# `reply.<process>.<number>` has 40 characters at most; another server's channels may have longer names.
_MOST_NAME_CHARACTERS: Final = 200
_MOST_NUMBER: Final = 1 << 53

# Without a secret: so many memberships at the request of others at one time, 2 KiB each at most, and so many answers
# that wait for a group to be heard.
_MOST_MEMBERSHIPS: Final = 20_000
_MOST_ANSWERS: Final = 1000

_PROCESS_GROUP: Final = re.compile(re.escape(PROCESS_GROUPS) + "[0-9a-f]{16}")


def owner_of(name: str) -> str:
    """The process that a channel belongs to. Raises LocalProtocolError for what is no channel's name."""
    parts = name.split(".")
    if len(parts) != 3 or not all(parts) or len(name) > _MOST_NAME_CHARACTERS:
        raise LocalProtocolError(
            f"groups.send: expected the name of a reply channel, as in channels['reply'].name, got {name!r:.100}"
        )
    return parts[1]


class LocalHub(Protocol):
    """What remote membership asks of the hub of its own process."""

    loop: asyncio.AbstractEventLoop
    sender: str
    metrics: DeliveryMetrics

    @property
    def members(self) -> Mapping[str, Member]:
        """Local members by name."""

    def add(self, group: str, name: str, reply: Any, context: Context) -> asyncio.Future[None] | None:
        """Add a local member to a group."""

    def discard(self, group: str, name: str) -> None:
        """Remove a local member from a group."""

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `coroutine` for as long as the hub runs."""

    async def hand_over(self, group: str, encoded: Encoded) -> None:
        """Number a message, and have the backend publish it."""


@final
class RemoteMembers:
    """What one hub asks of others, and they of it."""

    def __init__(self, hub: LocalHub, secrets: Sequence[bytes] = ()) -> None:
        self._hub = hub
        self.group = _group(channel_names.process)
        self._signer = Signer(secrets) if secrets else None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[None]] = {}
        # By name and group: those that somebody else has asked for.
        self._memberships: set[tuple[str, str]] = set()
        self._answers = 0
        self._ignored_log = LogLimit()
        self._full_log = LogLimit()

    async def ask(self, action: str, group: str, name: str) -> None:
        """Have the owner of `name` add it to `group`, or discard it; returns when it has.

        Raises BroadcastUnavailable if it cannot be asked. If nobody answers, the process has ended, and its clients
        with it: that is logged.
        """
        number = next(self._numbers)
        answer = self._asked[number] = self._hub.loop.create_future()
        command = {_KEY: action, "group": group, "name": name, "number": number, "answer": self.group}
        command["asker"] = self._hub.sender
        try:
            for _ in range(_TRIES):
                await self._send(_group(owner_of(name)), command)
                await asyncio.wait((answer,), timeout=_TRY_SECONDS)
                if answer.done():
                    return
        finally:
            del self._asked[number]
        why = "its process has ended" if self._signer is None else "its process has ended, or has another secret"
        logger.warning("group %.200r: nobody answers for channel %s (%s): %s", group, shown(name), action, why)

    def on_message(self, message: Message) -> None:
        """A message to this process. Never raises, whatever it is."""
        if self._signer is not None and (reason := self._signer.reject(self.group, message)):
            self._hub.metrics.dropped_control += 1
            if count := self._ignored_log.admits():
                logger.warning("control messages to this process were ignored: %d; the last one: %s", count, reason)
            return
        action, number = message.get(_KEY), message.get("number")
        if type(number) is not int or not 0 < number < _MOST_NUMBER:
            return
        if action == "done":
            asked = self._asked.get(number) if message.get("asker", self._hub.sender) == self._hub.sender else None
            if asked is not None and not asked.done():
                asked.set_result(None)
            return
        group, name, answer = message.get("group"), message.get("name"), message.get("answer")
        if not (isinstance(group, str) and isinstance(name, str) and isinstance(answer, str)):
            return
        if not _PROCESS_GROUP.fullmatch(answer) or not _are_names(group, name):
            return
        waiting: asyncio.Future[None] | None = None
        if action == "add":
            reply = channel_names.find(name)
            if reply is not None:
                if not self._may_add(name, group):
                    return
                waiting = self._hub.add(group, name, reply, Context())
        elif action == "discard":
            self._hub.discard(group, name)
        if self._answers < _MOST_ANSWERS:
            self._answers += 1
            asker = message.get("asker")
            done = {_KEY: "done", "number": number}
            if isinstance(asker, str) and len(asker) <= _MOST_NAME_CHARACTERS and asker.isascii():
                done["asker"] = asker
            task = self._hub.start_task(self._answer(answer, done, waiting))
            if task.done():
                self._answers -= 1
            else:
                task.add_done_callback(self._answered)

    def close(self) -> None:
        """The hub has stopped."""
        if self._signer is not None:
            self._signer.close()

    def membership_ended(self, name: str, group: str) -> None:
        """A client has left a group, however it had come into it."""
        if self._memberships:
            self._memberships.discard((name, group))

    def _may_add(self, name: str, group: str) -> bool:
        """Whether another membership has room, if anybody may ask for one."""
        member = self._hub.members.get(name)
        if self._signer is not None or (member is not None and group in member.groups):
            return True
        if len(self._memberships) >= _MOST_MEMBERSHIPS:
            if count := self._full_log.admits():
                logger.warning(
                    "clients were not added to groups at the request of other processes, %d times: %d memberships were"
                    " asked for already; with secret= there is no limit",
                    count,
                    _MOST_MEMBERSHIPS,
                )
            return False
        self._memberships.add((name, group))
        return True

    async def _answer(self, group: str, done: Message, waiting: asyncio.Future[None] | None) -> None:
        if waiting is not None:
            await asyncio.wait((waiting,))
        try:
            await self._send(group, done)
        except BroadcastUnavailable:
            # It will ask again.
            pass

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._answers -= 1

    async def _send(self, group: str, command: Message) -> None:
        if self._signer is not None:
            # Anew for each attempt: one that was received is not taken again.
            command = self._signer.sign(group, self._hub.sender, command)
        await self._hub.hand_over(group, encode(command))


def _group(process: str) -> str:
    return PROCESS_GROUPS + process


def _are_names(group: str, name: str) -> bool:
    """Whether a group that applications can name, and a channel of this process."""
    try:
        return owner_of(name) == channel_names.process and bool(group_name(group))
    except LocalProtocolError:
        return False
