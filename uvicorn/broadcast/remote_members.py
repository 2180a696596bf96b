"""Adds and discards group members in other processes and event loops.

Any publisher can send a request, so each request is validated.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import Coroutine, Sequence
from contextvars import Context
from typing import Any, Final, Protocol, final

from uvicorn.broadcast.encoding import PROCESS_GROUPS, Encoded, encode, group_name
from uvicorn.broadcast.members import DeliveryMetrics, Member
from uvicorn.broadcast.signing import Signer
from uvicorn.channel import channel_names
from uvicorn.errors import BroadcastUnavailable, LocalProtocolError
from uvicorn.escape import escaped
from uvicorn.log_limit import LogLimit
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.broadcast")

# A request is repeated, because its receiver may still be connecting. Requests are idempotent.
_TRIES: Final = 4
_TRY_SECONDS: Final = 0.25

_KEY: Final = "_uvicorn_control"

# Our names have 40 characters at most; channels of other servers may have longer names.
_MAX_NAME_CHARACTERS: Final = 200
_MAX_NUMBER: Final = 1 << 53

# Without a secret: the limit of memberships that other processes request, at most 2 KiB each.
_MAX_MEMBERSHIPS: Final = 20_000
# The limit of answers that wait for a subscription.
_MAX_ANSWERS: Final = 1000

_PROCESS_GROUP: Final = re.compile(re.escape(PROCESS_GROUPS) + "[0-9a-f]{16}")


def owner_of(name: str) -> str:
    """Return the id of the process that owns the channel `name`. Raises LocalProtocolError."""
    parts = name.split(".")
    if len(parts) != 3 or not all(parts) or len(name) > _MAX_NAME_CHARACTERS:
        raise LocalProtocolError(f"groups.send: expected a name such as channels['reply'].name, got {name!r:.100}")
    return parts[1]


# A protocol, because `hub` imports this module.
class LocalHub(Protocol):
    """The part of `Hub` that RemoteMembers uses."""

    loop: asyncio.AbstractEventLoop
    sender: str
    metrics: DeliveryMetrics
    members: dict[str, Member]

    def add(self, group: str, name: str, reply: Any, context: Context) -> asyncio.Future[None] | None: ...

    def owns(self, reply: Any) -> bool: ...

    def adds_on_request(self) -> bool: ...

    def discard(self, group: str, name: str) -> None: ...

    def start_task(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...

    async def hand_over(self, group: str, encoded: Encoded) -> None: ...


@final
class RemoteMembers:
    """Sends the requests of one hub, and handles the requests of other hubs."""

    def __init__(self, hub: LocalHub, secrets: Sequence[bytes] = ()) -> None:
        self._hub = hub
        self.group = PROCESS_GROUPS + channel_names.process
        self._signer = Signer(secrets) if secrets else None
        self._numbers = itertools.count(1)
        self._requests: dict[int, asyncio.Future[None]] = {}
        # Channel and group of the memberships that other processes have requested.
        self._memberships: set[tuple[str, str]] = set()
        self._answers = 0
        self._ignored_log = LogLimit()
        self._full_log = LogLimit()

    async def request(self, action: str, group: str, name: str) -> None:
        """Send 'add' or 'discard', and wait for the answer. Without an answer, log a warning and return."""
        number = next(self._numbers)
        answer = self._requests[number] = self._hub.loop.create_future()
        command = {_KEY: action, "group": group, "name": name, "number": number, "answer": self.group}
        command["asker"] = self._hub.sender
        try:
            for _ in range(_TRIES):
                await self._send(PROCESS_GROUPS + owner_of(name), command)
                await asyncio.wait((answer,), timeout=_TRY_SECONDS)
                if answer.done():
                    return
        finally:
            del self._requests[number]
        why = "may have ended" if self._signer is None else "may have ended or have another secret"
        logger.warning(
            "group %.200r: cannot %s channel %s: the process of the channel does not respond and %s",
            group,
            action,
            escaped(name, 500),
            why,
        )

    def on_message(self, message: Message) -> None:
        if self._signer is not None and (reason := self._signer.reject(self.group, message)):
            self._hub.metrics.dropped_control += 1
            if count := self._ignored_log.admits():
                logger.warning(
                    "%d control messages to this process were ignored; reason for the last one: %s", count, reason
                )
            return
        action, number = message.get(_KEY), message.get("number")
        if type(number) is not int or not 0 < number < _MAX_NUMBER:
            return
        if action == "done":
            request = self._requests.get(number) if message.get("asker", self._hub.sender) == self._hub.sender else None
            if request is not None and not request.done():
                request.set_result(None)
            return
        group, name, answer = message.get("group"), message.get("name"), message.get("answer")
        if not (isinstance(group, str) and isinstance(name, str) and isinstance(answer, str)):
            return
        if not _PROCESS_GROUP.fullmatch(answer) or not _are_names(group, name):
            return
        reply = channel_names.find(name)
        if reply is not None and not self._hub.owns(reply):
            # The hub of the channel's event loop acts, and answers.
            return
        waiting: asyncio.Future[None] | None = None
        if action == "add":
            if reply is not None:
                if not self._hub.adds_on_request() or not self._may_add(name, group):
                    return
                waiting = self._hub.add(group, name, reply, Context())
        elif action == "discard":
            self._hub.discard(group, name)
        if self._answers < _MAX_ANSWERS:
            self._answers += 1
            asker = message.get("asker")
            done = {_KEY: "done", "number": number}
            if isinstance(asker, str) and len(asker) <= _MAX_NAME_CHARACTERS and asker.isascii():
                done["asker"] = asker
            self._hub.start_task(self._answer(answer, done, waiting))

    def close(self) -> None:
        if self._signer is not None:
            self._signer.close()

    def membership_ended(self, name: str, group: str) -> None:
        if self._memberships:
            self._memberships.discard((name, group))

    def _may_add(self, name: str, group: str) -> bool:
        member = self._hub.members.get(name)
        if self._signer is not None or (member is not None and group in member.groups):
            return True
        if len(self._memberships) >= _MAX_MEMBERSHIPS:
            if count := self._full_log.admits():
                logger.warning(
                    "other processes asked to add clients to groups; ignored %d %s above the limit of %d "
                    "memberships; pass secret= to remove the limit",
                    count,
                    "request" if count == 1 else "requests",
                    _MAX_MEMBERSHIPS,
                )
            return False
        self._memberships.add((name, group))
        return True

    async def _answer(self, group: str, done: Message, waiting: asyncio.Future[None] | None) -> None:
        try:
            if waiting is not None:
                await asyncio.wait((waiting,))
            await self._send(group, done)
        except BroadcastUnavailable:
            # The other process repeats its request.
            pass
        finally:
            self._answers -= 1

    async def _send(self, group: str, command: Message) -> None:
        if self._signer is not None:
            # Each attempt needs another signature, because a signature is valid once.
            command = self._signer.sign(group, self._hub.sender, command)
        await self._hub.hand_over(group, encode(command))


def _are_names(group: str, name: str) -> bool:
    try:
        return owner_of(name) == channel_names.process and bool(group_name(group))
    except LocalProtocolError:
        return False
