"""Members of groups, with their queues for slow clients."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, final

from uvicorn.errors import BroadcastUnavailable, ClientDisconnected, LocalProtocolError
from uvicorn.escape import escaped
from uvicorn.log_limit import LogLimit
from uvicorn.types import GroupMember, Message

logger = logging.getLogger("uvicorn.broadcast")

CLOSE: Final = "close"
DROP_OLDEST: Final = "drop_oldest"
DROP_NEWEST: Final = "drop_newest"
POLICIES: Final = (CLOSE, DROP_OLDEST, DROP_NEWEST)

#: Reasons of a gap, besides those in backend.py: a missing sequence number, and a slow client.
LOST: Final = "lost"
SLOW: Final = "slow"

#: 256 messages or 4 MiB: the limits of unsent messages that the server has for a slow client (interface rule R17).
QUEUE_MESSAGES: Final = 256
QUEUE_BYTES: Final = 4 << 20

# Each error is logged once. The limits are for publishers that cause a new error with each message.
_MAX_LOGGED_ERRORS: Final = 100
_REFUSED_LINES: Final = 20
_LONGEST_TEXT: Final = 500


@dataclass(slots=True)
class Gap:
    """A possible loss of messages to `groups`, at the time `since` or later."""

    groups: set[str]
    reason: str
    since: float

    def merge(self, other: Gap) -> None:
        self.groups |= other.groups
        self.since = min(self.since, other.since)


#: Notifies the application of a gap: `on_gap(reply, gap)`.
OnClientGap: TypeAlias = Callable[[Any, Gap], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class DeliveryMetrics:
    delivered: int = 0
    #: Messages that slow clients did not get.
    dropped_slow: int = 0
    #: Messages that a client's connection did not accept, because of its state or its kind.
    dropped_refused: int = 0
    #: Malformed payloads.
    dropped_broken: int = 0
    #: Control messages with a missing, wrong, repeated or expired signature.
    dropped_control: int = 0
    #: Slow clients that were disconnected.
    closed_slow: int = 0
    #: Gap events; each gap counts once for each member.
    gaps: int = 0
    #: The maximum number of messages queued for one client.
    queue_high_water: int = 0


@dataclass(frozen=True, slots=True)
class Queueing:
    messages: int = QUEUE_MESSAGES
    bytes: int = QUEUE_BYTES
    policy: str = CLOSE


@dataclass(frozen=True, slots=True)
class MemberContext:
    queueing: Queueing
    metrics: DeliveryMetrics
    #: `Hub.start_task`.
    start: Callable[[Coroutine[Any, Any, None], Context | None], asyncio.Task[None]]
    forget: Callable[[Member], None]
    on_gap: OnClientGap | None
    logged_errors: set[str] = field(default_factory=set)
    refused_log: LogLimit = field(default_factory=lambda: LogLimit(_REFUSED_LINES))


class AwaitedMember:
    """A group member whose `send` is awaited before the next send."""

    is_ready = False

    def offer_text(self, text: str) -> bool:
        return False


@final
class HostReply(AwaitedMember):
    """Adapts another server's reply channel to the GroupMember protocol."""

    def __init__(self, reply: Any, start: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        self._reply = reply
        self._start = start
        self.name: str = reply.name
        self.reports_close = hasattr(reply, "on_close")

    def send(self, message: Message) -> Awaitable[None] | None:
        sent: Awaitable[None] | None = self._reply.send(message)
        return sent

    async def wait_ready(self) -> None:
        pass

    def break_off(self, reason: str) -> None:
        self._start(self._close(reason))

    async def _close(self, reason: str) -> None:
        await self._reply.send({"close": 1013, "reason": reason})

    def on_close(self, callback: Callable[[], object]) -> None:
        if self.reports_close:
            self._reply.on_close(callback)


@final
@dataclass(slots=True, eq=False)
class Member:
    """A client that has joined groups, and its unsent messages."""

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
        if isinstance(self.reply, GroupMember):
            self.target = self.reply
        else:
            self.target = HostReply(self.reply, lambda coroutine: self.shared.start(coroutine, None))

    @property
    def reports_close(self) -> bool:
        """Whether the reply channel reports disconnects."""
        return not isinstance(self.target, HostReply) or self.target.reports_close

    def offer_text(self, text: str) -> bool:
        """Try to send `text` without waiting. Return whether the text was sent."""
        if self._pump is not None:
            return False
        try:
            return self.target.offer_text(text)
        except (Exception, asyncio.CancelledError):
            # `deliver` meets the same exception, and handles it.
            return False

    def deliver(self, group: str, message: Message, size: int) -> None:
        """Send a message, or queue it for a slow client. Never raises."""
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
        self._queue_gap(gap)
        self._start_pump()

    def end(self) -> None:
        """Stop sending, and drop all queued messages."""
        self._queue.clear()
        self._waiting = self._waiting_bytes = 0
        if self._pump is not None:
            self._pump.cancel()

    def leave(self, group: str) -> None:
        self.groups.discard(group)
        queued, self._queue = self._queue, deque()
        for item in queued:
            if isinstance(item, Gap):
                item.groups.discard(group)
                if item.groups:
                    self._queue_gap(item)
            elif item[0] != group:
                self._queue.append(item)
            else:
                self._waiting -= 1
                self._waiting_bytes -= item[2]

    @property
    def _shown_name(self) -> str:
        return escaped(self.name, _LONGEST_TEXT)

    def _send(self, message: Message) -> None:
        try:
            self.target.send(message)
        except (Exception, asyncio.CancelledError) as error:
            self._refuse(error)
        else:
            self.shared.metrics.delivered += 1

    def _refuse(self, error: BaseException) -> None:
        self.shared.metrics.dropped_refused += 1
        if isinstance(error, ClientDisconnected):
            return
        # Log each error once: one message may fail for ten thousand clients.
        logged, text = self.shared.logged_errors, escaped(error, _LONGEST_TEXT)
        if text not in logged and not isinstance(error, asyncio.CancelledError) and self.shared.refused_log.admits():
            if len(logged) >= _MAX_LOGGED_ERRORS:
                logged.clear()
            logged.add(text)
            traced = None if isinstance(error, LocalProtocolError) else error
            logger.error("%s: a group message was not sent: %s", self._shown_name, text, exc_info=traced)

    def _close_slow(self) -> None:
        self.shared.metrics.closed_slow += 1
        self.shared.metrics.dropped_slow += self._waiting + 1
        logger.warning("%s: the client does not read the messages of its groups; closed with 1013", self._shown_name)
        self.shared.forget(self)
        try:
            self.target.break_off("slow consumer")
        except Exception as error:
            self._refuse(error)

    def _drop_oldest(self) -> None:
        first = self._queue.popleft()
        gap = first if isinstance(first, Gap) else Gap(set(), SLOW, time.time())
        oldest = self._queue.popleft() if gap is first else first
        assert not isinstance(oldest, Gap)
        group, _, size = oldest
        self._waiting -= 1
        self._waiting_bytes -= size
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
            # An eager task may have ended already.
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
            except Exception as error:
                self._refuse(error)
                if isinstance(error, ClientDisconnected):
                    self.shared.forget(self)
            else:
                self.shared.metrics.delivered += 1

    async def _notify(self, gap: Gap) -> None:
        self.shared.metrics.gaps += 1
        on_gap = self.shared.on_gap
        if on_gap is None:
            return
        # A separate task, because a disconnect cancels the pump and must not cancel the application in a transaction.
        # The next message waits for the task, so that messages which the application replays are sent first.
        notifying = self.shared.start(on_gap(self.reply, gap), self.context)
        if not notifying.done():
            await asyncio.wait((notifying,))
        if not notifying.cancelled() and (error := notifying.exception()) is not None:
            if not (isinstance(error, BroadcastUnavailable) and error.reported):
                logger.error(
                    "%s: the application failed to handle a groups.gap event",
                    self._shown_name,
                    exc_info=error,
                )

    def _pump_ended(self, pump: asyncio.Task[None]) -> None:
        self._pump = None
        if not pump.cancelled() and (error := pump.exception()) is not None:
            # `wait_ready` has failed.
            self._refuse(error)
            self.shared.forget(self)
        if self._queue:
            # An item was queued after the pump's last check.
            self._start_pump()
