"""One member of groups: a client, and what waits for it while it is slow or has yet to hear of a hole."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, final

from uvicorn.broadcast.host_reply import HostReply, as_member
from uvicorn.broadcast.log_limit import LogLimit, shown
from uvicorn.errors import BroadcastUnavailable, ClientDisconnected, LocalProtocolError
from uvicorn.types import GroupMember, Message

logger = logging.getLogger("uvicorn.broadcast")

#: What to do about a client that takes less than it is sent.
CLOSE: Final = "close"
DROP_OLDEST: Final = "drop_oldest"
DROP_NEWEST: Final = "drop_newest"
POLICIES: Final = (CLOSE, DROP_OLDEST, DROP_NEWEST)

#: Why messages may be missing, beside what backends say: a message's number is not the one after the last, or this
#: client was too slow.
LOST: Final = "lost"
SLOW: Final = "slow"

#: 256 messages or 4 MiB: what the server keeps for a client that does not read (interface rule R17).
QUEUE_MESSAGES: Final = 256
QUEUE_BYTES: Final = 4 << 20

# Each error is logged once, until there are too many to remember, and so many a minute: a message can be made so that
# its error is another one each time.
_MAX_LOGGED_ERRORS: Final = 100
_REFUSED_LINES: Final = 20


@dataclass(slots=True)
class Gap:
    """Messages of `groups` may be missing here; all before `since` were there."""

    groups: set[str]
    reason: str
    since: float

    def merge(self, other: Gap) -> None:
        """Two holes with nothing between them are one."""
        self.groups |= other.groups
        self.since = min(self.since, other.since)


#: Tells the application of a hole before a client's next message.
OnClientGap: TypeAlias = Callable[[Any, Gap], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class DeliveryMetrics:
    """What became of messages on this side of the backend."""

    delivered: int = 0
    #: Those that a client was too slow for, that came too early or with what it cannot be sent, and no messages at all.
    dropped_slow: int = 0
    dropped_refused: int = 0
    dropped_broken: int = 0
    #: Control messages that were not signed by a secret of this site, or not for the first time, or too long ago.
    dropped_control: int = 0
    #: Clients that were closed for being slow.
    closed_slow: int = 0
    #: Gap events: one for each member and hole.
    gaps: int = 0
    #: The most that ever waited for one client.
    queue_high_water: int = 0


@dataclass(frozen=True, slots=True)
class Queueing:
    """How much may wait for one client, and what happens then."""

    messages: int = QUEUE_MESSAGES
    bytes: int = QUEUE_BYTES
    policy: str = CLOSE


@dataclass(frozen=True, slots=True)
class MemberContext:
    """What members share."""

    queueing: Queueing
    metrics: DeliveryMetrics
    #: Starts a task that the hub will stop.
    start: Callable[[Coroutine[Any, Any, None], Context | None], asyncio.Task[None]]
    #: Called with a member that is no more.
    forget: Callable[[Member], None]
    on_gap: OnClientGap | None
    #: Errors that have been logged.
    logged_errors: set[str] = field(default_factory=set)
    refused_log: LogLimit = field(default_factory=lambda: LogLimit(_REFUSED_LINES))


@final
@dataclass(slots=True, eq=False)
class Member:
    """A reply channel that is in groups. In `context`, the client's own, the application is told of holes.

    `reply` is what the application knows, and `target` what is sent to, mostly the same.
    """

    reply: Any
    name: str
    context: Context
    shared: MemberContext
    groups: set[str] = field(default_factory=set)
    _queue: deque[tuple[str, Message, int] | Gap] = field(default_factory=deque)
    _waiting: int = 0
    _waiting_bytes: int = 0
    _pump: asyncio.Task[None] | None = None
    target: GroupMember = field(init=False)

    def __post_init__(self) -> None:
        self.target = as_member(self.reply, lambda coroutine: self.shared.start(coroutine, None))

    @property
    def reports_close(self) -> bool:
        """Whether it says when its client has gone."""
        return not isinstance(self.target, HostReply) or self.target.reports_close

    def offer_text(self, text: str) -> bool:
        """Send a message that is nothing but text, unless it would have to wait; return whether it was sent.

        Not counted here, for speed. Never raises: what was not sent is for `deliver`, which finds out why.
        """
        if self._pump is not None:
            return False
        try:
            return self.target.offer_text(text)
        except (Exception, asyncio.CancelledError):
            return False

    def deliver(self, group: str, message: Message, size: int) -> None:
        """Send a message, or queue it. Never waits, never raises."""
        if self._pump is None and self.target.is_ready:
            self._send(message)
            return
        queueing = self.shared.queueing
        while self._waiting >= queueing.messages or (self._waiting and self._waiting_bytes + size > queueing.bytes):
            if queueing.policy == CLOSE:
                self._close_slow()
                return
            self.shared.metrics.dropped_slow += 1
            if queueing.policy == DROP_NEWEST:
                self._queue_gap(Gap({group}, SLOW, time.time()))
                return
            self._drop_oldest()
        self._queue.append((group, message, size))
        self._waiting += 1
        self._waiting_bytes += size
        metrics = self.shared.metrics
        metrics.queue_high_water = max(metrics.queue_high_water, self._waiting)
        self._start_pump()

    def notify_gap(self, gap: Gap) -> None:
        """Have the application told, before the client has the next message."""
        self._queue_gap(gap)
        self._start_pump()

    def end(self) -> None:
        """The client has gone, or is in no group any more."""
        self._queue.clear()
        self._waiting = self._waiting_bytes = 0
        if self._pump is not None:
            self._pump.cancel()

    def leave(self, group: str) -> None:
        """What waits of a group that was left is not sent any more."""
        self.groups.discard(group)
        if not self._queue:
            return
        kept: deque[tuple[str, Message, int] | Gap] = deque()
        for item in self._queue:
            if isinstance(item, Gap):
                item.groups.discard(group)
                before = kept[-1] if kept else None
                if item.groups and isinstance(before, Gap):
                    before.merge(item)
                elif item.groups:
                    kept.append(item)
            elif item[0] != group:
                kept.append(item)
            else:
                self._waiting -= 1
                self._waiting_bytes -= item[2]
        self._queue = kept

    def _send(self, message: Message) -> None:
        try:
            self.target.send(message)
        except (Exception, asyncio.CancelledError) as error:
            self._refuse(error)
        else:
            self.shared.metrics.delivered += 1

    def _refuse(self, error: BaseException) -> None:
        """One member's trouble is not the others'."""
        self.shared.metrics.dropped_refused += 1
        if isinstance(error, ClientDisconnected):
            return
        # Each error once: one message may not fit ten thousand clients.
        told, said = self.shared.logged_errors, shown(str(error))
        if said not in told and not isinstance(error, asyncio.CancelledError) and self.shared.refused_log.admits():
            if len(told) >= _MAX_LOGGED_ERRORS:
                told.clear()
            told.add(said)
            known = isinstance(error, LocalProtocolError)
            logger.error(
                "a group's message could not be sent to %s: %s",
                shown(self.name),
                said,
                exc_info=None if known else error,
            )

    def _close_slow(self) -> None:
        self.shared.metrics.closed_slow += 1
        self.shared.metrics.dropped_slow += self._waiting + 1
        logger.warning("%s does not read what its groups are sent: closed (1013)", shown(self.name))
        self.shared.forget(self)
        try:
            self.target.break_off("slow consumer")
        except Exception as error:
            self._refuse(error)

    def _drop_oldest(self) -> None:
        first = self._queue.popleft()
        # A hole that has yet to be told of grows.
        hole, oldest = (first, self._queue.popleft()) if isinstance(first, Gap) else (None, first)
        assert not isinstance(oldest, Gap)
        group, _, size = oldest
        self._waiting -= 1
        self._waiting_bytes -= size
        if hole is None:
            hole = Gap({group}, SLOW, time.time())
        else:
            hole.groups.add(group)
        following = self._queue[0] if self._queue else None
        if isinstance(following, Gap):
            following.merge(hole)
        else:
            self._queue.appendleft(hole)

    def _queue_gap(self, gap: Gap) -> None:
        last = self._queue[-1] if self._queue else None
        if isinstance(last, Gap):
            last.merge(gap)
        else:
            self._queue.append(gap)

    def _start_pump(self) -> None:
        if self._pump is None:
            pump = self._pump = self.shared.start(self._run(), None)
            # An eager task may have been through with it already.
            if pump.done():
                self._pump_ended(pump)
            else:
                pump.add_done_callback(self._pump_ended)

    async def _run(self) -> None:
        target = self.target
        while self._queue:
            await target.wait_ready()
            if not self._queue:
                return
            item = self._queue.popleft()
            if isinstance(item, Gap):
                await self._tell(item)
                continue
            _, message, size = item
            self._waiting -= 1
            self._waiting_bytes -= size
            try:
                sent = target.send(message)
                if sent is not None:
                    await sent
            except ClientDisconnected as error:
                self._refuse(error)
                self.shared.forget(self)
            except Exception as error:
                self._refuse(error)
            else:
                self.shared.metrics.delivered += 1

    async def _tell(self, gap: Gap) -> None:
        self.shared.metrics.gaps += 1
        on_gap = self.shared.on_gap
        if on_gap is None:
            return
        # A task of its own, which the client's end does not cancel: the application may be at its database. Messages
        # wait until it has ended, so that what it replays comes before what is new.
        telling = self.shared.start(on_gap(self.reply, gap), self.context)
        if not telling.done():
            await asyncio.wait((telling,))
        if not telling.cancelled() and (error := telling.exception()) is not None:
            if not (isinstance(error, BroadcastUnavailable) and error.reported):
                logger.error("%s: exception in the application, told of a gap", shown(self.name), exc_info=error)

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        self._pump = None
        if not pump.cancelled() and (error := pump.exception()) is not None:
            # It cannot be waited for, and so not be served.
            self._refuse(error)
            self.shared.forget(self)
        if self._queue:
            # Something came between its last look and its end.
            self._start_pump()
