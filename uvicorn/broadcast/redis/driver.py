"""Connections that use the protocol of the driver asyncio_redis."""

from __future__ import annotations

import asyncio
import socket
from typing import cast

from asyncio_redis import RedisProtocol
from asyncio_redis.encoders import BytesEncoder

from uvicorn.broadcast.redis.connection import RedisConnection, closed_on_failure
from uvicorn.broadcast.redis.resp import NotRedis, RedisReader
from uvicorn.broadcast.redis.url import RedisAddress


class _Protocol(RedisProtocol):  # type: ignore[misc]
    """The protocol of asyncio_redis with our parser."""

    # The original parser cannot parse acknowledgements, loses authentication errors, and queues pushes without bound.

    def __init__(self, connection: DriverConnection) -> None:
        super().__init__(encoder=BytesEncoder(), enable_typechecking=False)
        self.transport: asyncio.Transport
        self._connection = connection
        self.reader = RedisReader(connection.reply_received)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast instead of an assertion, because uvloop's transports do not subclass asyncio.Transport.
        self.transport = cast(asyncio.Transport, transport)
        self._is_connected = True
        self._connection.connection_made()

    def data_received(self, data: bytes) -> None:
        self._connection.bytes_received()
        try:
            self.reader.feed(data)
        except NotRedis as error:
            self._connection.abort(f"the server does not speak Redis' protocol: {error}")

    def eof_received(self) -> None:
        # The result None lets the transport close, and `connection_lost` follows.
        pass

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_connected = False
        self.reader.close()
        self._connection.connection_lost(
            "Redis closed the connection" if exc is None else str(exc) or type(exc).__name__
        )


class DriverConnection(RedisConnection):
    def __init__(self) -> None:
        super().__init__()
        self.protocol = _Protocol(self)
        #: redis-py's writer, which would close the transport when it is freed. Otherwise None.
        self.writer: asyncio.StreamWriter | None = None

    @property
    def unsent_bytes(self) -> int:
        return self.protocol.transport.get_write_buffer_size()

    def send(self, *command: bytes) -> None:
        if not self.protocol.transport.is_closing():
            self.protocol._send_command(command)

    def abort_transport(self) -> None:
        self.protocol.reader.close()
        self.protocol.transport.abort()

    def fileno(self) -> int:
        return int(self.protocol.transport.get_extra_info("socket").fileno())


async def connect(address: RedisAddress) -> DriverConnection:
    """Connect and log in, without a timeout. Raises ConnectFailed or OSError."""
    loop = asyncio.get_running_loop()
    connection = DriverConnection()
    if address.path:
        await loop.create_unix_connection(lambda: connection.protocol, address.path)
    else:
        await loop.create_connection(lambda: connection.protocol, address.host, address.port, ssl=address.tls)
        # For middleboxes. The liveness check does not depend on it.
        connection.protocol.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for command in address.login_commands():
        async with closed_on_failure(connection, command[0].decode()):
            await connection.execute(*command)
    async with closed_on_failure(connection, "PING"):
        await connection.check_alive()
    return connection
