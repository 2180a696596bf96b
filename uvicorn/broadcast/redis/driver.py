"""A connection to Redis by asyncio_redis."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import cast

from asyncio_redis import RedisProtocol
from asyncio_redis.encoders import BytesEncoder

from uvicorn.broadcast.redis.connection import ConnectFailed, ConnectionLost, RedisConnection, refused
from uvicorn.broadcast.redis.resp import NotRedis, RedisReader, RedisRefusal


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a Redis is, and who we are to it. `path` is that of a Unix socket; without one, `host` and `port` count."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""
    username: str = ""
    password: str = ""
    database: int = 0
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        # Goes into logs and errors: no password.
        name = f"{self.username}@" if self.username else ""
        if self.path:
            return f"unix://{name}{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{name}{host}:{self.port}/{self.database}"


class _Protocol(RedisProtocol):  # type: ignore[misc]
    """The package's protocol with its reading replaced.

    The original starts a task for each push, keeps them in a queue without bound, knows no acknowledgement and no
    pong, authenticates in a task whose failure nobody sees, and forgets no question whose asker was cancelled.
    """

    def __init__(self, connection: AsyncioRedisConnection) -> None:
        super().__init__(encoder=BytesEncoder(), enable_typechecking=False)
        self.transport: asyncio.Transport
        self._connection = connection
        self._replies = RedisReader(connection.reply_received)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: uvloop's do not derive from it.
        self.transport = cast(asyncio.Transport, transport)
        self._is_connected = True
        self._connection.connection_made()

    def data_received(self, data: bytes) -> None:
        self._connection.bytes_received()
        try:
            self._replies.feed(data)
        except NotRedis as error:
            self._connection.abort(f"what answers there does not speak Redis' protocol: {error}")

    def eof_received(self) -> None:
        # None: the transport closes, and `connection_lost` follows.
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_connected = False
        self._replies.close()
        self._connection.connection_lost(
            "Redis closed the connection" if exc is None else str(exc) or type(exc).__name__
        )

    def write(self, command: tuple[bytes, ...]) -> None:
        if not self.transport.is_closing():
            self._send_command(command)

    def abort_transport(self) -> None:
        self._replies.close()
        self.transport.abort()


class AsyncioRedisConnection(RedisConnection):
    """A connection whose protocol is asyncio_redis'."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol = _Protocol(self)

    @property
    def unsent_bytes(self) -> int:
        return self.protocol.transport.get_write_buffer_size()

    def send(self, *command: bytes) -> None:
        self.protocol.write(command)

    def abort_transport(self) -> None:
        self.protocol.abort_transport()

    def fileno(self) -> int:
        return int(self.protocol.transport.get_extra_info("socket").fileno())


async def connect(address: RedisAddress) -> AsyncioRedisConnection:
    """A connection that has been accepted. Raises ConnectFailed, or OSError; to be called under a timeout."""
    loop = asyncio.get_running_loop()
    connection = AsyncioRedisConnection()
    if address.path:
        await loop.create_unix_connection(lambda: connection.protocol, address.path)
    else:
        await loop.create_connection(lambda: connection.protocol, address.host, address.port, ssl=address.tls)
        # A hint to what carries the segments; liveness does not depend on it.
        connection.protocol.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    try:
        await _introduce(connection, address)
    except BaseException as error:
        await connection.close("not accepted")
        if isinstance(error, RedisRefusal):
            raise refused(error, "PING") from None
        if isinstance(error, ConnectionLost):
            raise ConnectFailed(str(error)) from None
        raise
    return connection


async def _introduce(connection: RedisConnection, address: RedisAddress) -> None:
    """Authenticate, select the database, and have an answer."""
    if address.username or address.password:
        name = (address.username.encode(),) if address.username else ()
        await _ask(connection, b"AUTH", *name, address.password.encode())
    if address.database:
        await _ask(connection, b"SELECT", b"%d" % address.database)
    await connection.check_alive()


async def _ask(connection: RedisConnection, *command: bytes) -> None:
    try:
        await connection.ask(*command)
    except RedisRefusal as refusal:
        raise refused(refusal, command[0].decode()) from None
