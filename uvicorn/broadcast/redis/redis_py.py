"""`redis+py://`: the same backend on connections of redis-py."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from uvicorn.broadcast.backend import Backend
from uvicorn.broadcast.redis.connection import CLOSE_SECONDS, ConnectFailed, ConnectionLost, RedisConnection, refused
from uvicorn.broadcast.redis.resp import MAX_PAYLOAD_BYTES, RedisRefusal, Reply
from uvicorn.broadcast.redis.standalone import RedisBackend
from uvicorn.broadcast.redis.url import database_of, options_of, port_of, service_of, split_url
from uvicorn.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Servers:
    """What a URL of this driver says: one server or several, and what redis-py makes of the rest."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    #: Arguments of redis-py's connection class.
    options: dict[str, Any]
    #: Of a sentinel: what it calls the servers that it watches, and our password there.
    service: str = ""
    sentinel_password: str = ""

    def __repr__(self) -> str:
        # Goes into logs and errors: no password.
        name = f"{self.options['username']}@" if "username" in self.options else ""
        hosts = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        where = self.options.get("path") or ",".join(hosts)
        return f"{self.scheme}://{name}{where}{f'/{self.service}' if self.service else ''}"


class RedisPyConnection(RedisConnection):
    """A connection of redis-py's, below its clients: those would try again by themselves, and publish twice."""

    def __init__(self, connection: Connection, place: str = "") -> None:
        super().__init__()
        self._connection = connection
        #: Host and port of the other end.
        self.place = place
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, authenticate and select the database; then begin to read."""
        try:
            await self._connection.connect()
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise
        self.connection_made()
        self._hear_bytes()
        self._task = asyncio.create_task(self._read(), name="uvicorn broadcast: reading")

    @property
    def reading(self) -> bool:
        """It was open once, so `lost` will be done."""
        return self._task is not None

    @property
    def unsent_bytes(self) -> int:
        size: int = self._transport().get_write_buffer_size()
        return size

    def fileno(self) -> int:
        return int(self._transport().get_extra_info("socket").fileno())

    def send(self, *command: bytes) -> None:
        # Below `send_command`, which may suspend: what is sent first must be the first on the wire.
        writer = self._connection._writer
        if writer is not None and not writer.transport.is_closing():
            writer.writelines(self._connection.pack_command(*command))

    def abort_transport(self) -> None:
        if self._connection._writer is not None:
            self._connection._writer.transport.abort()

    def _transport(self) -> Any:
        return self._connection._writer.transport

    def _hear_bytes(self) -> None:
        """Not whole replies: a long one on a slow line takes longer than silence may."""
        reader: Any = self._connection._reader
        feed = reader.feed_data

        def feed_data(data: bytes) -> None:
            self.bytes_received()
            feed(data)

        reader.feed_data = feed_data

    async def _read(self) -> None:
        reason = "Redis closed the connection"
        try:
            while not self._reason:
                reply = await self._next()
                self.reply_received(reply)
        except (RedisError, OSError) as error:
            reason = _text(error) or reason
        finally:
            self.abort_transport()
            with suppress(RedisError, OSError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._connection.disconnect()
            self.connection_lost(reason)

    async def _next(self) -> Reply:
        try:
            reply = await self._connection.read_response(
                disable_decoding=True, timeout=math.inf, disconnect_on_error=False
            )
        except RedisError as error:
            # redis-py takes some refusals for ends of the connection, LOADING and NOAUTH for example: they are not.
            if isinstance(error, ResponseError) or _is_reply(error):
                return RedisRefusal(_text(error))
            raise
        if isinstance(reply, list) and len(reply) == 3 and reply[0] in (b"message", b"smessage"):
            if len(reply[2]) > MAX_PAYLOAD_BYTES:
                # Too late to spare the memory, which only our own reader does; the promise about sizes is kept.
                reply[2] = None
        return reply


def _is_reply(error: BaseException) -> bool:
    """Whether it is an error reply: only those have a code."""
    return getattr(error, "status_code", None) is not None


def _text(error: BaseException) -> str:
    """What Redis said, with the code that redis-py takes off."""
    code = getattr(error, "status_code", None)
    return f"{code} {error}" if code else str(error)


def _build_connection(options: dict[str, Any], **place: str | int) -> Connection:
    """Raises TypeError for an option that redis-py does not know, or that is ours."""
    others = {name: value for name, value in options.items() if name != "connection_class"}
    return options.get("connection_class", Connection)(
        **others,
        **({} if "path" in options else place),
        # 3, the default, is four times slower for long messages, and pushes are another matter there.
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        # Liveness, and the limit on connecting, are ours; so an ACL needs no CLIENT SETINFO.
        socket_timeout=None,
        socket_connect_timeout=None,
        driver_info=None,
    )


async def connect_to(host: str, port: int, servers: Servers) -> RedisPyConnection:
    """A connection that has been accepted. Raises ConnectFailed, or OSError; to be called under a timeout."""
    connection = RedisPyConnection(_build_connection(servers.options, host=host, port=port), f"{host}:{port}")
    try:
        await connection.open()
        await connection.check_alive()
    except BaseException as error:
        if connection.reading:
            await connection.close("not accepted")
        if isinstance(error, (RedisRefusal, ResponseError)) or _is_reply(error):
            raise refused(RedisRefusal(_text(error))) from None
        if isinstance(error, (RedisError, ConnectionLost)):
            raise ConnectFailed(str(error)) from None
        raise
    return connection


def redis_py_backend(url: str, publish_timeout: float, connect_timeout: float, prefix: str) -> Backend:
    """The backend of a URL that ends in `+py`."""
    servers = parse_servers(url)
    host, port = servers.hosts[0]
    return RedisBackend(
        lambda: connect_to(host, port, servers),
        repr(servers),
        publish_timeout=publish_timeout,
        connect_timeout=connect_timeout,
        prefix=prefix,
    )


def parse_servers(url: str) -> Servers:
    """What a URL says. All but the list of hosts is as redis-py has it, `?ssl_ca_certs=` and so on.

    - `redis+py://user:password@host:port/0`, also `unix+py:///path`
    - `redis+sentinel://user:password@host:port,host:port/service?sentinel_password=…`
    - `redis+cluster://user:password@host:port,host:port`

    `rediss+…` is the same by TLS. Raises ConfigError, without the password.
    """
    parts = split_url(url)
    base, _, kind = parts.scheme.partition("+")
    credentials, at, places = parts.netloc.rpartition("@")
    default_port = 26379 if kind == "sentinel" else 6379
    hosts = tuple(_parse_place(place, default_port) for place in (places or "localhost").split(","))
    path, query = parts.path, options_of(parts)
    sentinel_password = query.pop("sentinel_password", "")
    service = ""
    if kind == "sentinel":
        service, database = service_of(path)
        path = f"/{database}"
    elif kind == "py" and len(hosts) > 1:
        raise ConfigError("broadcast URL: several hosts; expected one, or redis+cluster://, or redis+sentinel://")
    if base != "unix":
        # Which redis-py would take for none.
        database_of(path.strip("/"))
        path = f"localhost{path}"
    try:
        options = dict(parse_url(f"{base}://{credentials}{at}{path}?{urlencode(query)}"))
        options.pop("host", None)
        _build_connection(options)
    except ValueError as error:
        raise ConfigError(f"broadcast URL: {error}") from None
    except TypeError as error:
        # "...__init__() got an unexpected keyword argument 'name'", or "multiple values for" it.
        option = str(error).rpartition("argument ")[2]
        raise ConfigError(f"broadcast URL: option {option} is not known to redis-py, or is not yours to set") from None
    return Servers(parts.scheme, hosts, options, service, sentinel_password)


def _parse_place(place: str, default_port: int) -> tuple[str, int]:
    # The parser knows about brackets.
    parsed = split_url(f"//{place}")
    port = port_of(parsed)
    return parsed.hostname or "localhost", default_port if port is None else port
