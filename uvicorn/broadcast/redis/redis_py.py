"""`redis+py://` connects through the library redis-py."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import Any, TypeAlias
from urllib.parse import urlencode

from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from uvicorn.broadcast.backend import Backend, BackendOptions
from uvicorn.broadcast.redis.connection import CLOSE_SECONDS, ConnectFailed, RedisConnection, connect_error
from uvicorn.broadcast.redis.resp import MAX_PAYLOAD_BYTES, RedisRefusal, Reply
from uvicorn.broadcast.redis.standalone import RedisBackend
from uvicorn.broadcast.redis.url import RedisURL, parse_redis_url
from uvicorn.errors import ConfigError

#: Arguments of redis-py's connection class, except host and port.
DriverOptions: TypeAlias = dict[str, Any]


class RedisPyConnection(RedisConnection):
    """A connection of redis-py, which sends each command once."""

    def __init__(self, connection: Connection, place: str = "") -> None:
        super().__init__()
        self._connection = connection
        self.place = place
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        try:
            await self._connection.connect()
        except BaseException:
            await self._connection.disconnect(nowait=True)
            raise
        self.connection_made()
        self._watch_bytes()
        self._task = asyncio.create_task(self._read(), name="uvicorn broadcast: reading")

    @property
    def is_reading(self) -> bool:
        """Whether `open` has succeeded. From then on, `lost` is set when the connection ends."""
        return self._task is not None

    @property
    def unsent_bytes(self) -> int:
        size: int = self._transport().get_write_buffer_size()
        return size

    def fileno(self) -> int:
        return int(self._transport().get_extra_info("socket").fileno())

    def send(self, *command: bytes) -> None:
        # `send_command` may suspend, and commands of several tasks would change their order.
        writer = self._connection._writer
        if writer is not None and not writer.transport.is_closing():
            writer.writelines(self._connection.pack_command(*command))

    def abort_transport(self) -> None:
        if self._connection._writer is not None:
            self._connection._writer.transport.abort()

    def _transport(self) -> Any:
        return self._connection._writer.transport

    def _watch_bytes(self) -> None:
        # A long reply can take longer than the limit of silence.
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
            # redis-py raises some error replies, such as LOADING and NOAUTH, as connection errors.
            if _is_reply(error):
                return RedisRefusal(_text(error))
            raise
        if isinstance(reply, list) and len(reply) == 3 and reply[0] in (b"message", b"smessage"):
            if len(reply[2]) > MAX_PAYLOAD_BYTES:
                reply[2] = None
        return reply


def _is_reply(error: BaseException) -> bool:
    return isinstance(error, ResponseError) or getattr(error, "status_code", None) is not None


def _text(error: BaseException) -> str:
    """Return the text of an error reply, including the code that redis-py has removed."""
    code = getattr(error, "status_code", None)
    return f"{code} {error}" if code else str(error)


def _build_connection(options: DriverOptions, **place: str | int) -> Connection:
    """Build a connection. Raises TypeError for an unknown or reserved option."""
    others = {name: value for name, value in options.items() if name != "connection_class"}
    return options.get("connection_class", Connection)(
        **others,
        **({} if "path" in options else place),
        # redis-py parses long messages of RESP3 four times slower.
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        # RedisConnection checks liveness, and ReconnectingConnection limits the time to connect.
        socket_timeout=None,
        socket_connect_timeout=None,
        # Otherwise the user needs the right to CLIENT SETINFO.
        driver_info=None,
    )


async def connect_to(host: str, port: int, options: DriverOptions) -> RedisPyConnection:
    """Open a connection with redis-py, without a timeout. Raises ConnectFailed or OSError."""
    connection = RedisPyConnection(_build_connection(options, host=host, port=port), f"{host}:{port}")
    try:
        await connection.open()
        await connection.check_alive()
    except BaseException as error:
        if connection.is_reading:
            await connection.close("connecting failed")
        failed = connect_error(RedisRefusal(_text(error)) if _is_reply(error) else error, "")
        if failed is None and isinstance(error, RedisError):
            failed = ConnectFailed(str(error))
        if failed is not None:
            raise failed from None
        raise
    return connection


def driver_options(url: RedisURL) -> DriverOptions:
    """Return the URL's options for redis-py. Raises ConfigError."""
    given = {"path": url.path, "username": url.username, "password": url.password, "db": url.database}
    try:
        # redis-py converts the types of options, and chooses the class for TLS.
        parsed = parse_url(f"{url.base}://?{urlencode(url.options)}")
        options = {**parsed, **{name: value for name, value in given.items() if value}}
        _build_connection(options)
    except ValueError as error:
        raise ConfigError(f"broadcast URL: {error}") from None
    except TypeError as error:
        # The message ends with "unexpected keyword argument 'name'" or "multiple values for keyword argument 'name'".
        option = str(error).rpartition("argument ")[2]
        raise ConfigError(f"broadcast URL: option {option} is not known to redis-py, or is reserved") from None
    return options


def open_backend(url: str, options: BackendOptions) -> Backend:
    parsed = parse_redis_url(url)
    (host, port), driver = parsed.hosts[0], driver_options(parsed)
    return RedisBackend(lambda: connect_to(host, port, driver), repr(parsed), options)
