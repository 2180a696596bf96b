"""What every carrier of broadcast messages promises."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, TypeAlias

#: Called with the group and the payload.
OnMessage: TypeAlias = Callable[[str, bytes], None]

#: Called with the groups, `RECONNECT` or `OVERFLOW`, and the `time.time()` at which they were last known to be whole.
OnGap: TypeAlias = Callable[[Collection[str], str, float], None]

#: Why messages may be missing: the link was lost, or a queue was full.
RECONNECT: Final = "reconnect"
OVERFLOW: Final = "overflow"

#: 1 s: a sender learns soon that nobody hears it; Redis answers within a millisecond.
PUBLISH_TIMEOUT: Final = 1.0
#: 1 s: what a process waits for its first connection before it goes on without one.
CONNECT_TIMEOUT: Final = 1.0


@dataclass(slots=True)
class BackendMetrics:
    """What happened so far; read it at any time, from any thread."""

    #: Every group of this process is being heard, but for those that the carrier denies.
    connected: bool = False
    #: Groups that the carrier denies this process for want of rights; asked for again every 30 s.
    denied_groups: int = 0
    #: How often the link was made again after it was lost.
    reconnects: int = 0
    #: Holes: a group counts once for each.
    gaps: int = 0
    published: int = 0
    #: Publishes that raised BroadcastUnavailable; some of them may have been heard all the same.
    publish_failures: int = 0
    delivered: int = 0
    #: The most publishes that ever waited for an answer at one time.
    pending_high_water: int = 0


class Backend:
    """Carries payloads to every process that has subscribed to their group.

    Delivery is at most once. What one backend publishes to a group arrives in order, and all of one process hear the
    same order. The process that publishes hears its own messages too.

    A backend belongs to the event loop and the process in which it was started; after a fork the child starts it anew.
    All methods are to be called from that loop. The callbacks are called from it, never inside one of these methods'
    callers, and must not block; what they raise is logged.
    """

    def __init__(self) -> None:
        self.metrics = BackendMetrics()

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        """Connect; returns after the first attempt, whether or not it succeeded (`metrics.connected` tells).

        From then on the link is made again whenever it is lost. Each group that may have missed something has one call
        of `on_gap` for each hole, after the hole has ended and before the next message of that group.
        """
        raise NotImplementedError

    async def subscribe(self, groups: Collection[str]) -> None:
        """Hear what is published to `groups`: all of it, from the moment this returns.

        While there is no link it returns at once: the groups are subscribed when there is one, with a call of `on_gap`.
        The same holds for a carrier that denies a group, or is busy for seconds: it is asked again until it accepts.
        Groups that are subscribed already cost nothing. A caller that is cancelled leaves the groups subscribed.
        """
        raise NotImplementedError

    async def unsubscribe(self, groups: Collection[str]) -> None:
        """Hear nothing more of `groups`, from the moment this is called."""
        raise NotImplementedError

    async def publish(self, group: str, payload: bytes) -> None:
        """Hand `payload` to the carrier; returns when it has taken it.

        Raises BroadcastUnavailable within the publish timeout if it did not, and at once while there is no link. It is
        tried again only after the carrier has said that it has not taken the message, and will later (Redis' BUSY), in
        the order of publishing: whether another one that was under way arrived cannot be known.
        """
        raise NotImplementedError

    async def stop(self) -> None:
        """Finish what is being published, up to the publish timeout, and close; calls nothing back afterwards."""
        raise NotImplementedError
