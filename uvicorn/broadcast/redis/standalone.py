"""`redis://`, `rediss://` and `unix://`: Redis' publish and subscribe, on two connections for each process."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Collection
from urllib.parse import SplitResult, unquote

from uvicorn.broadcast.backend import CONNECT_TIMEOUT, PUBLISH_TIMEOUT, Backend, OnGap, OnMessage
from uvicorn.broadcast.redis.connection import Connect
from uvicorn.broadcast.redis.driver import RedisAddress, connect
from uvicorn.broadcast.redis.publisher import RedisPublisher
from uvicorn.broadcast.redis.reconnecting import ReconnectingConnection, drop_inherited
from uvicorn.broadcast.redis.subscriber import Subscriber
from uvicorn.broadcast.redis.subscription import PLAIN, Subscription
from uvicorn.broadcast.redis.url import database_of, options_of, port_of, split_url
from uvicorn.errors import BroadcastUnavailable, ConfigError

logger = logging.getLogger("uvicorn.broadcast")


class RedisBackend(Backend):
    """One Redis server, by whatever driver `connect` uses. `where` names it in messages, without a password."""

    def __init__(
        self,
        connect: Connect,
        where: str,
        *,
        publish_timeout: float = PUBLISH_TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        prefix: str = "",
    ) -> None:
        super().__init__()
        self._connect = connect
        self._where = where
        self._publish_timeout = publish_timeout
        self._connect_timeout = connect_timeout
        self._prefix = prefix
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
            self._connect_timeout,
            metrics=self.metrics,
            on_message=on_message,
            on_gap=on_gap,
        )
        publisher = self._publisher = RedisPublisher(
            self._connect,
            self._where,
            self._connect_timeout,
            publish_timeout=self._publish_timeout,
            metrics=self.metrics,
        )
        self._connections = [subscriber, publisher]
        subscriber.on_change = publisher.on_change = self._look_at_connections
        await subscriber.start()
        await publisher.start()

    async def subscribe(self, groups: Collection[str]) -> None:
        subscriber = self._started()[0]
        await subscriber.subscribe([Subscription(group, self._channel(group)) for group in groups])

    async def unsubscribe(self, groups: Collection[str]) -> None:
        self._started()[0].unsubscribe([self._channel(group) for group in groups])

    async def publish(self, group: str, payload: bytes) -> None:
        await self._started()[1].publish(PLAIN.publish, self._channel(group), payload)

    async def stop(self) -> None:
        subscriber, publisher = self._subscriber, self._publisher
        if subscriber is None or publisher is None or self._process != os.getpid():
            return
        # First, so that what is published last is heard here too, like everything else.
        await publisher.stop()
        await subscriber.stop()
        self._subscriber = self._publisher = None
        self.metrics.connected = False

    def __repr__(self) -> str:
        return self._where

    def _channel(self, group: str) -> bytes:
        # Any text has an encoding this way, lone surrogates too.
        return (self._prefix + group).encode("utf-8", "surrogatepass")

    def _started(self) -> tuple[Subscriber, RedisPublisher]:
        if self._subscriber is None or self._publisher is None or self._process != os.getpid():
            raise BroadcastUnavailable(f"{self._where}: not started in this process; await start() first")
        return self._subscriber, self._publisher

    def _look_at_connections(self) -> None:
        subscriber, publisher = self._subscriber, self._publisher
        self.metrics.connected = (
            subscriber is not None
            and subscriber.all_subscribed
            and publisher is not None
            and publisher.current is not None
        )


def redis_backend(url: str, publish_timeout: float, connect_timeout: float, prefix: str) -> Backend:
    """The backend of a URL, by asyncio_redis."""
    address = parse_address(url)
    return RedisBackend(
        lambda: connect(address),
        repr(address),
        publish_timeout=publish_timeout,
        connect_timeout=connect_timeout,
        prefix=prefix,
    )


def parse_address(url: str) -> RedisAddress:
    """What a URL says: `redis://user:password@host:port/database`, `rediss://` the same by TLS, `unix://…/path?db=0`.

    Of TLS: `?ssl_ca_certs=`, `ssl_certfile=`, `ssl_keyfile=` name files, `ssl_cert_reqs=none` trusts anybody.
    Raises ConfigError, without the password.
    """
    parts = split_url(url)
    port, options = port_of(parts), options_of(parts)
    is_unix = parts.scheme == "unix"
    tls = _tls_context(options) if parts.scheme == "rediss" else None
    database = database_of(options.pop("db", "") or ("" if is_unix else parts.path.strip("/")))
    if options:
        raise ConfigError(f"broadcast URL: option {min(options)!r} is not known for {parts.scheme}://")
    if is_unix and not parts.path:
        raise ConfigError("broadcast URL: expected the path of a socket, as in unix:///run/redis.sock")
    return RedisAddress(
        host=parts.hostname or "localhost",
        port=6379 if port is None else port,
        path=_socket_path(parts) if is_unix else "",
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=database,
        tls=tls,
    )


def _socket_path(parts: SplitResult) -> str:
    # unix://run/redis.sock says a host and a path; nobody means that.
    return unquote(parts.netloc.rpartition("@")[2] + parts.path)


def _tls_context(options: dict[str, str]) -> ssl.SSLContext:
    verify = options.pop("ssl_cert_reqs", "required")
    if verify not in ("required", "none"):
        raise ConfigError(f"broadcast URL: ssl_cert_reqs is {verify!r}; expected 'required' or 'none'")
    authorities = options.pop("ssl_ca_certs", None)
    certificate, key = options.pop("ssl_certfile", None), options.pop("ssl_keyfile", None)
    try:
        context = ssl.create_default_context(cafile=authorities)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigError(f"broadcast URL: ssl_ca_certs, ssl_certfile or ssl_keyfile: {error}") from None
    if verify == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
