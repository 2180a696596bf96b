"""The contract of broadcast backends, which carry payloads between processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias, TypeVar

from uvicorn.errors import BroadcastUnavailable

T = TypeVar("T")

OnMessage: TypeAlias = Callable[[str, bytes], None]

#: Called with the groups, `RECONNECT` or `OVERFLOW`, and the `time.time()` at which the gap began.
OnGap: TypeAlias = Callable[[Collection[str], str, float], None]

#: Reasons of a gap: the connection was lost, or a limit was exceeded.
RECONNECT: Final = "reconnect"
OVERFLOW: Final = "overflow"

#: 1 s: Redis replies within a millisecond, and an HTTP request may wait for the publish.
PUBLISH_TIMEOUT: Final = 1.0
#: 1 s: startup continues without a connection after this time.
CONNECT_TIMEOUT: Final = 1.0


@dataclass(slots=True)
class BackendMetrics:
    """Counters of a backend, which any thread may read."""

    #: Whether messages can be published, and every group except denied ones is subscribed.
    connected: bool = False
    #: Groups that Redis denies to this process; each is retried every 30 s.
    denied_groups: int = 0
    reconnects: int = 0
    #: Each gap counts once for each group.
    gaps: int = 0
    published: int = 0
    #: Publishes that raised BroadcastUnavailable; some of these messages may have been delivered.
    publish_failures: int = 0
    delivered: int = 0
    #: The maximum number of publishes that waited for a reply at one time.
    pending_high_water: int = 0


class Receiver(NamedTuple):
    on_message: OnMessage
    on_gap: OnGap
    metrics: BackendMetrics


@dataclass(frozen=True, slots=True)
class BackendOptions:
    publish_timeout: float = PUBLISH_TIMEOUT
    #: The limit of each attempt to connect.
    connect_timeout: float = CONNECT_TIMEOUT
    #: Prepended to group names, so that several applications can share one Redis.
    prefix: str = ""

    def channel(self, group: str) -> bytes:
        """Return the name of a group's Redis channel."""
        return (self.prefix + group).encode("utf-8", "surrogatepass")


class Backend:
    """Carries payloads to all processes that have subscribed to a group.

    A payload arrives at most once. Payloads from one sender to one group arrive in order. A backend also receives its
    own payloads.

    Only the event loop calls the callbacks. A callback must not block. An exception from a callback is logged.

    A backend belongs to one event loop. A forked child must start it again.
    """

    def __init__(self) -> None:
        self.metrics = BackendMetrics()
        # The process that has started this backend; 0 before the start.
        self._process = 0

    def _in_this_process(self, started: T | None) -> T:
        if started is None or self._process != os.getpid():
            raise BroadcastUnavailable(f"{self!r}: not started in this process; await start() first")
        return started

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        """Connect. Return after the first attempt, even if it has failed. `metrics.connected` shows the result.

        The backend reconnects after a lost connection. It then calls `on_gap` for each subscribed group, before the
        group's next message.
        """
        raise NotImplementedError

    async def subscribe(self, groups: Collection[str]) -> None:
        """Subscribe to `groups`. Return when the server has confirmed the subscription.

        If the server is unreachable, stays busy or denies a group, return early. The backend then subscribes later, and
        calls `on_gap`. Cancelling the caller unsubscribes no group.
        """
        raise NotImplementedError

    async def unsubscribe(self, groups: Collection[str]) -> None:
        """Unsubscribe from `groups`. Late payloads of these groups are dropped."""
        raise NotImplementedError

    async def publish(self, group: str, payload: bytes) -> None:
        """Publish `payload`. Return when the server has confirmed the payload.

        Raises BroadcastUnavailable if no confirmation arrives within the publish timeout. The payload may have arrived
        nevertheless.
        """
        raise NotImplementedError

    async def stop(self) -> None:
        """Finish pending publishes within the publish timeout, then close. No callback is called afterwards."""
        raise NotImplementedError
