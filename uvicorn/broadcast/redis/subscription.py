"""Subscriptions of a process, and the commands that change them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from uvicorn.types import Callback


class Verbs(NamedTuple):
    """The Redis commands for one kind of channel."""

    subscribe: bytes
    unsubscribe: bytes
    publish: bytes
    #: The type of the pushes that deliver messages.
    message: bytes


PLAIN: Final = Verbs(b"SUBSCRIBE", b"UNSUBSCRIBE", b"PUBLISH", b"message")
SHARDED: Final = Verbs(b"SSUBSCRIBE", b"SUNSUBSCRIBE", b"SPUBLISH", b"smessage")


@dataclass(slots=True, eq=False)
class Subscription:
    name: str
    channel: bytes
    #: Whether Redis has acknowledged it on the current connection.
    active: bool = False
    #: The beginning of a gap that has not been reported yet.
    gap_since: float | None = None
    #: Done when callers of `subscribe` need not wait any more.
    acknowledged: asyncio.Future[None] | None = None
    #: The error reply by which Redis last denied it.
    denied: str = ""

    def settle(self) -> None:
        if self.acknowledged is not None and not self.acknowledged.done():
            self.acknowledged.set_result(None)
        self.acknowledged = None

    def begin_gap(self, since: float) -> None:
        """Begin a gap at `since`, unless a gap has already begun."""
        if self.gap_since is None:
            self.gap_since = since


#: Called with a subscription whose group has moved to another server of the cluster.
OnMoved: TypeAlias = Callable[[Subscription], None]


class Command(NamedTuple):
    """A sent command that Redis has not fully answered."""

    verb: bytes
    #: Subscriptions that Redis has not acknowledged yet, by channel.
    subscriptions: dict[bytes, Subscription]
    then: Callback | None
