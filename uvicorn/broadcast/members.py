"""Members of groups: each has a queue of messages and gaps while its client is slow."""

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
from uvicorn.broadcast.log_limit import LogLimit
from uvicorn.errors import BroadcastUnavailable, ClientDisconnected, LocalProtocolError
from uvicorn.escape import escaped
from uvicorn.types import GroupMember, Message

logger = logging.getLogger("uvicorn.broadcast")

#: Policies for slow clients.
CLOSE: Final = "close"
DROP_OLDEST: Final = "drop_oldest"
DROP_NEWEST: Final = "drop_newest"
POLICIES: Final = (CLOSE, DROP_OLDEST, DROP_NEWEST)

#: Reasons of a gap, besides those of backends: a missing sequence number, and a slow client.
LOST: Final = "lost"
SLOW: Final = "slow"

#: 256 messages or 4 MiB: what the server keeps for a client that does not read (interface rule R17).
QUEUE_MESSAGES: Final = 256
QUEUE_BYTES: Final = 4 << 20

# Each error is logged once, with limits in number and rate: a publisher can vary the error with each message.
_MAX_LOGGED_ERRORS: Final = 100
_REFUSED_LINES: Final = 20
_LONGEST_TEXT: Final = 500


@dataclass(slots=True)
class Gap:
    """A point in a client's queue where messages of `groups` may be missing, none of them sent before `since`."""

    groups: set[str]
    reason: str
    since: float

    def merge(self, other: Gap) -> None:
        """Merge the next gap into this one: no message is queued between them."""
        self.groups |= other.groups
        self.since = min(self.since, other.since)


#: Notifies the application of a gap, before the client's next message.
OnClientGap: TypeAlias = Callable[[Any, Gap], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class DeliveryMetrics:
    """Counters of the delivery to clients."""

    delivered: int = 0
    #: The client was too slow.
    dropped_slow: int = 0
    #: The client's state did not allow the message, or its kind of connection cannot send it.
    dropped_refused: int = 0
    #: Malformed payloads.
    dropped_broken: int = 0
    #: Control messages with a missing, wrong, repeated or expired signature.
    dropped_control: int = 0
    #: Slow clients that were disconnected.
    closed_slow: int = 0
    #: Gap events: one for each member and gap.
    gaps: int = 0
    #: The maximum number of messages queued for one client.
    queue_high_water: int = 0


@dataclass(frozen=True, slots=True)
class Queueing:
    """Limits of a client's queue, and the policy beyond them."""

    messages: int = QUEUE_MESSAGES
    bytes: int = QUEUE_BYTES
    policy: str = CLOSE


@dataclass(frozen=True, slots=True)
class MemberContext:
    """State that the members of a hub share."""

    queueing: Queueing
    metrics: DeliveryMetrics
    #: Starts a task that is cancelled when the hub stops.
    start: Callable[[Coroutine[Any, Any, None], Context | None], asyncio.Task[None]]
    #: Ends all memberships of a member.
    forget: Callable[[Member], None]
    on_gap: OnClientGap | None
    #: Errors that have been logged.
    logged_errors: set[str] = field(default_factory=set)
    refused_log: LogLimit = field(default_factory=lambda: LogLimit(_REFUSED_LINES))


@final
@dataclass(slots=True, eq=False)
class Member:
    """A reply channel in groups. The application is notified of gaps in `context`, which is the client's.

    `reply` is the application's object, `target` the GroupMember for it; usually they are the same.
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
        """Whether the reply channel reports that its client has disconnected."""
        return not isinstance(self.target, HostReply) or self.target.reports_close

    def offer_text(self, text: str) -> bool:
        """Send a message that is only text, unless it would have to wait; return whether it was sent.

        The caller counts it, for speed. Never raises: if False is returned, `deliver` handles the reason.
        """
        if self._pump is not None:
            return False
        try:
            return self.target.offer_text(text)
        except (Exception, asyncio.CancelledError):
            return False

    def deliver(self, group: str, message: Message, size: int) -> None:
        """Send or queue a message. Never waits or raises."""
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
        """Notify the application of a gap before the client's next message."""
        self._queue_gap(gap)
        self._start_pump()

    def end(self) -> None:
        """Drop the queue: the client has disconnected, or left its last group."""
        self._queue.clear()
        self._waiting = self._waiting_bytes = 0
        if self._pump is not None:
            self._pump.cancel()

    def leave(self, group: str) -> None:
        """Leave a group, and drop its queued messages."""
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
        """Count and log a failure; other members are not affected."""
        self.shared.metrics.dropped_refused += 1
        if isinstance(error, ClientDisconnected):
            return
        # Each error once: one message may fail for ten thousand clients.
        logged, text = self.shared.logged_errors, escaped(error, _LONGEST_TEXT)
        if text not in logged and not isinstance(error, asyncio.CancelledError) and self.shared.refused_log.admits():
            if len(logged) >= _MAX_LOGGED_ERRORS:
                logged.clear()
            logged.add(text)
            known = isinstance(error, LocalProtocolError)
            logger.error(
                "a group's message could not be sent to %s: %s",
                escaped(self.name, _LONGEST_TEXT),
                text,
                exc_info=None if known else error,
            )

    def _close_slow(self) -> None:
        self.shared.metrics.closed_slow += 1
        self.shared.metrics.dropped_slow += self._waiting + 1
        logger.warning(
            "%s: the client does not read the messages of its groups; closed (1013)", escaped(self.name, _LONGEST_TEXT)
        )
        self.shared.forget(self)
        try:
            self.target.break_off("slow consumer")
        except Exception as error:
            self._refuse(error)

    def _drop_oldest(self) -> None:
        first = self._queue.popleft()
        # A queued gap grows.
        gap, oldest = (first, self._queue.popleft()) if isinstance(first, Gap) else (None, first)
        assert not isinstance(oldest, Gap)
        group, _, size = oldest
        self._waiting -= 1
        self._waiting_bytes -= size
        if gap is None:
            gap = Gap({group}, SLOW, time.time())
        else:
            gap.groups.add(group)
        following = self._queue[0] if self._queue else None
        if isinstance(following, Gap):
            following.merge(gap)
        else:
            self._queue.appendleft(gap)

    def _queue_gap(self, gap: Gap) -> None:
        last = self._queue[-1] if self._queue else None
        if isinstance(last, Gap):
            last.merge(gap)
        else:
            self._queue.append(gap)

    def _start_pump(self) -> None:
        if self._pump is None:
            pump = self._pump = self.shared.start(self._run(), None)
            # An eager task may be done already.
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
                await self._notify(item)
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

    async def _notify(self, gap: Gap) -> None:
        self.shared.metrics.gaps += 1
        on_gap = self.shared.on_gap
        if on_gap is None:
            return
        # A task of its own, which the client's disconnect does not cancel: the application may be using its database.
        # Messages wait for it, so that those that it replays come first.
        notifying = self.shared.start(on_gap(self.reply, gap), self.context)
        if not notifying.done():
            await asyncio.wait((notifying,))
        if not notifying.cancelled() and (error := notifying.exception()) is not None:
            if not (isinstance(error, BroadcastUnavailable) and error.reported):
                logger.error(
                    "%s: exception in the application while it handled a gap",
                    escaped(self.name, _LONGEST_TEXT),
                    exc_info=error,
                )

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        self._pump = None
        if not pump.cancelled() and (error := pump.exception()) is not None:
            # `wait_ready` failed: the member cannot be served.
            self._refuse(error)
            self.shared.forget(self)
        if self._queue:
            # Something was queued after the task's last check.
            self._start_pump()
