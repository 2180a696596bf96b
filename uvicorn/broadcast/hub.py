"""One process's share of all groups: who of its clients is in them, what they are sent, and what it sends.

A hub belongs to one event loop and is touched on its thread only.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from contextvars import Context
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import get_ident
from typing import Any, Final, final

from uvicorn.broadcast.backend import OVERFLOW, PUBLISH_TIMEOUT, RECONNECT, Backend
from uvicorn.broadcast.encoding import (
    MAX_MESSAGE_BYTES,
    BrokenMessage,
    Encoded,
    decode,
    encode,
    only_text,
    share,
    weight,
)
from uvicorn.broadcast.hub_registry import add_running, remove_running
from uvicorn.broadcast.log_limit import LOG_SECONDS, LogLimit
from uvicorn.broadcast.members import LOST, DeliveryMetrics, Gap, Member, MemberContext, OnClientGap, Queueing
from uvicorn.broadcast.outage import Outage
from uvicorn.broadcast.remote_members import RemoteMembers
from uvicorn.broadcast.sequences import Sequences
from uvicorn.broadcast.subscriptions import Subscriptions
from uvicorn.errors import BroadcastUnavailable
from uvicorn.escape import escaped
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.broadcast")

# Numbers are kept for this many groups that are sent to. Whose number has been forgotten begins anew, which is no hole.
_MOST_SEQUENCES: Final = 10_000

# 5 s: whoever may publish can make holes, one for each message; an application may look into its database at each.
_HOLES_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class HubOptions:
    """What users may choose."""

    queueing: Queueing = Queueing()
    max_message_bytes: int = MAX_MESSAGE_BYTES
    #: Whether a send that the carrier does not take raises BroadcastUnavailable; if not, it is counted.
    raise_unavailable: bool = True
    #: By which processes know each other's requests; the first signs. None: whoever may publish is believed.
    secrets: tuple[bytes, ...] = field(default=(), repr=False)


@final
class Hub:
    """Groups, on one event loop. `open_backend` is awaited once, when the hub starts; `on_gap(reply, gap)` is awaited
    for each member and hole."""

    def __init__(
        self,
        open_backend: Callable[[], Awaitable[Backend]],
        options: HubOptions,
        on_gap: OnClientGap | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = get_ident()
        self.options = options
        self.metrics = DeliveryMetrics()
        #: Who sends, as the others see it. Each hub numbers its own messages.
        self.sender = secrets.token_hex(6)
        self.backend: Backend | None = None
        #: What carries its messages, if that has a URL; and what goes before the names of groups.
        self.url = ""
        self.prefix = ""
        #: The seconds after which a message is given up.
        self.publish_timeout = PUBLISH_TIMEOUT
        self.subscriptions = Subscriptions(
            self._subscribe,
            self._unsubscribe,
            self.start_task,
            lambda groups, since: self._on_gap(groups, RECONNECT, since),
        )
        self.members: dict[str, Member] = {}
        #: By the names of reply channels: who wants to be told of gaps in another way than the application as a whole.
        self.gap_callbacks: dict[str, Callable[[Message], object]] = {}
        self.remote_members = RemoteMembers(self, options.secrets)
        self._open_backend = open_backend
        self._shared = MemberContext(options.queueing, self.metrics, self.start_task, self.forget, on_gap)
        self._groups: dict[str, dict[Member, None]] = {}
        self._sequences: dict[str, int] = {}
        self._heard = Sequences()
        # By reason and group, since when: those that have not been reported, for others were a moment ago.
        self._holes: dict[str, dict[str, float]] = {}
        self._holes_timer: asyncio.TimerHandle | None = None
        self._holes_log = LogLimit()
        self._tasks: set[asyncio.Task[None]] = set()
        self._publishing: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._entering = 0
        self._stopped = False
        self._outage = Outage()
        self._outage_timer: asyncio.TimerHandle | None = None
        self._broken_told = False

    # Beginning and end

    async def start(self) -> None:
        """Connect, once; whoever comes meanwhile waits, and goes on in the order of coming."""
        if self.backend is not None and not self._entering:
            return
        self._entering += 1
        try:
            async with self._starting:
                if self.backend is None:
                    # In a task of our own: what the backend starts must not run in the name of the client that happens
                    # to be the first, nor be cancelled with it.
                    await outcome(self.start_task(self._start()))
        finally:
            self._entering -= 1

    async def stop(self) -> None:
        """Finish what is being sent, and close."""
        self._stopped = True
        remove_running(self)
        self.subscriptions.close()
        self.remote_members.close()
        for timer in (self._holes_timer, self._outage_timer):
            if timer is not None:
                timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        backend, self.backend = self.backend, None
        for member in tuple(self.members.values()):
            self.forget(member)
        if backend is not None:
            await backend.stop()
        for task in tuple(self._publishing):
            task.cancel()
        left = self._tasks | self._publishing
        left.discard(asyncio.current_task())
        if left:
            # One second for handlers that clean up, as the server gives them.
            await asyncio.wait(left, timeout=1)

    def snapshot(self) -> dict[str, int | bool]:
        """All that is counted."""
        counted = asdict(self.metrics) | {"groups": len(self._groups), "members": len(self.members)}
        if self.backend is not None:
            # What a backend has delivered to this process is something else than what clients were sent.
            theirs = asdict(self.backend.metrics)
            theirs["received"] = theirs.pop("delivered", 0)
            theirs["holes"] = theirs.pop("gaps", 0)
            counted |= theirs
        return counted

    # Membership

    def add(self, group: str, name: str, reply: Any, context: Context) -> asyncio.Future[None] | None:
        """Make a channel a member; `context` is its client's.

        What is returned is done when the group is heard; None if it is already.
        """
        member = self.members.get(name)
        if member is None:
            member = self.members[name] = Member(reply, name, context, self._shared)
            self._groups.setdefault(group, {})[member] = None
            member.groups.add(group)
            # Calls back at once if the client has gone already.
            member.target.on_close(partial(self.forget, member))
        else:
            self._groups.setdefault(group, {})[member] = None
            member.groups.add(group)
        return self.subscriptions.want(group) if group in member.groups else None

    def discard(self, group: str, name: str) -> None:
        """End a membership; nothing of the group is sent to the channel from now on."""
        member = self.members.get(name)
        if member is None or group not in member.groups:
            return
        member.leave(group)
        self._remove(group, member)
        if not member.groups and not member.reports_close:
            # Others stay until their client goes: who joins and leaves all day must not leave a callback each time.
            del self.members[name]

    def forget(self, member: Member) -> None:
        """End all memberships of a client."""
        if self.members.get(member.name) is member:
            del self.members[member.name]
        for group in member.groups:
            self._remove(group, member)
        member.groups.clear()
        member.end()

    def _remove(self, group: str, member: Member) -> None:
        members = self._groups.get(group)
        if members is not None and member in members:
            del members[member]
            self.remote_members.membership_ended(member.name, group)
            if not members:
                del self._groups[group]
                self._heard.forget(group)
                if not self._stopped:
                    self.subscriptions.drop(group)

    # Sending

    def publish(self, group: str, message: Message, after: tuple[asyncio.Future[None], ...] = ()) -> asyncio.Task[None]:
        """Send to all members, wherever they are, when what is in `after` is done.

        Raises LocalProtocolError for what is no message; the task raises BroadcastUnavailable.
        """
        encoded = encode(message, self.options.max_message_bytes)
        return self.start_sending(self._publish(group, encoded, after))

    def start_sending(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that is to be finished when the hub stops."""
        task = self._begin(coroutine, None, self._publishing)
        # Asked for, in case nobody does.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return task

    async def _publish(self, group: str, encoded: Encoded, after: tuple[asyncio.Future[None], ...]) -> None:
        for earlier in after:
            await outcome(earlier)
        try:
            await self.hand_over(group, encoded)
        except BroadcastUnavailable:
            if self.options.raise_unavailable:
                raise

    async def hand_over(self, group: str, encoded: Encoded) -> None:
        """Number a message, and hand it to the backend; nothing comes between the two.

        Raises BroadcastUnavailable, after it has been counted and logged.
        """
        try:
            await self._hand_over(group, encoded)
        except BroadcastUnavailable as error:
            self._outage.failed(error)
            if self._outage_timer is None and not self._stopped:
                self._outage_timer = self.loop.call_later(LOG_SECONDS, self._look_at_outage, context=Context())
            raise
        else:
            if self._outage:
                self._outage.succeeded()

    def _look_at_outage(self) -> None:
        """A minute of an outage has passed; it may have ended unnoticed, since nothing was sent."""
        self._outage_timer = None
        if self._outage:
            self._outage.count()
            if self.backend is not None and self.backend.metrics.connected:
                self._outage.succeeded()
            else:
                self._outage_timer = self.loop.call_later(LOG_SECONDS, self._look_at_outage, context=Context())

    async def _hand_over(self, group: str, encoded: Encoded) -> None:
        if self._stopped:
            raise BroadcastUnavailable(f"group {group!r}: the server has stopped")
        await self.start()
        backend = self.backend
        if backend is None:
            raise BroadcastUnavailable(f"group {group!r}: the server has stopped")
        sequence = self._sequences.pop(group, 0) + 1
        self._sequences[group] = sequence
        if len(self._sequences) > _MOST_SEQUENCES:
            del self._sequences[next(iter(self._sequences))]
        await backend.publish(group, encoded.numbered(self.sender, sequence))

    # What the backend calls

    def _on_message(self, group: str, payload: bytes) -> None:
        # First: nobody can be a member of this one, whatever they say.
        is_control = group == self.remote_members.group
        members = self._groups.get(group)
        if members is None and not is_control:
            return
        try:
            message, sender, sequence = decode(payload, self.options.max_message_bytes)
        except BrokenMessage as error:
            self.metrics.dropped_broken += 1
            if not self._broken_told:
                self._broken_told = True
                logger.warning(
                    "group %.200r: skipped what is no message, and will be from now on: %s", group, escaped(error)
                )
            return
        if members is None or is_control:
            self.remote_members.on_message(message)
            return
        if sender:
            lost, since = self._heard.missing(group, sender, sequence)
            if lost:
                if count := self._holes_log.admits(lost):
                    logger.warning(
                        "group %.200r: messages were lost: %d, in all groups since the last such line", group, count
                    )
                self._report_hole(group, LOST, since)
        share(message)
        text = only_text(message)
        size, taken = len(payload) if text is not None else weight(message, payload), 0
        for member in tuple(members):
            # Most messages are text, and most members keep up: nothing has to be looked at for each of them.
            if text is not None and member.offer_text(text):
                taken += 1
            else:
                member.deliver(group, message, size)
        self.metrics.delivered += taken

    def _report_hole(self, group: str, reason: str, since: float) -> None:
        """Report a hole that anybody could have made: at once, unless that has been done a moment ago."""
        holes = self._holes.setdefault(reason, {})
        holes[group] = min(since, holes.get(group, since))
        if self._holes_timer is None:
            self._report_holes()

    def _report_holes(self) -> None:
        self._holes_timer = None
        holes, self._holes = self._holes, {}
        for reason, groups in holes.items():
            for member, gap in self._affected(groups, reason).items():
                member.notify_gap(gap)
        if holes:
            self._holes_timer = self.loop.call_later(_HOLES_SECONDS, self._report_holes, context=Context())

    def _on_gap(self, groups: Collection[str], reason: str, since: float) -> None:
        if reason == OVERFLOW:
            # A message that is too long, which anybody can send.
            for group in groups:
                self._report_hole(group, reason, since)
            return
        for group in groups:
            # Whatever number comes next, its hole has been told.
            self._heard.forget(group)
        affected = self._affected(dict.fromkeys(groups, since), reason)
        if affected:
            logger.warning("messages to %d clients may have been lost since %.3f: %s", len(affected), since, reason)
        for member, gap in affected.items():
            member.notify_gap(gap)

    def _affected(self, holes: Mapping[str, float], reason: str) -> dict[Member, Gap]:
        """One gap for each member of these groups."""
        affected: dict[Member, Gap] = {}
        for group, since in holes.items():
            for member in self._groups.get(group, ()):
                gap = Gap({group}, reason, since)
                if member in affected:
                    affected[member].merge(gap)
                else:
                    affected[member] = gap
        return affected

    # Within

    def start_task(self, coroutine: Coroutine[Any, Any, None], context: Context | None = None) -> asyncio.Task[None]:
        """Run something until the hub stops; in a context that is nobody's, unless one is given."""
        return self._begin(coroutine, context, self._tasks)

    def _begin(
        self, coroutine: Coroutine[Any, Any, None], context: Context | None, tasks: set[asyncio.Task[None]]
    ) -> asyncio.Task[None]:
        # A copy: a context that somebody is in already cannot be entered again.
        context = Context() if context is None else context.copy()
        if sys.version_info >= (3, 12):
            task = asyncio.Task(coroutine, loop=self.loop, eager_start=True, context=context)
            if task.done():
                return task
        else:
            task = self.loop.create_task(coroutine, context=context)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    async def _start(self) -> None:
        backend = await self._open_backend()
        try:
            await backend.start(self._on_message, self._on_gap)
        except BaseException:
            # It may have begun to connect, and nobody else knows of it.
            await backend.stop()
            raise
        if self._stopped:
            await backend.stop()
            return
        self.backend = backend
        add_running(self)
        self.subscriptions.want(self.remote_members.group)

    async def _subscribe(self, groups: Collection[str]) -> None:
        await self.start()
        if self.backend is not None:
            await self.backend.subscribe(groups)

    async def _unsubscribe(self, groups: Collection[str]) -> None:
        if self.backend is not None:
            await self.backend.unsubscribe(groups)


async def outcome(future: asyncio.Future[None]) -> None:
    """Wait for something that goes on even if who waits is cancelled."""
    if not future.done():
        await asyncio.wait((future,))
    if future.cancelled():
        raise BroadcastUnavailable("the server has stopped")
    future.result()
