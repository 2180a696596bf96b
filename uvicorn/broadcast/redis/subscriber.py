"""The connection on which a process subscribes and receives messages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Collection, Iterable
from contextvars import Context
from typing import Final

from uvicorn.broadcast.backend import OVERFLOW, RECONNECT, Receiver
from uvicorn.broadcast.redis.connection import Connect, RedisConnection
from uvicorn.broadcast.redis.reconnecting import (
    DENIED_SECONDS,
    FIRST_DELAY_SECONDS,
    LONGEST_DELAY_SECONDS,
    MAX_DENIALS_LOGGED,
    ReconnectingConnection,
)
from uvicorn.broadcast.redis.resp import MAX_PAYLOAD_BYTES, RedisRefusal, Reply
from uvicorn.broadcast.redis.subscription import PLAIN, SHARDED, Command, OnMoved, Subscription
from uvicorn.escape import escaped
from uvicorn.log_limit import LogLimit, first_time
from uvicorn.types import Callback

logger = logging.getLogger("uvicorn.broadcast")

#: The limit of a call of `subscribe`. Administrators usually kill a script that blocks Redis for longer.
SUBSCRIBE_SECONDS: Final = 5.0
_REDIRECTIONS: Final = ("MOVED", "CLUSTERDOWN", "TRYAGAIN")

#: The limit of groups in one command: an error reply concerns all of them, and other clients of Redis wait for it.
_GROUPS_IN_COMMAND: Final = 500


class Subscriber(ReconnectingConnection):
    """Keeps groups subscribed, and retries refused subscriptions."""

    log_level = logging.WARNING

    def __init__(
        self, connect: Connect, where: str, timeout: float, receiver: Receiver, on_moved: OnMoved | None = None
    ) -> None:
        super().__init__(connect, where, timeout)
        self._on_message, self._on_gap, self._metrics = receiver
        self._verbs = PLAIN if on_moved is None else SHARDED
        self._on_moved = on_moved
        self._by_channel: dict[bytes, Subscription] = {}
        self._commands: deque[Command] = deque()
        # Subscriptions whose gap has ended and has not been reported yet.
        self._ended_gaps: list[Subscription] = []
        self._made_before = False
        #: Whether all groups are active, except denied ones.
        self.all_subscribed = False
        # Whether Redis has replied to every command that `on_connected` sent.
        self._caught_up = False
        # Subscriptions that got a transient error reply and no acknowledgement since.
        self._busy: dict[bytes, Subscription] = {}
        # Subscriptions whose removal got a transient error reply.
        self._unsubscribe_again: dict[bytes, Subscription] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._retry_seconds = FIRST_DELAY_SECONDS
        self._denied: dict[bytes, Subscription] = {}
        self._denied_retry: asyncio.TimerHandle | None = None
        self._too_long_log = LogLimit()

    # For the backend.

    async def subscribe(self, subscriptions: Collection[Subscription]) -> None:
        """Add `subscriptions`. If connected, wait up to 5 s for the replies."""
        self.adopt([entry for entry in subscriptions if self._by_channel.setdefault(entry.channel, entry) is entry])
        if self.current is None:
            return
        since = time.time()
        waiting: dict[asyncio.Future[None], Subscription] = {}
        for entry in subscriptions:
            known = self._by_channel[entry.channel]
            if not known.active and entry.channel not in self._denied:
                known.acknowledged = known.acknowledged or asyncio.get_running_loop().create_future()
                waiting[known.acknowledged] = known
        if waiting:
            # `wait` does not cancel the futures, which other callers may await.
            _, late = await asyncio.wait(waiting, timeout=SUBSCRIBE_SECONDS)
            for acknowledged in late:
                waiting[acknowledged].begin_gap(since)

    def adopt(self, subscriptions: Collection[Subscription]) -> None:
        for entry in subscriptions:
            self._by_channel[entry.channel] = entry
            if self.current is None:
                entry.begin_gap(time.time())
        self._send_all(self._verbs.subscribe, subscriptions)

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """Unsubscribe from `channels`. Late messages of these channels are dropped."""
        gone = [self._remove(channel) for channel in channels if channel in self._by_channel]
        self._send_all(self._verbs.unsubscribe, gone)
        if self.current is not None:
            self._check_all_subscribed()

    def release(self, channel: bytes) -> Subscription:
        """Remove and return a subscription, for another Subscriber to adopt."""
        entry = self._remove(channel)
        entry.begin_gap(time.time())
        return entry

    def _remove(self, channel: bytes) -> Subscription:
        entry = self._by_channel.pop(channel)
        entry.active = False
        self._forget_refusal(entry)
        entry.settle()
        return entry

    @property
    def channels(self) -> Collection[bytes]:
        return self._by_channel.keys()

    # Connects and disconnects.

    async def stop(self) -> None:
        await super().stop()
        self._forget_refusals()
        for entry in self._by_channel.values():
            entry.settle()

    def on_connected(self, connection: RedisConnection) -> None:
        self._commands.clear()
        self._metrics.reconnects += self._made_before
        self._made_before = True
        connection.receive_pushes(self._on_push, lambda: self._send(b"PING"))
        entries = self._by_channel.values()
        self._send_all(self._verbs.subscribe, [entry for entry in entries if not entry.denied])
        # Each denied group has a command of its own, because an error reply concerns all groups of a command.
        for entry in [entry for entry in entries if entry.denied]:
            self._send(self._verbs.subscribe, [entry])
        # Replies come in order, so this reply comes after those for all groups.
        self._send(b"PING", then=self._on_caught_up)

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
        self._check_all_subscribed()

    def _check_all_subscribed(self) -> None:
        if self._caught_up and not self._busy:
            self._report_gaps()
            if not self.all_subscribed:
                self.all_subscribed = True
                self.ready()

    def _send_all(self, verb: bytes, subscriptions: Iterable[Subscription]) -> None:
        entries = list(subscriptions)
        size = 1 if verb == SHARDED.subscribe else _GROUPS_IN_COMMAND
        for start in range(0, len(entries), size):
            self._send(verb, entries[start : start + size])

    def _send(self, verb: bytes, entries: Iterable[Subscription] = (), then: Callback | None = None) -> None:
        if self.current is not None:
            command = Command(verb, {entry.channel: entry for entry in entries}, then)
            self._commands.append(command)
            self.current.send(verb, *command.subscriptions)

    # Replies.

    def _on_push(self, reply: Reply) -> None:
        if isinstance(reply, list) and len(reply) == 3:
            kind, channel, content = reply
            if kind == self._verbs.message:
                self._on_message_push(channel, content)
            else:
                self._on_acknowledgement(kind.upper(), channel)
        elif self._commands:
            command = self._commands.popleft()
            if isinstance(reply, RedisRefusal):
                self._on_refusal(command, reply)
            if command.then is not None:
                command.then()
        elif self.current is not None:
            self.current.abort("unexpected reply from Redis")

    def _on_message_push(self, channel: bytes, payload: bytes | None) -> None:
        entry = self._by_channel.get(channel)
        if entry is None or not entry.active:
            # The command to unsubscribe has not reached Redis yet.
            return
        if self._ended_gaps:
            self._report_gaps()
        if payload is None:
            if count := self._too_long_log.admits():
                logger.warning("%s: dropped %d messages larger than %d bytes", self.where, count, MAX_PAYLOAD_BYTES)
            self._report_gap([entry.name], OVERFLOW, time.time())
            return
        self._metrics.delivered += 1
        try:
            self._on_message(entry.name, payload)
        except Exception:
            logger.exception("%s: group %.200r: a message was dropped after an exception", self.where, entry.name)

    def _on_acknowledgement(self, verb: bytes, channel: bytes) -> None:
        command = self._commands[0] if self._commands else None
        entry = command.subscriptions.pop(channel, None) if command is not None and command.verb == verb else None
        if command is None or entry is None:
            self._on_removal(verb, channel)
            return
        if not command.subscriptions:
            self._commands.popleft()
        # `is`, because the group may have been unsubscribed and subscribed again since the command.
        if verb == self._verbs.subscribe and self._by_channel.get(channel) is entry:
            entry.active = True
            entry.denied = ""
            self._denials_logged.discard(channel)
            self._forget_refusal(entry)
            if entry.gap_since is not None:
                self._ended_gaps.append(entry)
            self._check_all_subscribed()
            entry.settle()

    def _on_removal(self, verb: bytes, channel: bytes) -> None:
        entry = self._by_channel.get(channel)
        # A cluster sends this when a group has moved to another server.
        if verb == SHARDED.unsubscribe and self._on_moved is not None:
            if entry is not None and entry.active:
                self._move(entry)
        elif self.current is not None:
            self.current.abort("unexpected reply from Redis")

    def _on_refusal(self, command: Command, refusal: RedisRefusal) -> None:
        entries = [entry for entry in command.subscriptions.values() if self._by_channel.get(entry.channel) is entry]
        redirects = self._on_moved is not None and refusal.code in _REDIRECTIONS
        if command.verb == self._verbs.unsubscribe and refusal.is_transient:
            self._unsubscribe_again.update(command.subscriptions)
            self._schedule_retry()
        elif command.verb != self._verbs.subscribe or not entries:
            return
        elif refusal.is_transient and not redirects:
            self._retry_busy(entries, refusal)
        elif len(command.subscriptions) > 1:
            # Subscribe them one by one, because only one of the groups may have been refused.
            for entry in entries:
                self._send(self._verbs.subscribe, [entry])
        elif redirects:
            self._move(entries[0])
        else:
            self._deny(entries[0], refusal)

    # Refusals.

    def _retry_busy(self, entries: list[Subscription], refusal: RedisRefusal) -> None:
        if not self._busy:
            name = self._verbs.subscribe.decode()
            logger.warning("%s: Redis refuses %s: %s; retrying until Redis accepts", self.where, name, escaped(refusal))
        for entry in entries:
            self._busy[entry.channel] = entry
            if entry.acknowledged is None:
                entry.begin_gap(time.time())
        self._schedule_retry()
        # Let `start` return: the first attempt has ended.
        self._tried.set()
        if self.all_subscribed:
            self.all_subscribed = False
            self.on_change()

    def _deny(self, entry: Subscription, refusal: RedisRefusal) -> None:
        reason = str(refusal)
        if entry.denied != reason and first_time(entry.channel, self._denials_logged, MAX_DENIALS_LOGGED):
            verb = self._verbs.subscribe.decode()
            why = f"Redis refuses {verb}: {escaped(refusal)}; retrying every {DENIED_SECONDS:g} s"
            logger.error("%s: group %.200r is not subscribed: %s", self.where, entry.name, why)
        self._forget_refusal(entry)
        entry.denied = reason
        entry.begin_gap(time.time())
        entry.settle()
        self._denied[entry.channel] = entry
        self._metrics.denied_groups += 1
        if self._denied_retry is None:
            loop = asyncio.get_running_loop()
            self._denied_retry = loop.call_later(DENIED_SECONDS, self._on_denied_retry, context=Context())
        self._check_all_subscribed()

    def _schedule_retry(self) -> None:
        if self._retry is None:
            loop = asyncio.get_running_loop()
            self._retry = loop.call_later(self._retry_seconds, self._on_busy_retry, context=Context())
            self._retry_seconds = min(2 * self._retry_seconds, LONGEST_DELAY_SECONDS)

    def _on_busy_retry(self) -> None:
        self._retry = None
        removed, self._unsubscribe_again = self._unsubscribe_again, {}
        still_removed = [entry for entry in removed.values() if entry.channel not in self._by_channel]
        self._send_all(self._verbs.unsubscribe, still_removed)
        self._send_all(self._verbs.subscribe, self._busy.values())

    def _on_denied_retry(self) -> None:
        self._denied_retry = None
        for entry in tuple(self._denied.values()):
            self._forget_refusal(entry)
            self._send(self._verbs.subscribe, [entry])

    def _forget_refusal(self, entry: Subscription) -> None:
        if self._busy.pop(entry.channel, None) is not None and not self._busy:
            self._retry_seconds = FIRST_DELAY_SECONDS
        if self._denied.pop(entry.channel, None) is not None:
            self._metrics.denied_groups -= 1

    def _forget_refusals(self) -> None:
        for timer in (self._retry, self._denied_retry):
            if timer is not None:
                timer.cancel()
        self._retry = self._denied_retry = None
        self._retry_seconds = FIRST_DELAY_SECONDS
        self._metrics.denied_groups -= len(self._denied)
        for refused in (self._busy, self._unsubscribe_again, self._denied):
            refused.clear()

    def _move(self, entry: Subscription) -> None:
        assert self._on_moved is not None
        self._on_moved(self.release(entry.channel))

    # Gaps.

    def _report_gaps(self) -> None:
        gaps: dict[float, list[str]] = {}
        for entry in self._ended_gaps:
            if self._by_channel.get(entry.channel) is entry and entry.gap_since is not None:
                gaps.setdefault(entry.gap_since, []).append(entry.name)
                entry.gap_since = None
        self._ended_gaps.clear()
        for since, names in gaps.items():
            self._report_gap(names, RECONNECT, since)

    def _report_gap(self, names: list[str], reason: str, since: float) -> None:
        self._metrics.gaps += len(names)
        try:
            self._on_gap(names, reason, since)
        except Exception:
            logger.exception("%s: failed to report a gap in the messages of groups %.1000r", self.where, names[:10])
