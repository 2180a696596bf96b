"""`redis://`, `rediss://` and `unix://`: publish and subscribe on two connections for each process."""

from __future__ import annotations

import os
from collections.abc import Collection

from uvicorn.broadcast.backend import Backend, BackendOptions, OnGap, OnMessage
from uvicorn.broadcast.redis.connection import Connect
from uvicorn.broadcast.redis.driver import connect
from uvicorn.broadcast.redis.publisher import RedisPublisher
from uvicorn.broadcast.redis.reconnecting import ReconnectingConnection, drop_inherited
from uvicorn.broadcast.redis.subscriber import Subscriber
from uvicorn.broadcast.redis.subscription import PLAIN, Subscription
from uvicorn.broadcast.redis.url import parse_redis_url
from uvicorn.errors import BroadcastUnavailable


class RedisBackend(Backend):
    """One Redis server, by either driver. `where` names it in messages, without a password."""

    def __init__(self, connect: Connect, where: str, options: BackendOptions) -> None:
        super().__init__()
        self._connect = connect
        self._where = where
        self._options = options
        self._process = 0
        self._subscriber: Subscriber | None = None
        self._publisher: RedisPublisher | None = None
        #: All connections.
        self._connections: list[ReconnectingConnection] = []

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        if self._process not in (0, os.getpid()):
            drop_inherited(self._connections)
        self._process = os.getpid()
        subscriber = self._subscriber = Subscriber(
            self._connect,
            self._where,
            self._options.connect_timeout,
            metrics=self.metrics,
            on_message=on_message,
            on_gap=on_gap,
        )
        publisher = self._publisher = RedisPublisher(
            self._connect,
            self._where,
            self._options.connect_timeout,
            publish_timeout=self._options.publish_timeout,
            metrics=self.metrics,
        )
        self._connections = [subscriber, publisher]
        subscriber.on_change = publisher.on_change = self._update_connected
        await subscriber.start()
        await publisher.start()

    async def subscribe(self, groups: Collection[str]) -> None:
        subscriber = self._started()[0]
        await subscriber.subscribe([Subscription(group, self._options.channel(group)) for group in groups])

    async def unsubscribe(self, groups: Collection[str]) -> None:
        self._started()[0].unsubscribe([self._options.channel(group) for group in groups])

    async def publish(self, group: str, payload: bytes) -> None:
        await self._started()[1].publish(PLAIN.publish, self._options.channel(group), payload)

    async def stop(self) -> None:
        subscriber, publisher = self._subscriber, self._publisher
        if subscriber is None or publisher is None or self._process != os.getpid():
            return
        # The publisher first, so that the last messages are received here too.
        await publisher.stop()
        await subscriber.stop()
        self._subscriber = self._publisher = None
        self.metrics.connected = False

    def __repr__(self) -> str:
        return self._where

    def _started(self) -> tuple[Subscriber, RedisPublisher]:
        if self._subscriber is None or self._publisher is None or self._process != os.getpid():
            raise BroadcastUnavailable(f"{self._where}: not started in this process; await start() first")
        return self._subscriber, self._publisher

    def _update_connected(self) -> None:
        subscriber, publisher = self._subscriber, self._publisher
        self.metrics.connected = (
            subscriber is not None
            and subscriber.all_subscribed
            and publisher is not None
            and publisher.current is not None
        )


def open_backend(url: str, options: BackendOptions) -> Backend:
    """Make the backend of a URL without `+`, by asyncio_redis."""
    (address,) = parse_redis_url(url).addresses()
    return RedisBackend(lambda: connect(address), repr(address), options)
