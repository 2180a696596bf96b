"""What a process wants to hear, and the commands that say so to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple


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

    __slots__ = ("name", "channel", "active", "gap_since", "acknowledged", "denied")

    def __init__(self, name: str, channel: bytes) -> None:
        self.name = name
        self.channel = channel
        #: Redis has acknowledged it on the present connection.
        self.active = False
        #: When it was last known to be whole, while there is a hole that nobody has been told of.
        self.gap_since: float | None = None
        #: Awaited by those who subscribe.
        self.acknowledged: asyncio.Future[None] | None = None
        #: What Redis said when it last denied the right to the group.
        self.denied = ""

    def settle(self) -> None:
        """Let those go on who wait."""
        if self.acknowledged is not None and not self.acknowledged.done():
            self.acknowledged.set_result(None)
        self.acknowledged = None

    def begin_gap(self, since: float) -> None:
        """From `since` on messages may be missing; an earlier hole that has not been reported goes on."""
        if self.gap_since is None:
            self.gap_since = since


class Command:
    """A command that was sent, and what its replies have still to say. They come in the order of the commands."""

    __slots__ = ("verb", "subscriptions", "then")

    def __init__(
        self, verb: bytes, subscriptions: Iterable[Subscription] = (), then: Callable[[], None] | None = None
    ) -> None:
        self.verb = verb
        self.subscriptions = {subscription.channel: subscription for subscription in subscriptions}
        self.then = then
