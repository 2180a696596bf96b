"""The subscriptions of a process, and the commands for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple


class Verbs(NamedTuple):
    """The commands of publish and subscribe, and the type of a push with a message."""

    subscribe: bytes
    unsubscribe: bytes
    publish: bytes
    message: bytes


PLAIN: Final = Verbs(b"SUBSCRIBE", b"UNSUBSCRIBE", b"PUBLISH", b"message")
#: In a cluster.
SHARDED: Final = Verbs(b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"SPUBLISH", b"smessage")


class Subscription:
    """The subscription to one group."""

    __slots__ = ("name", "channel", "active", "gap_since", "acknowledged", "denied")

    def __init__(self, name: str, channel: bytes) -> None:
        self.name = name
        self.channel = channel
        #: Whether Redis has acknowledged it on the current connection.
        self.active = False
        #: The beginning of a gap that has not been reported yet.
        self.gap_since: float | None = None
        #: Awaited by callers of `subscribe`.
        self.acknowledged: asyncio.Future[None] | None = None
        #: The error reply by which Redis last denied it.
        self.denied = ""

    def settle(self) -> None:
        """Let callers of `subscribe` continue."""
        if self.acknowledged is not None and not self.acknowledged.done():
            self.acknowledged.set_result(None)
        self.acknowledged = None

    def begin_gap(self, since: float) -> None:
        """Messages may be missing from `since` on; an earlier gap that has not been reported continues."""
        if self.gap_since is None:
            self.gap_since = since


class Command:
    """A command that has not been acknowledged completely. Replies come in the order of the commands."""

    __slots__ = ("verb", "subscriptions", "then")

    def __init__(
        self, verb: bytes, subscriptions: Iterable[Subscription] = (), then: Callable[[], None] | None = None
    ) -> None:
        self.verb = verb
        #: Those not acknowledged yet, by channel.
        self.subscriptions = {subscription.channel: subscription for subscription in subscriptions}
        self.then = then
