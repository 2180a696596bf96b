"""`redis+sentinel://`: publish and subscribe on the master that the sentinels name."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from uvicorn.broadcast.backend import BackendMetrics, BackendOptions, OnGap, OnMessage, Receiver
from uvicorn.broadcast.redis.connection import ConnectFailed, RedisConnection, closed_on_failure, first_reply
from uvicorn.broadcast.redis.redis_py import MALFORMED_REPLY, DriverOptions, connect_to, driver_options
from uvicorn.broadcast.redis.resp import NOT_MASTER, is_master
from uvicorn.broadcast.redis.standalone import RedisBackend
from uvicorn.broadcast.redis.subscriber import Subscriber
from uvicorn.broadcast.redis.subscription import Subscription
from uvicorn.broadcast.redis.url import RedisURL, parse_redis_url

#: 0.3 s: an attempt to connect succeeds within a second even if two of three sentinels hang.
_SENTINEL_TIMEOUT: Final = 0.3
_SWITCH: Final = "+switch-master"


class SentinelBackend(RedisBackend):
    """Broadcasts over the master that the sentinels announce."""

    def __init__(self, url: str, options: BackendOptions) -> None:
        self._url = parse_redis_url(url)
        driver = driver_options(self._url)
        super().__init__(lambda: _connect_to_master(self._url, driver), repr(self._url), options)
        self._watch: Subscriber | None = None

    async def start(self, on_message: OnMessage, on_gap: OnGap) -> None:
        await super().start(on_message, on_gap)
        url = self._url
        # The URL's password, database and TLS options are for the servers that the sentinels watch.
        driver = {"password": url.sentinel_password} if url.sentinel_password else {}
        self._watch = Subscriber(
            lambda: first_reply(url.hosts, _SENTINEL_TIMEOUT, lambda host, port: connect_to(host, port, driver)),
            f"{url!r}, a sentinel",
            self._options.connect_timeout,
            # The metrics of the backend do not count this connection.
            Receiver(self._on_switch, lambda groups, reason, since: None, BackendMetrics()),
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
        if len(words) != 5 or words[0] != self._url.service:
            return
        for reconnecting in self._server.connections if self._server is not None else ():
            connection = reconnecting.current
            if connection is None:
                reconnecting.retry_now.set()
            elif connection.place != f"{words[3]}:{words[4]}":
                connection.abort("the sentinels have named another master")


async def _connect_to_master(url: RedisURL, driver: DriverOptions) -> RedisConnection:
    timeouts = dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _SENTINEL_TIMEOUT)
    options = {"protocol": 2, "retry": Retry(NoBackoff(), 0), "driver_info": None, **timeouts}
    sentinel = Sentinel(url.hosts, sentinel_kwargs={**options, "password": url.sentinel_password or None})
    try:
        host, port = await sentinel.discover_master(url.service)
    except RedisError as error:
        raise ConnectFailed(str(error)) from None
    except MALFORMED_REPLY as error:
        raise ConnectFailed(f"malformed reply from a sentinel: {error}") from None
    finally:
        for client in sentinel.sentinels:
            with suppress(RedisError, OSError):
                await client.aclose()
    connection = await connect_to(host, port, driver)
    async with closed_on_failure(connection, "ROLE"):
        # A server that has just been deposed would accept messages, but has no subscribers.
        if not is_master(await connection.execute(b"ROLE")):
            raise ConnectFailed(NOT_MASTER)
    return connection


open_backend = SentinelBackend
