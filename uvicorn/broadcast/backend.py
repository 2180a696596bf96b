"""The contract of broadcast backends.

A *backend* carries payloads between processes. A Redis backend uses *connections*; a connection belongs to one of two
*drivers*, the packages asyncio_redis and redis-py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

#: Called with the group and the payload.
OnMessage: TypeAlias = Callable[[str, bytes], None]

#: Called with the groups, `RECONNECT` or `OVERFLOW`, and the `time.time()` until which no message was missing.
OnGap: TypeAlias = Callable[[Collection[str], str, float], None]

#: Reasons of a gap: the connection was lost, or a limit was exceeded.
RECONNECT: Final = "reconnect"
OVERFLOW: Final = "overflow"

#: 1 s: Redis replies within a millisecond, and a request may be waiting.
PUBLISH_TIMEOUT: Final = 1.0
#: 1 s: how long startup waits for the first connection before it goes on without one.
CONNECT_TIMEOUT: Final = 1.0


@dataclass(slots=True)
class BackendMetrics:
    """Counters, readable at any time from any thread."""

    #: Whether every group is subscribed, except denied ones.
    connected: bool = False
    #: Groups that this process has no rights to; retried every 30 s.
    denied_groups: int = 0
    reconnects: int = 0
    #: One for each gap and group.
    gaps: int = 0
    published: int = 0
    #: Publishes that raised BroadcastUnavailable; some may have been delivered.
    publish_failures: int = 0
    delivered: int = 0
    #: The maximum number of publishes that waited for a reply at one time.
    pending_high_water: int = 0


@dataclass(frozen=True, slots=True)
class BackendOptions:
    """Options of a backend."""

    publish_timeout: float = PUBLISH_TIMEOUT
    #: Limit of each attempt to connect, and so of `start`.
    connect_timeout: float = CONNECT_TIMEOUT
    #: Goes before each group name: several applications can share one Redis.
    prefix: str = ""

    def channel(self, group: str) -> bytes:
        """Return the name of a group's channel."""
        # Any text can be encoded this way, even with lone surrogates.
        return (self.prefix + group).encode("utf-8", "surrogatepass")


class Backend:
    """Carries payloads to every process that has subscribed to their group.

    Delivery is at most once. Payloads that one backend publishes to a group arrive in order, and all subscribers of a
    process see the same order. A backend that publishes to a group it has subscribed to receives its own payload.

    A backend belongs to the event loop and the process in which it was started; after a fork the child starts it anew.
    Call all methods on that loop. Callbacks are called on it too, never from within a method; they must not block, and
    their exceptions are logged.
    """

    def __init__(self) -> None:
        self.metrics = BackendMetrics()

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        """Connect; return after the first attempt, successful or not (see `metrics.connected`).

        From then on a lost connection is replaced. `on_gap` is called once for each gap of a group, after the gap has
        ended and before the next message of the group.
        """
        raise NotImplementedError

    async def subscribe(self, groups: Collection[str]) -> None:
        """Subscribe to `groups`; every payload published after this has returned is received.

        Without a connection it returns at once: the groups are subscribed on connect, and `on_gap` is called. The same
        holds if the server denies a group or is busy for seconds: the backend retries. Groups that are subscribed
        already are ignored. If the caller is cancelled, the groups stay subscribed.
        """
        raise NotImplementedError

    async def unsubscribe(self, groups: Collection[str]) -> None:
        """Unsubscribe from `groups`; nothing of them is received from the moment of the call."""
        raise NotImplementedError

    async def publish(self, group: str, payload: bytes) -> None:
        """Publish `payload`; return when the server has confirmed it.

        Raises BroadcastUnavailable at once if there is no connection, and otherwise within the publish timeout. A
        publish is retried, in order, only if the server replied that it is busy: any other failure leaves unknown
        whether the payload arrived.
        """
        raise NotImplementedError

    async def stop(self) -> None:
        """Finish pending publishes within the publish timeout, and close; no callback is called afterwards."""
        raise NotImplementedError
