"""`redis+cluster://`: sharded publish and subscribe."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, TypeAlias

from redis.crc import key_slot

from uvicorn.broadcast.backend import Backend, BackendOptions, OnGap, OnMessage, Receiver
from uvicorn.broadcast.redis.connection import ConnectFailed, first_reply
from uvicorn.broadcast.redis.reconnecting import (
    FIRST_DELAY_SECONDS,
    LONGEST_DELAY_SECONDS,
    drop_inherited,
    is_cancelled,
)
from uvicorn.broadcast.redis.redis_py import connect_to, connected, driver_options
from uvicorn.broadcast.redis.resp import RedisRefusal
from uvicorn.broadcast.redis.standalone import RedisServer
from uvicorn.broadcast.redis.subscriber import logger
from uvicorn.broadcast.redis.subscription import SHARDED, Subscription
from uvicorn.broadcast.redis.url import parse_redis_url
from uvicorn.errors import BroadcastUnavailable
from uvicorn.escape import escaped

Place: TypeAlias = tuple[str, int]

_slot: Callable[[bytes], int] = key_slot


class ClusterBackend(Backend):
    """Broadcasts over Redis Cluster 7 or later."""

    def __init__(self, url: str, options: BackendOptions) -> None:
        super().__init__()
        self._url = parse_redis_url(url)
        self._driver = driver_options(self._url)
        self._options = options
        self._servers: dict[Place, RedisServer] = {}
        self._owners: dict[int, Place] = {}
        # Subscriptions whose server is unknown, by channel.
        self._unplaced: dict[bytes, Subscription] = {}
        self._recheck = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        if self._process not in (0, os.getpid()):
            drop_inherited(connection for server in self._servers.values() for connection in server.connections)
        self._process = os.getpid()
        self._receiver = Receiver(on_message, on_gap, self.metrics)
        self._servers, self._owners, self._unplaced = {}, {}, {}
        self._recheck = asyncio.Event()
        try:
            await self._learn_owners()
        except ConnectFailed as error:
            logger.warning("%r: no server of the cluster responds: %s; retrying", self, escaped(error))
            self._recheck.set()
        self._task = asyncio.create_task(self._run(), name=f"uvicorn broadcast: {self!r}")

    async def subscribe(self, groups: Collection[str]) -> None:
        self._in_this_process(self._task)
        parts: dict[Place, list[Subscription]] = {}
        for group in groups:
            entry = Subscription(group, self._options.channel(group))
            place = self._owners.get(_slot(entry.channel))
            if entry.channel in self._unplaced:
                continue
            if place is None:
                self._move(entry)
            else:
                parts.setdefault(place, []).append(entry)
        await asyncio.gather(*(self._servers[place].subscriber.subscribe(part) for place, part in parts.items()))

    async def unsubscribe(self, groups: Collection[str]) -> None:
        self._in_this_process(self._task)
        channels = [self._options.channel(group) for group in groups]
        for channel in channels:
            self._unplaced.pop(channel, None)
        for server in self._servers.values():
            server.subscriber.unsubscribe(channels)

    async def publish(self, group: str, payload: bytes) -> None:
        self._in_this_process(self._task)
        channel = self._options.channel(group)
        slot = _slot(channel)
        place = self._owners.get(slot)
        if place is None:
            self.metrics.publish_failures += 1
            raise BroadcastUnavailable(f"{self!r}: the owner of slot {slot} is unknown; the message was not sent")
        try:
            await self._servers[place].publisher.publish(SHARDED.publish, channel, payload)
        except BroadcastUnavailable as error:
            # A server that redirects a message has not published it.
            refusal = error.__cause__
            place = refusal.redirection if isinstance(refusal, RedisRefusal) and refusal.code == "MOVED" else None
            if place is None:
                raise
            self._recheck.set()
            if place not in self._servers:
                raise
            self._owners[slot] = place
            await self._servers[place].publisher.publish(SHARDED.publish, channel, payload)

    async def stop(self) -> None:
        if self._process != os.getpid():
            return
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        servers, self._servers = tuple(self._servers.values()), {}
        await asyncio.gather(*(server.publisher.stop() for server in servers))
        await asyncio.gather(*(server.subscriber.stop() for server in servers))
        self.metrics.connected = False

    def __repr__(self) -> str:
        return repr(self._url)

    # Owners of slots.

    def _move(self, entry: Subscription) -> None:
        self._unplaced[entry.channel] = entry
        entry.begin_gap(time.time())
        self._update_connected()

    def _update_connected(self) -> None:
        servers = self._servers.values()
        self.metrics.connected = bool(servers) and not self._unplaced and all(server.is_ready for server in servers)
        if not self.metrics.connected:
            self._recheck.set()

    async def _run(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while not is_cancelled():
            await self._recheck.wait()
            self._recheck.clear()
            try:
                await self._learn_owners()
            except ConnectFailed as error:
                logger.debug("%r: %s", self, escaped(error))
            except Exception:
                # Continue, because groups that move would receive no messages any more.
                logger.exception("%r: failed to find the owners of slots; retrying", self)
            self._update_connected()
            delay = FIRST_DELAY_SECONDS if self.metrics.connected else min(2 * delay, LONGEST_DELAY_SECONDS)
            await asyncio.sleep(delay)

    async def _learn_owners(self) -> None:
        hosts = dict.fromkeys((*self._servers, *self._url.hosts))
        await self._apply_owners(await first_reply(hosts, self._options.connect_timeout, self._fetch_owners))

    async def _fetch_owners(self, host: str, port: int) -> dict[int, Place]:
        async with connected(host, port, self._driver) as connection:
            await connection.send_command("CLUSTER", "SLOTS", check_health=False)
            ranges: Any = await connection.read_response(disable_decoding=True)
        owners = {}
        for first, last, master, *_ in ranges:
            # A server that does not announce its own name has the name by which we have reached it.
            name = (master[0] or b"").decode()
            place = (host if name in ("", "?") else name, master[1])
            owners.update(dict.fromkeys(range(first, last + 1), place))
        return owners

    async def _apply_owners(self, owners: dict[int, Place]) -> None:
        places = set(owners.values())
        fresh = [self._add_server(place) for place in places if place not in self._servers]
        await asyncio.gather(*(connection.start() for server in fresh for connection in server.connections))
        self._owners = owners
        for place, server in self._servers.items():
            for channel in [channel for channel in server.subscriber.channels if owners.get(_slot(channel)) != place]:
                self._unplaced[channel] = server.subscriber.release(channel)
        placed: dict[Place, list[Subscription]] = {}
        for channel in [channel for channel in self._unplaced if _slot(channel) in owners]:
            placed.setdefault(owners[_slot(channel)], []).append(self._unplaced.pop(channel))
        for place, entries in placed.items():
            self._servers[place].subscriber.adopt(entries)
        gone = [self._servers.pop(place) for place in list(self._servers) if place not in places]
        await asyncio.gather(*(connection.stop() for server in gone for connection in server.connections))
        self._update_connected()

    def _add_server(self, place: Place) -> RedisServer:
        connect, where = partial(connect_to, *place, self._driver), f"{self!r}, {place[0]}:{place[1]}"
        server = RedisServer(connect, where, self._options, self._receiver, self._update_connected, self._move)
        self._servers[place] = server
        return server


open_backend = ClusterBackend
