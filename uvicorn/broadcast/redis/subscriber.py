"""The connection on which a process hears: subscriptions, their acknowledgements, and the holes in what was heard."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from contextvars import Context
from typing import Final

from uvicorn.broadcast.backend import OVERFLOW, RECONNECT, BackendMetrics, OnGap, OnMessage
from uvicorn.broadcast.log_limit import LogLimit
from uvicorn.broadcast.redis.connection import Connect, RedisConnection
from uvicorn.broadcast.redis.reconnecting import DENIED_SECONDS, ReconnectingConnection
from uvicorn.broadcast.redis.resp import MAX_PAYLOAD_BYTES, RedisRefusal, Reply
from uvicorn.broadcast.redis.subscription import PLAIN, SHARDED, Command, Subscription, Verbs
from uvicorn.escape import escaped

logger = logging.getLogger("uvicorn.broadcast")

#: 50 ms after a refusal that passes, doubling up to 0.8 s, as with connections.
_FIRST_RETRY_SECONDS: Final = 0.05
_LONGEST_RETRY_SECONDS: Final = 0.8
#: 5 s: a script that holds Redis up for longer is mostly killed. After that `subscribe` returns, and the members of the
#: group get a gap when it is heard.
SUBSCRIBE_SECONDS: Final = 5.0
#: Groups whose denial is logged, each once, on one connection; the names may be clients' choice.
_MOST_DENIALS_LOGGED: Final = 100

#: Redirections of a cluster, which the owner of the slots deals with.
_REDIRECTIONS: Final = ("MOVED", "CLUSTERDOWN", "TRYAGAIN")

#: So many groups in one command: a refusal concerns all of them, and Redis does nothing else meanwhile.
_GROUPS_IN_COMMAND: Final = 500


class Subscriber(ReconnectingConnection):
    """Hears groups for as long as it runs, and tells of each hole once.

    A subscription that Redis refuses is asked for again: after a moment when the refusal passes by itself (BUSY,
    LOADING), every 30 s otherwise. Until it is heard there is a hole in the group.
    """

    log_level = logging.WARNING

    def __init__(
        self,
        connect: Connect,
        where: str,
        connect_timeout: float,
        *,
        metrics: BackendMetrics,
        on_message: OnMessage,
        on_gap: OnGap,
        verbs: Verbs = PLAIN,
        on_moved: Callable[[Subscription], None] | None = None,
    ) -> None:
        super().__init__(connect, where, connect_timeout)
        self._metrics = metrics
        self._on_message = on_message
        self._on_gap = on_gap
        self._verbs = verbs
        self._on_moved = on_moved
        self._by_channel: dict[bytes, Subscription] = {}
        self._commands: deque[Command] = deque()
        #: Heard again after a hole, of which nobody has been told yet.
        self._ended_gaps: list[Subscription] = []
        self._made_before = False
        #: All groups are heard, but for those that are denied.
        self.all_subscribed = False
        # Redis has answered everything that was asked when the connection was made.
        self._caught_up = False
        # Refused for the moment, until they are acknowledged; and those of them, and of groups that are to be left, for
        # which the next command has still to be sent.
        self._passing: dict[bytes, Subscription] = {}
        self._ask_again: dict[bytes, Subscription] = {}
        self._leave_again: dict[bytes, Subscription] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._denied: dict[bytes, Subscription] = {}
        self._denied_retry: asyncio.TimerHandle | None = None
        self._denials_logged: set[bytes] = set()
        self._too_long_log = LogLimit()

    # Subscriptions come and go.

    async def subscribe(self, subscriptions: Collection[Subscription]) -> None:
        """Hear these too; returns when each is acknowledged or denied, without a connection, or after 5 s."""
        self.adopt([entry for entry in subscriptions if self._by_channel.setdefault(entry.channel, entry) is entry])
        if self.current is None:
            return
        waiting = []
        for entry in subscriptions:
            known = self._by_channel[entry.channel]
            if not known.active and entry.channel not in self._denied:
                known.acknowledged = known.acknowledged or asyncio.get_running_loop().create_future()
                waiting.append((known, known.acknowledged))
        if not waiting:
            return
        since = time.time()
        # `wait`, because a caller that is cancelled must not cancel what others await too.
        await asyncio.wait([acknowledged for _, acknowledged in waiting], timeout=SUBSCRIBE_SECONDS)
        for known, acknowledged in waiting:
            if not acknowledged.done():
                known.begin_gap(since)

    def adopt(self, subscriptions: Collection[Subscription]) -> None:
        """Hear these too, as soon as may be."""
        for entry in subscriptions:
            self._by_channel[entry.channel] = entry
            if self.current is None:
                entry.begin_gap(time.time())
        if self.current is not None:
            self._send_subscribe(self.current, subscriptions)

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """Hear these no more, from now on."""
        gone = [entry for entry in (self._by_channel.pop(channel, None) for channel in channels) if entry is not None]
        for entry in gone:
            entry.active = False
            self._forget_refusal(entry)
            entry.settle()
        if self.current is not None:
            self._send_unsubscribe(self.current, gone)
            self._look_whether_whole()

    def release(self, channel: bytes) -> Subscription:
        """Take a subscription away, for another subscriber to adopt; there is a hole in it."""
        entry = self._by_channel.pop(channel)
        entry.active = False
        entry.begin_gap(time.time())
        self._forget_refusal(entry)
        entry.settle()
        return entry

    @property
    def channels(self) -> Collection[bytes]:
        """What is to be heard here."""
        return self._by_channel.keys()

    # The connection comes and goes.

    async def stop(self) -> None:
        await super().stop()
        self._forget_refusals()
        for entry in self._by_channel.values():
            entry.settle()

    def on_connected(self, connection: RedisConnection) -> None:
        self._commands.clear()
        self._metrics.reconnects += self._made_before
        self._made_before = True
        connection.receive_pushes(self._on_push, lambda: self._send(connection, Command(b"PING")))
        # Those that were denied one by one: a refusal concerns all of a command.
        self._send_subscribe(connection, [entry for entry in self._by_channel.values() if not entry.denied])
        for entry in [entry for entry in self._by_channel.values() if entry.denied]:
            self._send_subscribe(connection, [entry])
        # Replies come in order: when this one does, all groups have been acknowledged, or refused.
        self._send(connection, Command(b"PING", then=self._on_caught_up))

    def on_lost(self, since: float) -> None:
        self.all_subscribed = self._caught_up = False
        self._ended_gaps.clear()
        self._forget_refusals()
        for entry in self._by_channel.values():
            entry.active = False
            entry.begin_gap(since)
            entry.settle()

    def _on_caught_up(self) -> None:
        self._caught_up = True
        self._look_whether_whole()

    def _look_whether_whole(self) -> None:
        """All groups may be heard: report the holes that have ended, of all of them together."""
        if self._caught_up and not self._passing:
            self._report_gaps()
            if not self.all_subscribed:
                self.all_subscribed = True
                self.ready()

    def _send_unsubscribe(self, connection: RedisConnection, entries: list[Subscription]) -> None:
        for start in range(0, len(entries), _GROUPS_IN_COMMAND):
            self._send(connection, Command(self._verbs.unsubscribe, entries[start : start + _GROUPS_IN_COMMAND]))

    def _send_subscribe(self, connection: RedisConnection, subscriptions: Collection[Subscription]) -> None:
        entries = list(subscriptions)
        size = 1 if self._verbs is SHARDED else _GROUPS_IN_COMMAND
        for start in range(0, len(entries), size):
            self._send(connection, Command(self._verbs.subscribe, entries[start : start + size]))

    def _send(self, connection: RedisConnection, command: Command) -> None:
        self._commands.append(command)
        connection.send(command.verb, *command.subscriptions)

    # What the connection brings.

    def _on_push(self, reply: Reply) -> None:
        if isinstance(reply, list) and len(reply) == 3:
            kind, channel, content = reply
            if kind == self._verbs.message:
                self._take_message(channel, content)
            else:
                self._take_acknowledgement(kind.upper(), channel)
        elif self._commands:
            command = self._commands.popleft()
            if isinstance(reply, RedisRefusal):
                self._take_refusal(command, reply)
            if command.then is not None:
                command.then()
        elif self.current is not None:
            self.current.abort("Redis answered an unasked question")

    def _take_message(self, channel: bytes, payload: bytes | None) -> None:
        entry = self._by_channel.get(channel)
        if entry is None or not entry.active:
            # Unsubscribed, but that has not reached Redis yet.
            return
        if self._ended_gaps:
            self._report_gaps()
        if payload is None:
            if count := self._too_long_log.admits():
                logger.warning("%s: skipped %d messages of over %d bytes", self.where, count, MAX_PAYLOAD_BYTES)
            self._tell([entry.name], OVERFLOW, time.time())
            return
        self._metrics.delivered += 1
        try:
            self._on_message(entry.name, payload)
        except Exception:
            logger.exception("%s: a message of group %.200r could not be taken", self.where, entry.name)

    def _take_acknowledgement(self, verb: bytes, channel: bytes) -> None:
        command = self._commands[0] if self._commands else None
        entry = command.subscriptions.pop(channel, None) if command is not None and command.verb == verb else None
        if command is None or entry is None:
            self._take_removal(verb, channel)
            return
        if not command.subscriptions:
            self._commands.popleft()
        # Identity: the group may have been left and entered again since.
        if verb == self._verbs.subscribe and self._by_channel.get(channel) is entry:
            entry.active = True
            entry.denied = ""
            self._denials_logged.discard(channel)
            self._forget_refusal(entry)
            if entry.gap_since is not None:
                self._ended_gaps.append(entry)
            self._look_whether_whole()
            entry.settle()

    def _take_removal(self, verb: bytes, channel: bytes) -> None:
        """Redis has ended a subscription by itself: in a cluster the group has moved to another server."""
        entry = self._by_channel.get(channel)
        if verb == SHARDED.unsubscribe and self._on_moved is not None:
            if entry is not None and entry.active:
                self._move(entry)
        elif self.current is not None:
            self.current.abort("Redis answered an unasked question")

    def _take_refusal(self, command: Command, refusal: RedisRefusal) -> None:
        entries = [entry for entry in command.subscriptions.values() if self._by_channel.get(entry.channel) is entry]
        if self.current is None:
            return
        redirects = self._on_moved is not None and refusal.code in _REDIRECTIONS
        if command.verb == self._verbs.unsubscribe and refusal.passes:
            self._leave_again.update(command.subscriptions)
            self._schedule_retry()
        elif command.verb != self._verbs.subscribe or not entries:
            return
        elif refusal.passes and not redirects:
            self._wait(entries, command.verb, refusal)
        elif len(command.subscriptions) > 1:
            # One of them was refused, and with it the others.
            for entry in entries:
                self._send(self.current, Command(self._verbs.subscribe, [entry]))
        elif redirects:
            self._move(entries[0])
        else:
            self._deny(entries[0], command.verb, refusal)

    # Refusals.

    def _wait(self, entries: list[Subscription], verb: bytes, refusal: RedisRefusal) -> None:
        """Redis is busy: ask again in a moment."""
        if not self._passing:
            logger.warning(
                "%s: Redis refuses %s for the moment: %s; asking again until it accepts",
                self.where,
                verb.decode(),
                escaped(refusal),
            )
        for entry in entries:
            self._passing[entry.channel] = self._ask_again[entry.channel] = entry
            if entry.acknowledged is None:
                entry.begin_gap(time.time())
        self._schedule_retry()
        # The attempt has been made, and has not succeeded.
        self._tried.set()
        if self.all_subscribed:
            self.all_subscribed = False
            self.on_change()

    def _deny(self, entry: Subscription, verb: bytes, refusal: RedisRefusal) -> None:
        """Redis refuses until somebody changes something: ask again every 30 s."""
        said = str(refusal)
        logged = self._denials_logged
        if entry.denied != said and entry.channel not in logged and len(logged) < _MOST_DENIALS_LOGGED:
            self._denials_logged.add(entry.channel)
            logger.error(
                "%s: group %.200r is not heard: Redis refuses %s: %s; asking again every %g s",
                self.where,
                entry.name,
                verb.decode(),
                escaped(refusal),
                DENIED_SECONDS,
            )
        self._forget_refusal(entry)
        entry.denied = said
        entry.begin_gap(time.time())
        entry.settle()
        self._denied[entry.channel] = entry
        self._metrics.denied_groups += 1
        if self._denied_retry is None:
            loop = asyncio.get_running_loop()
            self._denied_retry = loop.call_later(DENIED_SECONDS, self._retry_denied, context=Context())
        self._look_whether_whole()

    def _schedule_retry(self) -> None:
        if self._retry is None:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(self._retry_seconds, self._retry_passing, context=Context())
            self._retry_seconds = min(2 * self._retry_seconds, _LONGEST_RETRY_SECONDS)

    def _retry_passing(self) -> None:
        self._retry = None
        asked, self._ask_again = self._ask_again, {}
        left, self._leave_again = self._leave_again, {}
        if self.current is not None:
            self._send_unsubscribe(self.current, [e for e in left.values() if e.channel not in self._by_channel])
            self._send_subscribe(self.current, tuple(asked.values()))

    def _retry_denied(self) -> None:
        self._denied_retry = None
        entries = tuple(self._denied.values())
        for entry in entries:
            self._forget_refusal(entry)
            if self.current is not None:
                self._send_subscribe(self.current, [entry])

    def _forget_refusal(self, entry: Subscription) -> None:
        channel = entry.channel
        if self._passing.pop(channel, None) is not None:
            self._ask_again.pop(channel, None)
            if not self._passing:
                self._retry_seconds = _FIRST_RETRY_SECONDS
        if self._denied.pop(channel, None) is not None:
            self._metrics.denied_groups -= 1

    def _forget_refusals(self) -> None:
        """The connection is gone: all is asked anew on the next one."""
        for timer in (self._retry, self._denied_retry):
            if timer is not None:
                timer.cancel()
        self._retry = self._denied_retry = None
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._passing.clear()
        self._ask_again.clear()
        self._leave_again.clear()
        self._metrics.denied_groups -= len(self._denied)
        self._denied.clear()

    def _move(self, entry: Subscription) -> None:
        assert self._on_moved is not None
        self._on_moved(self.release(entry.channel))

    # Holes.

    def _report_gaps(self) -> None:
        holes: dict[float, list[str]] = {}
        for entry in self._ended_gaps:
            if self._by_channel.get(entry.channel) is entry and entry.gap_since is not None:
                holes.setdefault(entry.gap_since, []).append(entry.name)
                entry.gap_since = None
        self._ended_gaps.clear()
        for since, names in holes.items():
            self._tell(names, RECONNECT, since)

    def _tell(self, names: list[str], reason: str, since: float) -> None:
        self._metrics.gaps += len(names)
        try:
            self._on_gap(names, reason, since)
        except Exception:
            logger.exception("%s: a gap of groups %.1000r could not be taken", self.where, names[:10])
