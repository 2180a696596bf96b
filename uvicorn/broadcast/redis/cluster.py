"""`redis+cluster://`: sharded publish and subscribe, each group on the server that owns its slot."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Collection
from typing import Any, Final, NamedTuple, TypeAlias

from redis.crc import key_slot

from uvicorn.broadcast.backend import CONNECT_TIMEOUT, PUBLISH_TIMEOUT, Backend, OnGap, OnMessage
from uvicorn.broadcast.redis.connection import Connect, ConnectFailed, ConnectionLost
from uvicorn.broadcast.redis.publisher import RedisPublisher
from uvicorn.broadcast.redis.reconnecting import ReconnectingConnection, drop_inherited, is_cancelled
from uvicorn.broadcast.redis.redis_py import Servers, connect_to, parse_servers
from uvicorn.broadcast.redis.resp import RedisRefusal
from uvicorn.broadcast.redis.subscriber import Subscriber, logger
from uvicorn.broadcast.redis.subscription import SHARDED, Subscription
from uvicorn.errors import BroadcastUnavailable
from uvicorn.escape import escaped

Place: TypeAlias = tuple[str, int]

#: While a server is missing we ask who took its slots: at first soon, then as often as one tries to reconnect.
_FIRST_DELAY_SECONDS: Final = 0.05
_LONGEST_DELAY_SECONDS: Final = 0.8


class _Server(NamedTuple):
    """The two connections to one master."""

    subscriber: Subscriber
    publisher: RedisPublisher


class ClusterBackend(Backend):
    """A Redis Cluster, version 7 or later. Two connections for each master, whatever the number of groups.

    When a slot changes its owner, by hand or because a replica took over, its groups follow, with a gap.
    """

    def __init__(
        self,
        servers: Servers,
        *,
        publish_timeout: float = PUBLISH_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        prefix: str = "",
    ) -> None:
        super().__init__()
        self._seeds = servers
        self._publish_timeout = publish_timeout
        self._connect_timeout = connect_timeout
        self._prefix = prefix
        self._process = 0
        self._servers: dict[Place, _Server] = {}
        self._owners: dict[int, Place] = {}
        #: To be heard, but on no server that we know of.
        self._homeless: dict[bytes, Subscription] = {}
        self._doubt = asyncio.Event()
        self._minding: asyncio.Task[None] | None = None
        self._on_message: OnMessage = lambda group, payload: None
        self._on_gap: OnGap = lambda groups, reason, since: None

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        if self._process not in (0, os.getpid()):
            drop_inherited(self._connections())
        self._process = os.getpid()
        self._on_message, self._on_gap = on_message, on_gap
        self._servers, self._owners, self._homeless = {}, {}, {}
        self._doubt = asyncio.Event()
        try:
            await self._learn_owners()
        except ConnectFailed as error:
            logger.warning("%r: not reached: %s; trying again until it is", self, escaped(error))
            self._doubt.set()
        self._minding = asyncio.create_task(self._mind(), name=f"uvicorn broadcast: {self!r}")

    async def subscribe(self, groups: Collection[str]) -> None:
        self._require_started()
        parts: dict[Place, list[Subscription]] = {}
        for group in groups:
            entry = Subscription(group, self._channel(group))
            place = self._owners.get(_slot(entry.channel))
            if entry.channel in self._homeless:
                continue
            if place is None:
                self._move(entry)
            else:
                parts.setdefault(place, []).append(entry)
        await asyncio.gather(*(self._servers[place].subscriber.subscribe(part) for place, part in parts.items()))

    async def unsubscribe(self, groups: Collection[str]) -> None:
        self._require_started()
        channels = [self._channel(group) for group in groups]
        for channel in channels:
            self._homeless.pop(channel, None)
        for server in self._servers.values():
            here = server.subscriber.channels
            server.subscriber.unsubscribe([channel for channel in channels if channel in here])

    async def publish(self, group: str, payload: bytes) -> None:
        self._require_started()
        channel = self._channel(group)
        slot = _slot(channel)
        place = self._owners.get(slot)
        if place is None:
            self.metrics.publish_failures += 1
            raise BroadcastUnavailable(f"{self!r}: no server is known to own slot {slot}; the message was not sent")
        try:
            await self._servers[place].publisher.publish(SHARDED.publish, channel, payload)
        except BroadcastUnavailable as error:
            # Refused, so not done: to ask the right server is not to publish twice.
            moved_to = self._moved_to(error.__cause__, slot)
            if moved_to is None:
                raise
            await self._servers[moved_to].publisher.publish(SHARDED.publish, channel, payload)

    async def stop(self) -> None:
        if self._process != os.getpid():
            return
        if self._minding is not None:
            self._minding.cancel()
            await asyncio.wait([self._minding])
            self._minding = None
        servers, self._servers = tuple(self._servers.values()), {}
        await asyncio.gather(*(server.publisher.stop() for server in servers))
        await asyncio.gather(*(server.subscriber.stop() for server in servers))
        self.metrics.connected = False

    def __repr__(self) -> str:
        return repr(self._seeds)

    def _channel(self, group: str) -> bytes:
        return (self._prefix + group).encode("utf-8", "surrogatepass")

    def _require_started(self) -> None:
        if self._minding is None or self._process != os.getpid():
            raise BroadcastUnavailable(f"{self!r}: not started in this process; await start() first")

    def _connections(self) -> list[ReconnectingConnection]:
        return [connection for server in self._servers.values() for connection in server]

    # Who owns what.

    def _move(self, entry: Subscription) -> None:
        """A group's server is not, or no longer, the one that we thought."""
        self._homeless[entry.channel] = entry
        if entry.gap_since is None:
            entry.gap_since = time.time()
        self._look_at_connections()

    def _moved_to(self, refusal: BaseException | None, slot: int) -> Place | None:
        """The server that a refused publish should have gone to, if it is one that we know."""
        words = str(refusal).split(" ") if isinstance(refusal, RedisRefusal) else []
        if len(words) != 3 or words[0] != "MOVED":
            return None
        self._doubt.set()
        host, _, port = words[2].rpartition(":")
        if (host, int(port)) not in self._servers:
            return None
        self._owners[slot] = (host, int(port))
        return host, int(port)

    def _look_at_connections(self) -> None:
        servers = self._servers.values()
        self.metrics.connected = (
            bool(servers)
            and not self._homeless
            and all(server.subscriber.all_subscribed and server.publisher.current is not None for server in servers)
        )
        if not self.metrics.connected:
            self._doubt.set()

    async def _mind(self) -> None:
        """Whenever something is amiss, ask who owns what, until nothing is."""
        delay = _FIRST_DELAY_SECONDS
        while not is_cancelled():
            await self._doubt.wait()
            self._doubt.clear()
            try:
                await self._learn_owners()
            except ConnectFailed as error:
                logger.debug("%r: %s", self, escaped(error))
            except Exception:
                # Who gives up here hears nothing any more of groups that move.
                logger.exception("%r: failed in a way that was not foreseen", self)
            self._look_at_connections()
            delay = _FIRST_DELAY_SECONDS if self.metrics.connected else min(2 * delay, _LONGEST_DELAY_SECONDS)
            await asyncio.sleep(delay)

    async def _learn_owners(self) -> None:
        """Ask one server after the other; then be where the slots are. Raises ConnectFailed."""
        reasons = []
        for host, port in dict.fromkeys((*self._servers, *self._seeds.hosts)):
            try:
                async with asyncio.timeout(self._connect_timeout):
                    owners = await self._ask_owners(host, port)
            except (ConnectFailed, ConnectionLost, RedisRefusal, OSError, TimeoutError) as error:
                reasons.append(f"{host}:{port}: {error or type(error).__name__}")
            else:
                await self._settle(owners)
                return
        raise ConnectFailed("; ".join(reasons))

    async def _ask_owners(self, host: str, port: int) -> dict[int, Place]:
        connection = await connect_to(host, port, self._seeds)
        try:
            ranges: Any = await connection.ask(b"CLUSTER", b"SLOTS")
        finally:
            await connection.close("answered")
        owners = {}
        for first, last, master, *_ in ranges:
            # Without a name of its own, or one that it tells, a server has the one by which we have reached it.
            name = (master[0] or b"").decode()
            place = (host if name in ("", "?") else name, master[1])
            owners.update(dict.fromkeys(range(first, last + 1), place))
        return owners

    async def _settle(self, owners: dict[int, Place]) -> None:
        """Connect to all owners, and let each group be heard where it is owned now."""
        places = set(owners.values())
        fresh = [self._add_server(place) for place in places if place not in self._servers]
        await asyncio.gather(*(connection.start() for server in fresh for connection in server))
        self._owners = owners
        for place, server in self._servers.items():
            for channel in [channel for channel in server.subscriber.channels if owners.get(_slot(channel)) != place]:
                self._homeless[channel] = server.subscriber.release(channel)
        homed: dict[Place, list[Subscription]] = {}
        for channel in [channel for channel in self._homeless if _slot(channel) in owners]:
            homed.setdefault(owners[_slot(channel)], []).append(self._homeless.pop(channel))
        for place, entries in homed.items():
            self._servers[place].subscriber.adopt(entries)
        gone = [self._servers.pop(place) for place in list(self._servers) if place not in places]
        await asyncio.gather(*(connection.stop() for server in gone for connection in server))
        self._look_at_connections()

    def _add_server(self, place: Place) -> _Server:
        host, port = place
        where = f"{self!r}, {host}:{port}"
        connect: Connect = lambda: connect_to(host, port, self._seeds)  # noqa: E731
        subscriber = Subscriber(
            connect,
            where,
            self._connect_timeout,
            metrics=self.metrics,
            on_message=self._on_message,
            on_gap=self._on_gap,
            verbs=SHARDED,
            on_moved=self._move,
        )
        publisher = RedisPublisher(
            connect, where, self._connect_timeout, publish_timeout=self._publish_timeout, metrics=self.metrics
        )
        subscriber.on_change = publisher.on_change = self._look_at_connections
        self._servers[place] = _Server(subscriber, publisher)
        return self._servers[place]


def _slot(channel: bytes) -> int:
    slot: int = key_slot(channel)
    return slot


def cluster_backend(url: str, publish_timeout: float, connect_timeout: float, prefix: str) -> Backend:
    """The backend of a URL that ends in `+cluster`."""
    return ClusterBackend(
        parse_servers(url), publish_timeout=publish_timeout, connect_timeout=connect_timeout, prefix=prefix
    )
