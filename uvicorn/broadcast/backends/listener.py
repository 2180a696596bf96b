"""The connection on which a process hears: subscriptions, their acknowledgements, and the holes in what was heard."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from uvicorn.broadcast.backends.base import OVERFLOW, RECONNECT, BackendMetrics, OnGap, OnMessage
from uvicorn.broadcast.backends.link import Connect, Link
from uvicorn.broadcast.backends.redis_reader import MAX_PAYLOAD_BYTES, RedisRefusal, Reply
from uvicorn.broadcast.backends.supervised import Supervised
from uvicorn.errors import BroadcastError

logger = logging.getLogger("uvicorn.broadcast")

#: So many groups in one command: a refusal concerns all of them, and Redis does nothing else meanwhile.
_GROUPS_IN_COMMAND: Final = 500


class Verbs(NamedTuple):
    """What subscribing is called: Redis has one set of names for any server, and another for those of a cluster."""

    subscribe: bytes
    unsubscribe: bytes
    publish: bytes
    message: bytes


PLAIN: Final = Verbs(b"SUBSCRIBE", b"UNSUBSCRIBE", b"PUBLISH", b"message")
SHARDED: Final = Verbs(b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"SPUBLISH", b"smessage")


class Subscription:
    """A group that is to be heard."""

    __slots__ = ("name", "channel", "heard", "whole_until", "acknowledged")

    def __init__(self, name: str, channel: bytes) -> None:
        self.name = name
        self.channel = channel
        #: Redis has acknowledged it on the present connection.
        self.heard = False
        #: When it was last known to be whole, while there is a hole that nobody has been told of.
        self.whole_until: float | None = None
        #: Awaited by those who subscribe; an error if Redis refuses.
        self.acknowledged: asyncio.Future[BroadcastError | None] | None = None

    def settle(self, error: BroadcastError | None = None) -> None:
        """Let those go on who wait."""
        if self.acknowledged is not None and not self.acknowledged.done():
            self.acknowledged.set_result(error)
        self.acknowledged = None


class _Command:
    """A command that was sent, and what its replies have still to say. They come in the order of the commands."""

    __slots__ = ("verb", "subscriptions", "then")

    def __init__(
        self, verb: bytes, subscriptions: Iterable[Subscription] = (), then: Callable[[], None] | None = None
    ) -> None:
        self.verb = verb
        self.subscriptions = {subscription.channel: subscription for subscription in subscriptions}
        self.then = then


class Listener(Supervised):
    """Hears groups for as long as it runs, and tells of each hole once."""

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
        self._commands: deque[_Command] = deque()
        #: Heard again after a hole, of which nobody has been told yet.
        self._mended: list[Subscription] = []
        self._made_before = False
        #: All groups are heard.
        self.whole = False

    # Subscriptions come and go.

    async def subscribe(self, subscriptions: Collection[Subscription]) -> None:
        """Hear these too; returns when each is acknowledged, or when there is no connection."""
        self.adopt([entry for entry in subscriptions if self._by_channel.setdefault(entry.channel, entry) is entry])
        if self.link is None:
            return
        waiting = []
        for entry in subscriptions:
            known = self._by_channel[entry.channel]
            if not known.heard:
                known.acknowledged = known.acknowledged or asyncio.get_running_loop().create_future()
                waiting.append(known.acknowledged)
        if not waiting:
            return
        # `wait`, because a caller that is cancelled must not cancel what others await too.
        await asyncio.wait(waiting)
        for error in filter(None, (outcome.result() for outcome in waiting)):
            raise error

    def adopt(self, subscriptions: Collection[Subscription]) -> None:
        """Hear these too, as soon as may be."""
        for entry in subscriptions:
            self._by_channel[entry.channel] = entry
            if self.link is None and entry.whole_until is None:
                entry.whole_until = time.time()
        if self.link is not None:
            self._send_subscribe(self.link, subscriptions)

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """Hear these no more, from now on."""
        gone = [entry for entry in (self._by_channel.pop(channel, None) for channel in channels) if entry is not None]
        for entry in gone:
            entry.heard = False
            entry.settle()
        if self.link is not None:
            for start in range(0, len(gone), _GROUPS_IN_COMMAND):
                self._send(self.link, _Command(self._verbs.unsubscribe, gone[start : start + _GROUPS_IN_COMMAND]))

    def release(self, channel: bytes) -> Subscription:
        """Take a subscription away, for another listener to adopt; there is a hole in it."""
        entry = self._by_channel.pop(channel)
        entry.heard = False
        if entry.whole_until is None:
            entry.whole_until = time.time()
        entry.settle()
        return entry

    @property
    def channels(self) -> Collection[bytes]:
        """What is to be heard here."""
        return self._by_channel.keys()

    # The connection comes and goes.

    async def stop(self) -> None:
        await super().stop()
        for entry in self._by_channel.values():
            entry.settle()

    def on_made(self, link: Link) -> None:
        self._commands.clear()
        self._metrics.reconnects += self._made_before
        self._made_before = True
        link.listen(self._on_push, lambda: self._send(link, _Command(b"PING")))
        self._send_subscribe(link, tuple(self._by_channel.values()))
        # Replies come in order: when this one does, all groups have been acknowledged.
        self._send(link, _Command(b"PING", then=self._on_whole))

    def on_lost(self, since: float) -> None:
        self.whole = False
        self._mended.clear()
        for entry in self._by_channel.values():
            entry.heard = False
            if entry.whole_until is None:
                entry.whole_until = since
            entry.settle()

    def _on_whole(self) -> None:
        self._tell_of_holes()
        self.whole = True
        self.ready()

    def _send_subscribe(self, link: Link, subscriptions: Collection[Subscription]) -> None:
        entries = list(subscriptions)
        size = 1 if self._verbs is SHARDED else _GROUPS_IN_COMMAND
        for start in range(0, len(entries), size):
            self._send(link, _Command(self._verbs.subscribe, entries[start : start + size]))

    def _send(self, link: Link, command: _Command) -> None:
        self._commands.append(command)
        link.send(command.verb, *command.subscriptions)

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
        elif self.link is not None:
            self.link.give_up("Redis answered an unasked question")

    def _take_message(self, channel: bytes, payload: bytes | None) -> None:
        entry = self._by_channel.get(channel)
        if entry is None or not entry.heard:
            # Unsubscribed, but that has not reached Redis yet.
            return
        if self._mended:
            self._tell_of_holes()
        if payload is None:
            logger.warning("%s: skipped a message of over %d bytes", self.where, MAX_PAYLOAD_BYTES)
            self._tell([entry.name], OVERFLOW, time.time())
            return
        self._metrics.delivered += 1
        try:
            self._on_message(entry.name, payload)
        except Exception:
            logger.exception("%s: a message of group %r could not be taken", self.where, entry.name)

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
            entry.heard = True
            if entry.whole_until is not None:
                self._mended.append(entry)
                if self.whole:
                    self._tell_of_holes()
            entry.settle()

    def _take_removal(self, verb: bytes, channel: bytes) -> None:
        """Redis has ended a subscription by itself: in a cluster the group has moved to another server."""
        entry = self._by_channel.get(channel)
        if verb == SHARDED.unsubscribe and self._on_moved is not None:
            if entry is not None and entry.heard:
                self._move(entry)
        elif self.link is not None:
            self.link.give_up("Redis answered an unasked question")

    def _take_refusal(self, command: _Command, refusal: RedisRefusal) -> None:
        entries = [entry for entry in command.subscriptions.values() if self._by_channel.get(entry.channel) is entry]
        if command.verb != self._verbs.subscribe or not entries or self.link is None:
            return
        if len(command.subscriptions) > 1:
            # One of them was refused, and with it the others.
            for entry in entries:
                self._send(self.link, _Command(self._verbs.subscribe, [entry]))
        elif self._on_moved is not None and str(refusal).startswith(("MOVED", "CLUSTERDOWN", "TRYAGAIN")):
            self._move(entries[0])
        else:
            self._refuse(entries[0], refusal)

    def _refuse(self, entry: Subscription, refusal: RedisRefusal) -> None:
        if entry.acknowledged is None:
            # A group of old: asked for again next time.
            logger.error("%s: group %r cannot be heard: Redis refuses: %s", self.where, entry.name, refusal)
        else:
            # Whoever subscribes is told, and so it has not happened.
            del self._by_channel[entry.channel]
            entry.settle(
                BroadcastError(f"{self.where}: cannot subscribe to group {entry.name!r}: Redis refuses: {refusal}")
            )

    def _move(self, entry: Subscription) -> None:
        assert self._on_moved is not None
        self._on_moved(self.release(entry.channel))

    # Holes.

    def _tell_of_holes(self) -> None:
        holes: dict[float, list[str]] = {}
        for entry in self._mended:
            if self._by_channel.get(entry.channel) is entry and entry.whole_until is not None:
                holes.setdefault(entry.whole_until, []).append(entry.name)
                entry.whole_until = None
        self._mended.clear()
        for since, names in holes.items():
            self._tell(names, RECONNECT, since)

    def _tell(self, names: list[str], reason: str, since: float) -> None:
        self._metrics.gaps += len(names)
        try:
            self._on_gap(names, reason, since)
        except Exception:
            logger.exception("%s: a gap of groups %r could not be taken", self.where, names[:10])
