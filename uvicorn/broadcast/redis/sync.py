"""Publishes to Redis on blocking sockets. Not thread-safe."""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from typing import Any, Final, final

from uvicorn.broadcast.redis.resp import (
    FIRST_RETRY_SECONDS,
    LONGEST_RETRY_SECONDS,
    NOT_MASTER,
    NotRedis,
    RedisReader,
    RedisRefusal,
    encode_command,
    is_master,
)
from uvicorn.broadcast.redis.url import RedisAddress, parse_redis_url, split_url
from uvicorn.errors import ConfigError

#: URL schemes. `+py`, which selects a driver of the event loop, is ignored.
SCHEMES: Final = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")

# A moving slot may cause several redirections. More of them are a fault of the cluster.
_MAX_REDIRECTIONS: Final = 5


def open_client(url: str) -> SyncClient:
    """Make a client, which connects on first use. Raises ConfigError."""
    scheme = split_url(url).scheme.removesuffix("+py")
    if scheme not in SCHEMES:
        raise ConfigError(f"Publisher: the URL has scheme {scheme!r}; expected one of {', '.join(SCHEMES)}")
    parsed = parse_redis_url(url)
    addresses = parsed.addresses()
    if parsed.kind == "cluster":
        return ClusterClient(addresses)
    if parsed.kind == "sentinel":
        return SentinelClient(addresses, parsed.service, parsed.sentinel_password)
    return SyncClient(addresses)


class SyncClient:
    """Publishes to one Redis server, and reconnects when necessary."""

    verb = b"PUBLISH"
    #: Errors of the network and of Redis. A later attempt may succeed.
    failures: Final = (OSError, RedisRefusal)

    def __init__(self, addresses: list[RedisAddress]) -> None:
        self.addresses = addresses
        self._connections: dict[RedisAddress, SyncConnection] = {}

    def retry_while_busy(self, method: Callable[..., object], deadline: float, *arguments: bytes) -> None:
        """Call `method(deadline, *arguments)`, and repeat the call while Redis is busy."""
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                method(deadline, *arguments)
                return
            except RedisRefusal as refusal:
                if not refusal.is_transient or time.monotonic() + delay >= deadline:
                    raise
            time.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY_SECONDS)

    def prepare(self, deadline: float) -> None:
        self.connection(self.find(deadline), deadline)

    def publish(self, deadline: float, channel: bytes, payload: bytes) -> None:
        """Publish without retries. After an error, the message may have arrived nevertheless."""
        self.connection(self.find(deadline), deadline).execute(deadline, self.verb, channel, payload)

    def find(self, deadline: float) -> RedisAddress:
        return self.addresses[0]

    def connection(self, address: RedisAddress, deadline: float) -> SyncConnection:
        connection = self._connections.get(address)
        if connection is not None and connection.is_stale():
            self._connections.pop(address).close()
            connection = None
        if connection is None:
            connection = self._connections[address] = connect(address, deadline)
        return connection

    def close(self) -> None:
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.close()

    def __repr__(self) -> str:
        return ", ".join(map(repr, self.addresses))


@final
class SentinelClient(SyncClient):
    """Publishes to the master that the sentinels name."""

    def __init__(self, sentinels: list[RedisAddress], service: str, password: str) -> None:
        super().__init__([replace(address, username="", password=password, database=0) for address in sentinels])
        self._service = service
        # The URL's credentials are for the master.
        self._template = sentinels[0]
        self._master: RedisAddress | None = None

    def find(self, deadline: float) -> RedisAddress:
        connection = self._connections.get(self._master) if self._master is not None else None
        # A deposed master closes its connections, so an open one leads to the master.
        if self._master is None or connection is None or connection.is_stale():
            self._master = _first(self.addresses, deadline, self._ask_sentinel)
            if not is_master(self.connection(self._master, deadline).execute(deadline, b"ROLE")):
                raise ConnectionError(NOT_MASTER)
        return self._master

    def _ask_sentinel(self, sentinel: RedisAddress, until: float) -> RedisAddress:
        with closing(connect(sentinel, until)) as connection:
            reply = connection.execute(until, b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service.encode())
        if reply is None:
            raise ConnectionError(f"the sentinel does not know the service {self._service!r}")
        # Ask this sentinel first the next time, because those before it may hang.
        self.addresses.remove(sentinel)
        self.addresses.insert(0, sentinel)
        return replace(self._template, host=reply[0].decode(), port=int(reply[1]))


@final
class ClusterClient(SyncClient):
    """Publishes to a Redis Cluster, and follows its redirections."""

    verb = b"SPUBLISH"

    def __init__(self, addresses: list[RedisAddress]) -> None:
        super().__init__(addresses)
        self._last: RedisAddress | None = None

    def publish(self, deadline: float, channel: bytes, payload: bytes) -> None:
        address = self.find(deadline)
        asking = False
        try:
            for _ in range(_MAX_REDIRECTIONS):
                connection = self.connection(address, deadline)
                self._last = address
                if asking:
                    connection.execute(deadline, b"ASKING")
                try:
                    connection.execute(deadline, self.verb, channel, payload)
                    return
                except RedisRefusal as refusal:
                    if refusal.redirection is None:
                        raise
                    host, port = refusal.redirection
                    asking = refusal.code == "ASK"
                    address = replace(self.addresses[0], host=host or address.host, port=port)
        except OSError:
            self._pass_over(address)
            raise
        raise ConnectionError("the cluster's servers disagree on the owner of the group's slot")

    def find(self, deadline: float) -> RedisAddress:
        last = [] if self._last is None else [self._last]
        self._last = _first(dict.fromkeys(last + self.addresses), deadline, self._try)
        return self._last

    def _try(self, address: RedisAddress, until: float) -> RedisAddress:
        try:
            self.connection(address, until)
        except self.failures:
            self._pass_over(address)
            raise
        return address

    def _pass_over(self, address: RedisAddress) -> None:
        self._last = None
        if address in self.addresses:
            self.addresses.remove(address)
            self.addresses.append(address)


@final
class SyncConnection:
    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._replies: deque[Any] = deque()
        self._reader = RedisReader(self._replies.append)

    def execute(self, deadline: float, *command: bytes) -> Any:
        self._socket.settimeout(left(deadline))
        self._socket.sendall(encode_command(*command))
        while not self._replies:
            self._socket.settimeout(left(deadline))
            received = self._socket.recv(4096)
            if not received:
                raise ConnectionError("Redis closed the connection")
            try:
                self._reader.feed(received)
            except NotRedis as error:
                raise ConnectionError(f"the server does not speak Redis' protocol: {error}") from None
        reply = self._replies.popleft()
        if isinstance(reply, RedisRefusal):
            raise reply
        return reply

    def is_stale(self) -> bool:
        """Return whether the connection is closed or has unexpected input."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(self._replies) or bool(poll.poll(0))

    def close(self) -> None:
        self._socket.close()


def connect(address: RedisAddress, deadline: float) -> SyncConnection:
    if address.path:
        sock = socket.socket(socket.AF_UNIX)
    else:
        sock = socket.create_connection((address.host, address.port), timeout=left(deadline))
    try:
        sock.settimeout(left(deadline))
        if address.path:
            sock.connect(address.path)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if address.tls is not None:
            sock = address.tls.wrap_socket(sock, server_hostname=address.host)
        connection = SyncConnection(sock)
        for command in address.login_commands():
            connection.execute(deadline, *command)
    except BaseException:
        sock.close()
        raise
    return connection


def left(deadline: float) -> float:
    """Return the seconds until `deadline`. After `deadline`, raises TimeoutError."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no reply from Redis in time")
    return seconds


def _first(
    addresses: Iterable[RedisAddress], deadline: float, attempt: Callable[[RedisAddress, float], RedisAddress]
) -> RedisAddress:
    reasons = []
    candidates = list(addresses)
    for place, address in enumerate(candidates):
        try:
            # A server that hangs leaves time for the others.
            return attempt(address, time.monotonic() + left(deadline) / (len(candidates) - place))
        except SyncClient.failures as error:
            reasons.append(f"{address!r}: {error or type(error).__name__}")
    raise ConnectionError("; ".join(reasons))
