"""Redis without an event loop: blocking sockets, and as much of its protocol as to publish a message.

One server, those that sentinels name, or a cluster: what publishes need not know which. Not usable from several threads
at a time.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from dataclasses import replace
from typing import Any, Final, final
from urllib.parse import urlencode

from uvicorn.broadcast.redis.driver import RedisAddress
from uvicorn.broadcast.redis.resp import NotRedis, RedisReader, RedisRefusal
from uvicorn.broadcast.redis.standalone import parse_address
from uvicorn.broadcast.redis.url import database_of, options_of, port_of, service_of, split_url
from uvicorn.errors import ConfigError

#: The URLs that are understood here, but for `+py`, which names a driver, and here there is none.
SCHEMES: Final = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")

# A cluster may send us from one server to another while a slot moves; not for ever.
_MOST_REDIRECTIONS: Final = 5

#: What goes wrong on the way, and is worth trying again later.
FAILURES: Final = (OSError, RedisRefusal)


def open_client(url: str) -> SyncClient:
    """What carries messages to `url`; connects when it is first used. Raises ConfigError for a URL that is none."""
    parts = split_url(url)
    scheme = parts.scheme.removesuffix("+py")
    if scheme not in SCHEMES:
        raise ConfigError(
            f"Publisher: the URL has scheme {scheme!r}; expected one of {', '.join(f'{name}://' for name in SCHEMES)}"
        )
    base, _, kind = scheme.partition("+")
    if not kind:
        return SyncClient([parse_address(parts._replace(scheme=base).geturl())])
    credentials, at, places = parts.netloc.rpartition("@")
    service = ""
    if kind == "cluster":
        database = database_of(parts.path.strip("/"))
    else:
        service, database = service_of(parts.path)
    options = options_of(parts)
    sentinel_password = options.pop("sentinel_password", "")
    default = "" if kind == "cluster" else ":26379"
    rest = f"/{database}?{urlencode(options)}"
    addresses = [
        parse_address(f"{base}://{credentials}{at}{place}{'' if _has_port(place) else default}{rest}")
        for place in (places or "localhost").split(",")
    ]
    if kind == "cluster":
        return ClusterClient(addresses)
    return SentinelClient(addresses, service, sentinel_password)


class SyncClient:
    """Publishes on one connection, which is kept, and made again if it was closed meanwhile."""

    verb = b"PUBLISH"

    def __init__(self, addresses: list[RedisAddress]) -> None:
        self.addresses = addresses
        self._connections: dict[RedisAddress, SyncConnection] = {}

    def prepare(self, deadline: float) -> None:
        """Connect, unless there is a connection; raises one of FAILURES. A message that fails here was never sent."""
        self.connection(self.find(deadline), deadline)

    def publish(self, deadline: float, channel: bytes, payload: bytes) -> None:
        """Raises one of FAILURES. Never tries again what may have arrived."""
        self.connection(self.find(deadline), deadline).ask(deadline, self.verb, channel, payload)

    def find(self, deadline: float) -> RedisAddress:
        """Where to publish."""
        return self.addresses[0]

    def connection(self, address: RedisAddress, deadline: float) -> SyncConnection:
        """A connection to one server."""
        connection = self._connections.get(address)
        if connection is not None and connection.is_stale():
            self._connections.pop(address).close()
            connection = None
        if connection is None:
            connection = self._connections[address] = connect(address, deadline)
        return connection

    def close(self) -> None:
        """Close what is open; another publish opens it again."""
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.close()

    def __repr__(self) -> str:
        return ", ".join(map(repr, self.addresses))


@final
class SentinelClient(SyncClient):
    """Asks the sentinels for the master of `service` whenever it has no connection to one."""

    def __init__(self, sentinels: list[RedisAddress], service: str, password: str) -> None:
        super().__init__(sentinels)
        self._service = service
        self._password = password
        self._master: RedisAddress | None = None

    def find(self, deadline: float) -> RedisAddress:
        connection = self._connections.get(self._master) if self._master is not None else None
        # A master that is one no longer closes its connections.
        if self._master is None or connection is None or connection.is_stale():
            self._master = self._ask_sentinels(deadline)
            connection = self.connection(self._master, deadline)
            if connection.ask(deadline, b"ROLE")[0] != b"master":
                raise ConnectionError("the server that the sentinels name is not the master yet, or not any more")
        return self._master

    def _ask_sentinels(self, deadline: float) -> RedisAddress:
        reasons = []
        for place, address in enumerate(self.addresses):
            sentinel = replace(address, username="", password=self._password, database=0)
            try:
                until = share_of(deadline, len(self.addresses) - place)
                connection = connect(sentinel, until)
                try:
                    answer = connection.ask(until, b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", self._service.encode())
                finally:
                    connection.close()
            except FAILURES as error:
                reasons.append(f"{sentinel!r}: {error or type(error).__name__}")
                continue
            if answer is not None:
                # First, the next time: those before it may be hanging.
                self.addresses.insert(0, self.addresses.pop(place))
                return replace(address, host=answer[0].decode(), port=int(answer[1]))
            reasons.append(f"{sentinel!r}: knows no {self._service!r}")
        raise ConnectionError("; ".join(reasons))


@final
class ClusterClient(SyncClient):
    """Publishes at the owner of the channel's slot, which any server of the cluster names."""

    verb = b"SPUBLISH"

    def __init__(self, addresses: list[RedisAddress]) -> None:
        super().__init__(addresses)
        self._last: RedisAddress | None = None

    def prepare(self, deadline: float) -> None:
        """To any server; which one is right is seen later."""
        self._find_any(deadline)

    def publish(self, deadline: float, channel: bytes, payload: bytes) -> None:
        """Raises one of FAILURES. A server that sends us to another one has not published."""
        address = self._find_any(deadline)
        asking = False
        try:
            for _ in range(_MOST_REDIRECTIONS):
                connection = self.connection(address, deadline)
                self._last = address
                if asking:
                    connection.ask(deadline, b"ASKING")
                try:
                    connection.ask(deadline, self.verb, channel, payload)
                    return
                except RedisRefusal as refusal:
                    # "MOVED 3999 127.0.0.1:6381", or "ASK ..." the same.
                    kind, _, where = str(refusal).partition(" ")
                    if kind not in ("MOVED", "ASK"):
                        raise
                    host, _, port = where.rpartition(" ")[2].rpartition(":")
                    asking = kind == "ASK"
                    # A server that does not know its own address leaves it out: it is the one that we have asked.
                    address = replace(self.addresses[0], host=host or address.host, port=int(port))
        except OSError:
            self._pass_over(address)
            raise
        raise ConnectionError("the servers of the cluster do not agree on who owns the group")

    def _find_any(self, deadline: float) -> RedisAddress:
        """The one that was right the last time, or whichever can be reached; there is a connection to it."""
        reasons = []
        last = [] if self._last is None else [self._last]
        candidates = list(dict.fromkeys(last + self.addresses))
        for place, address in enumerate(candidates):
            try:
                self.connection(address, share_of(deadline, len(candidates) - place))
            except FAILURES as error:
                self._pass_over(address)
                reasons.append(f"{address!r}: {error or type(error).__name__}")
            else:
                self._last = address
                return address
        raise ConnectionError("; ".join(reasons))

    def _pass_over(self, address: RedisAddress) -> None:
        """Ask others first, the next time: one that hangs lets us connect, and another may have its slots by then."""
        self._last = None
        if address in self.addresses:
            self.addresses.remove(address)
            self.addresses.append(address)


@final
class SyncConnection:
    """One question, one answer."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._replies: deque[Any] = deque()
        self._reader = RedisReader(self._replies.append)

    def ask(self, deadline: float, *command: bytes) -> Any:
        """The answer; raises one of FAILURES."""
        parts = [b"*%d\r\n" % len(command)]
        for part in command:
            parts += (b"$%d\r\n" % len(part), part, b"\r\n")
        self._socket.settimeout(left(deadline))
        self._socket.sendall(b"".join(parts))
        while not self._replies:
            self._socket.settimeout(left(deadline))
            received = self._socket.recv(4096)
            if not received:
                raise ConnectionError("Redis closed the connection")
            try:
                self._reader.feed(received)
            except NotRedis as error:
                raise ConnectionError(f"what answers does not speak Redis' protocol: {error}") from None
        reply = self._replies.popleft()
        if isinstance(reply, RedisRefusal):
            raise reply
        return reply

    def is_stale(self) -> bool:
        """Whether the other side has closed it, or said what nobody has asked for."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return bool(self._replies) or bool(poll.poll(0))

    def close(self) -> None:
        """Whatever is under way."""
        self._socket.close()


def connect(address: RedisAddress, deadline: float) -> SyncConnection:
    """A connection that has been accepted; raises one of FAILURES."""
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
        if address.username or address.password:
            name = (address.username.encode(),) if address.username else ()
            connection.ask(deadline, b"AUTH", *name, address.password.encode())
        if address.database:
            connection.ask(deadline, b"SELECT", b"%d" % address.database)
    except BaseException:
        sock.close()
        raise
    return connection


def left(deadline: float) -> float:
    """Seconds until then; TimeoutError if there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no answer in time")
    return seconds


def share_of(deadline: float, candidates: int) -> float:
    """Until when the next of so many may take: one that hangs must leave time for the others."""
    return time.monotonic() + left(deadline) / candidates


def _has_port(place: str) -> bool:
    return port_of(split_url(f"//{place}")) is not None
