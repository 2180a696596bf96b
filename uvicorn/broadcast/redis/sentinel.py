"""`redis+sentinel://`: whichever server the sentinels take for the master."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from uvicorn.broadcast.backend import Backend, BackendMetrics, OnGap, OnMessage
from uvicorn.broadcast.redis.connection import ConnectFailed, ConnectionLost, refused
from uvicorn.broadcast.redis.redis_py import RedisPyConnection, Servers, connect_to, parse_servers
from uvicorn.broadcast.redis.resp import RedisRefusal
from uvicorn.broadcast.redis.standalone import RedisBackend
from uvicorn.broadcast.redis.subscriber import Subscriber
from uvicorn.broadcast.redis.subscription import Subscription

#: 0.3 s: of three sentinels two may hang, and an attempt to connect still be in time.
_SENTINEL_TIMEOUT: Final = 0.3
_SWITCH: Final = "+switch-master"


class SentinelBackend(RedisBackend):
    """One Redis that changes its place. The sentinels say so as soon as it does.

    Without listening to them we would stay with a master that was deposed but lives, until they cut us off, up to 10 s
    later: those who connected meanwhile would be with the new one, and neither would hear the other.
    """

    def __init__(self, servers: Servers, **options: Any) -> None:
        super().__init__(lambda: _connect_to_master(servers), repr(servers), **options)
        self._servers = servers
        self._watch: Subscriber | None = None

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        await super().start(on_message, on_gap)
        self._watch = Subscriber(
            lambda: _connect_to_a_sentinel(self._servers),
            f"{self._servers!r}, a sentinel",
            self._connect_timeout,
            # Not ours: nobody wants to know how often sentinels come and go.
            metrics=BackendMetrics(),
            on_message=self._on_switch,
            on_gap=lambda groups, reason, since: None,
        )
        self._connections.append(self._watch)
        await self._watch.start()
        await self._watch.subscribe([Subscription(_SWITCH, _SWITCH.encode())])

    async def stop(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.stop()
        await super().stop()

    def _on_switch(self, group: str, payload: bytes) -> None:
        # "service old-host old-port new-host new-port"
        words = payload.decode("utf-8", "replace").split(" ")
        if len(words) != 5 or words[0] != self._servers.service:
            return
        for reconnecting in (self._subscriber, self._publisher):
            if reconnecting is None:
                continue
            if reconnecting.current is None:
                reconnecting.retry_now()
            elif (
                isinstance(reconnecting.current, RedisPyConnection)
                and reconnecting.current.place != f"{words[3]}:{words[4]}"
            ):
                reconnecting.current.abort("the sentinels have named another master")


async def _connect_to_master(servers: Servers) -> RedisPyConnection:
    """A connection to the master. Raises ConnectFailed, or OSError; to be called under a timeout."""
    sentinel = Sentinel(
        servers.hosts,
        sentinel_kwargs={
            "protocol": 2,
            "retry": Retry(NoBackoff(), 0),
            "socket_timeout": _SENTINEL_TIMEOUT,
            "socket_connect_timeout": _SENTINEL_TIMEOUT,
            "password": servers.sentinel_password or None,
            "driver_info": None,
        },
    )
    try:
        host, port = await sentinel.discover_master(servers.service)
    except RedisError as error:
        raise ConnectFailed(str(error)) from None
    finally:
        for client in sentinel.sentinels:
            with suppress(RedisError, OSError):
                await client.aclose()
    connection = await connect_to(host, port, servers)
    try:
        # One that was the master until a moment ago would take messages that nobody hears.
        role = await connection.ask(b"ROLE")
        if not isinstance(role, list) or role[:1] != [b"master"]:
            raise ConnectFailed("the server that the sentinels name is not the master yet, or not any more")
    except BaseException as error:
        await connection.close("not the master")
        if isinstance(error, RedisRefusal):
            raise refused(error, "ROLE") from None
        if isinstance(error, ConnectionLost):
            raise ConnectFailed(str(error)) from None
        raise
    return connection


async def _connect_to_a_sentinel(servers: Servers) -> RedisPyConnection:
    """A connection to the first one that answers."""
    # The password, the database and TLS are those of the servers that are watched.
    options = {"password": servers.sentinel_password} if servers.sentinel_password else {}
    reasons = []
    for host, port in servers.hosts:
        try:
            async with asyncio.timeout(_SENTINEL_TIMEOUT):
                return await connect_to(host, port, Servers("", (), options))
        except (ConnectFailed, OSError, TimeoutError) as error:
            reasons.append(f"{host}:{port}: {error or type(error).__name__}")
    raise ConnectFailed("; ".join(reasons))


def sentinel_backend(url: str, publish_timeout: float, connect_timeout: float, prefix: str) -> Backend:
    """The backend of a URL that ends in `+sentinel`."""
    return SentinelBackend(
        parse_servers(url), publish_timeout=publish_timeout, connect_timeout=connect_timeout, prefix=prefix
    )
