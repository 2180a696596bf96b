"""Adds members to groups, and publishes and delivers messages."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sys
import weakref
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import Context
from dataclasses import asdict, dataclass, field
from functools import partial
from threading import get_ident
from typing import Any, Final, final

from uvicorn import measurements
from uvicorn.broadcast.backend import PUBLISH_TIMEOUT, Backend
from uvicorn.broadcast.encoding import MAX_MESSAGE_BYTES, Encoded, MalformedMessage, decode, encode, share, weight
from uvicorn.broadcast.gap_reports import GapReports
from uvicorn.broadcast.members import DeliveryMetrics, Member, MemberContext, OnClientGap, Queueing
from uvicorn.broadcast.outage import Outage
from uvicorn.broadcast.remote_members import RemoteMembers
from uvicorn.broadcast.sequences import SentSequences
from uvicorn.broadcast.subscriptions import Subscriptions
from uvicorn.errors import BroadcastUnavailable
from uvicorn.escape import escaped
from uvicorn.log_limit import LOG_SECONDS
from uvicorn.types import Message

logger = logging.getLogger("uvicorn.broadcast")


@dataclass(frozen=True, slots=True)
class HubOptions:
    queueing: Queueing = Queueing()
    max_message_bytes: int = MAX_MESSAGE_BYTES
    #: Whether a failed publish raises BroadcastUnavailable, besides being counted.
    raise_unavailable: bool = True
    #: Authenticate requests of other processes; the first one signs. If empty, any publisher is trusted.
    secrets: tuple[bytes, ...] = field(default=(), repr=False)


@final
class Hub:
    """The groups of one event loop. For use on the event loop's thread."""

    def __init__(
        self, open_backend: Callable[[], Awaitable[Backend]], options: HubOptions, on_gap: OnClientGap | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.thread = get_ident()
        self.options = options
        self.metrics = DeliveryMetrics()
        #: The name of this hub in its messages, which each hub numbers separately.
        self.sender = secrets.token_hex(6)
        self.backend: Backend | None = None
        #: The URL of the backend; '' for a backend object.
        self.url = ""
        self.prefix = ""
        self.publish_timeout = PUBLISH_TIMEOUT
        self._groups: dict[str, dict[Member, None]] = {}
        self._gaps = GapReports(self.loop, lambda group: self._groups.get(group, ()))
        self.subscriptions = Subscriptions(self._subscribe, self._unsubscribe, self.start_task, self._gaps.on_gap)
        self.members: dict[str, Member] = {}
        #: Callbacks for gaps, by the name of the reply channel. Gaps of other clients are passed to the application.
        self.gap_callbacks: dict[str, Callable[[Message], object]] = {}
        self.remote_members = RemoteMembers(self, options.secrets)
        self._open_backend = open_backend
        self._shared = MemberContext(options.queueing, self.metrics, self.start_task, self.forget, on_gap)
        self._sequences = SentSequences()
        self._tasks: set[asyncio.Task[None]] = set()
        self._publishing: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._entering = 0
        self._stopped = False
        self._outage = Outage()
        self._outage_timer: asyncio.TimerHandle | None = None
        self._malformed_logged = False

    # Start and stop.

    async def start(self) -> None:
        """Connect, unless connected."""
        if self.backend is not None and not self._entering:
            return
        # Meanwhile later callers queue at the lock too: callers continue in the order of their calls.
        self._entering += 1
        try:
            async with self._starting:
                if self.backend is None:
                    # A separate task, so that the backend's tasks neither inherit the context of the first client nor
                    # are cancelled with it.
                    await outcome(self.start_task(self._start()))
        finally:
            self._entering -= 1

    async def stop(self) -> None:
        self._stopped = True
        _running.pop(id(self), None)
        self.subscriptions.close()
        self.remote_members.close()
        self._gaps.close()
        if self._outage_timer is not None:
            self._outage_timer.cancel()
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
            # The server gives cancelled handlers one second too.
            await asyncio.wait(left, timeout=1)

    def snapshot(self) -> dict[str, int | bool]:
        counted = asdict(self.metrics) | {"groups": len(self._groups), "members": len(self.members)}
        if self.backend is not None:
            # Renamed, because `delivered` and `gaps` above count per client.
            counters = asdict(self.backend.metrics)
            counters["received"] = counters.pop("delivered", 0)
            counters["holes"] = counters.pop("gaps", 0)
            counted |= counters
        return counted

    # Membership.

    def add(self, group: str, name: str, reply: Any, context: Context) -> asyncio.Future[None] | None:
        """Add reply channel `name` to `group`. If the subscription is pending, return a future."""
        known = self.members.get(name)
        member = known or Member(reply, name, context, self._shared)
        self._groups.setdefault(group, {})[member] = None
        member.groups.add(group)
        if known is None:
            self.members[name] = member
            # Called immediately if the client has disconnected already.
            member.target.on_close(partial(self.forget, member))
        return self.subscriptions.want(group) if group in member.groups else None

    def owns(self, reply: Any) -> bool:
        return getattr(reply, "loop_thread", self.thread) == self.thread

    def adds_on_request(self) -> bool:
        """Return whether this hub adds channels at the request of other processes."""
        # Only the first hub of its event loop: a client that joined through two hubs would get each message twice.
        key = (self.thread, self.url, self.prefix)
        same = (hub for hub in tuple(_running.values()) if (hub.thread, hub.url, hub.prefix) == key)
        return not self.url or next(same, self) is self

    def discard(self, group: str, name: str) -> None:
        member = self.members.get(name)
        if member is None or group not in member.groups:
            return
        member.leave(group)
        self._remove(group, member)
        if not member.groups and not member.reports_close:
            # Other members stay until their client disconnects: a new Member would register another callback.
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
                self._gaps.forget(group)
                if not self._stopped:
                    self.subscriptions.drop(group)

    # Sending.

    def publish(self, group: str, message: Message, after: tuple[asyncio.Future[None], ...] = ()) -> asyncio.Task[None]:
        """Publish in a task when all of `after` have succeeded. Raises LocalProtocolError."""
        encoded = encode(message, self.options.max_message_bytes)
        return self.start_sending(self._publish(group, encoded, after))

    def start_sending(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task. `stop` cancels the task after the backend has stopped."""
        task = self._begin(coroutine, None, self._publishing)
        # Retrieve the exception: otherwise the event loop logs it.
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
        """Publish a message with the next sequence number. Raises BroadcastUnavailable."""
        try:
            if not self._stopped:
                await self.start()
            if self.backend is None:
                raise BroadcastUnavailable(f"group {group!r}: the server has stopped")
            # No suspension between the two: payloads leave in the order of their numbers.
            await self.backend.publish(group, encoded.numbered(self.sender, self._sequences.next(group)))
        except BroadcastUnavailable as error:
            self._outage.failed(error)
            if self._outage_timer is None and not self._stopped:
                self._outage_timer = self.loop.call_later(LOG_SECONDS, self._check_outage, context=Context())
            raise
        else:
            self._outage.succeeded()

    def _check_outage(self) -> None:
        self._outage_timer = None
        if self._outage:
            self._outage.count()
            if self.backend is not None and self.backend.metrics.connected:
                self._outage.succeeded()
            else:
                self._outage_timer = self.loop.call_later(LOG_SECONDS, self._check_outage, context=Context())

    # Called by the backend.

    def _on_message(self, group: str, payload: bytes) -> None:
        is_control = group == self.remote_members.group
        members = self._groups.get(group)
        if members is None and not is_control:
            return
        try:
            message, sender, sequence = decode(payload, self.options.max_message_bytes)
        except MalformedMessage as error:
            self.metrics.dropped_broken += 1
            if not self._malformed_logged:
                self._malformed_logged = True
                reason = escaped(error)
                logger.warning(
                    "group %.200r: malformed message dropped: %s; later malformed messages are not logged",
                    group,
                    reason,
                )
            return
        if members is None or is_control:
            self.remote_members.on_message(message)
            return
        if sender:
            self._gaps.on_sequence(group, sender, sequence)
        share(message)
        # The text, if the message has no other keys.
        text = message.get("text") if len(message) == 1 else None
        text = text if isinstance(text, str) else None
        size, sent = len(payload) if text is not None else weight(message, payload), 0
        for member in tuple(members):
            # The fast path of most messages: text, for a client that reads fast enough.
            if text is not None and member.offer_text(text):
                sent += 1
            else:
                member.deliver(group, message, size)
        self.metrics.delivered += sent

    # Internal.

    def start_task(self, coroutine: Coroutine[Any, Any, None], context: Context | None = None) -> asyncio.Task[None]:
        """Start a task that `stop` cancels. The default `context` is empty."""
        return self._begin(coroutine, context, self._tasks)

    def _begin(
        self, coroutine: Coroutine[Any, Any, None], context: Context | None, tasks: set[asyncio.Task[None]]
    ) -> asyncio.Task[None]:
        # A copy, because two tasks cannot run in one context at the same time.
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
            await backend.start(self._on_message, self._gaps.on_gap)
        except BaseException:
            # The backend may have begun to connect.
            await backend.stop()
            raise
        if self._stopped:
            await backend.stop()
            return
        self.backend = backend
        _running[id(self)] = self
        self.subscriptions.want(self.remote_members.group)

    async def _subscribe(self, groups: Collection[str]) -> None:
        await self.start()
        if self.backend is not None:
            await self.backend.subscribe(groups)

    async def _unsubscribe(self, groups: Collection[str]) -> None:
        if self.backend is not None:
            await self.backend.unsubscribe(groups)


#: The hubs of this process that have started and not stopped, in the order of their start.
_running: Final[weakref.WeakValueDictionary[int, Hub]] = weakref.WeakValueDictionary()
# A forked process has copies of the objects, but not the threads of their event loops.
os.register_at_fork(after_in_child=_running.clear)


def _measure() -> tuple[dict[str, float], dict[str, float]]:
    hubs = tuple(_running.values())
    backends = [hub.backend.metrics for hub in hubs if hub.backend is not None]
    counters: dict[str, float] = {
        "broadcast_published_total": sum(backend.published for backend in backends),
        "broadcast_publish_failures_total": sum(backend.publish_failures for backend in backends),
        "broadcast_delivered_total": sum(hub.metrics.delivered for hub in hubs),
        "broadcast_dropped_total": sum(hub.metrics.dropped_slow + hub.metrics.dropped_refused for hub in hubs),
        "broadcast_gaps_total": sum(hub.metrics.gaps for hub in hubs),
        "broadcast_reconnects_total": sum(backend.reconnects for backend in backends),
    }
    gauges: dict[str, float] = {
        "broadcast_members": sum(len(hub.members) for hub in hubs),
        "broadcast_connected": int(bool(backends) and all(backend.connected for backend in backends)),
    }
    return counters, gauges


measurements.sources["broadcast"] = _measure


def running_hub(url: str | None) -> Hub | None:
    """Return the first running hub with `url`. Without `url`, any URL matches."""
    for hub in tuple(_running.values()):
        if hub.loop.is_running() and hub.url and (url is None or hub.url == url):
            return hub
    return None


async def outcome(future: asyncio.Future[None]) -> None:
    """Await a future. Cancelling the caller does not cancel the future."""
    if not future.done():
        await asyncio.wait((future,))
    if future.cancelled():
        raise BroadcastUnavailable("the server has stopped")
    future.result()
