"""`redis://`, `rediss://` and `unix://`: broadcast over one Redis server."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Collection
from typing import final

from uvicorn.broadcast.backend import Backend, BackendOptions, OnGap, OnMessage, Receiver
from uvicorn.broadcast.redis.connection import Connect, RedisConnection, closed_on_failure
from uvicorn.broadcast.redis.publisher import RedisPublisher
from uvicorn.broadcast.redis.reconnecting import ReconnectingConnection, drop_inherited
from uvicorn.broadcast.redis.subscriber import Subscriber
from uvicorn.broadcast.redis.subscription import PLAIN, OnMoved, Subscription
from uvicorn.broadcast.redis.url import RedisAddress, parse_redis_url


@final
class RedisServer:
    """The two connections of this process to one Redis server."""

    def __init__(
        self,
        connect: Connect,
        where: str,
        options: BackendOptions,
        receiver: Receiver,
        on_change: Callable[[], None],
        on_moved: OnMoved | None = None,
    ) -> None:
        self.subscriber = Subscriber(connect, where, options.connect_timeout, receiver, on_moved)
        self.publisher = RedisPublisher(connect, where, options, receiver.metrics)
        self.connections = (self.subscriber, self.publisher)
        for connection in self.connections:
            connection.on_change = on_change

    @property
    def is_ready(self) -> bool:
        return self.subscriber.all_subscribed and self.publisher.current is not None


class RedisBackend(Backend):
    """Broadcasts over one Redis server."""

    def __init__(self, connect: Connect, where: str, options: BackendOptions) -> None:
        super().__init__()
        self._connect = connect
        # Logs and errors show this name, so it has no password.
        self._where = where
        self._options = options
        self._server: RedisServer | None = None
        self._connections: list[ReconnectingConnection] = []

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        if self._process not in (0, os.getpid()):
            drop_inherited(self._connections)
        self._process = os.getpid()
        receiver = Receiver(on_message, on_gap, self.metrics)
        self._server = RedisServer(self._connect, self._where, self._options, receiver, self._update_connected)
        self._connections = [*self._server.connections]
        for connection in self._connections:
            await connection.start()

    async def subscribe(self, groups: Collection[str]) -> None:
        subscriptions = [Subscription(group, self._options.channel(group)) for group in groups]
        await self._in_this_process(self._server).subscriber.subscribe(subscriptions)

    async def unsubscribe(self, groups: Collection[str]) -> None:
        subscriber = self._in_this_process(self._server).subscriber
        subscriber.unsubscribe([self._options.channel(group) for group in groups])

    async def publish(self, group: str, payload: bytes) -> None:
        publisher = self._in_this_process(self._server).publisher
        await publisher.publish(PLAIN.publish, self._options.channel(group), payload)

    async def stop(self) -> None:
        server = self._server
        if server is None or self._process != os.getpid():
            return
        # The subscriber stops last, so that it receives the last messages.
        await server.publisher.stop()
        await server.subscriber.stop()
        self._server = None
        self.metrics.connected = False

    def __repr__(self) -> str:
        return self._where

    def _update_connected(self) -> None:
        self.metrics.connected = self._server is not None and self._server.is_ready


async def connect(address: RedisAddress) -> RedisConnection:
    """Connect and log in, without a timeout. Raises ConnectFailed or OSError."""
    loop = asyncio.get_running_loop()
    connection = RedisConnection()
    # Encoded before there is a connection that a UnicodeEncodeError would leave open.
    commands = tuple(address.login_commands())
    if address.path:
        await loop.create_unix_connection(lambda: connection, address.path)
    else:
        await loop.create_connection(lambda: connection, address.host, address.port, ssl=address.tls)
        # For middleboxes. The liveness check does not depend on it.
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for command in commands:
        async with closed_on_failure(connection, command[0].decode()):
            await connection.execute(*command)
    async with closed_on_failure(connection, "PING"):
        await connection.check_alive()
    return connection


def open_backend(url: str, options: BackendOptions) -> Backend:
    (address,) = parse_redis_url(url).addresses()
    return RedisBackend(lambda: connect(address), repr(address), options)
