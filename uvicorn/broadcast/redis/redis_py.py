"""`redis+py://` connects through the library redis-py."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import urlencode

from redis.asyncio import Connection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from uvicorn.broadcast.backend import Backend, BackendOptions
from uvicorn.broadcast.redis.connection import ConnectFailed, RedisConnection, closed_on_failure, connect_refused
from uvicorn.broadcast.redis.resp import RedisRefusal
from uvicorn.broadcast.redis.standalone import RedisBackend
from uvicorn.broadcast.redis.url import RedisURL, parse_redis_url
from uvicorn.errors import ConfigError

#: Arguments of redis-py's connection class, except host and port.
DriverOptions: TypeAlias = dict[str, Any]

#: Without hiredis, redis-py raises these for malformed replies.
MALFORMED_REPLY: Final = (ValueError, RecursionError)


def _build_connection(options: DriverOptions, **place: str | int) -> Connection:
    others = {name: value for name, value in options.items() if name != "connection_class"}
    return options.get("connection_class", Connection)(
        **others,
        **({} if "path" in options else place),
        # RedisReader, which takes the connection over, parses RESP2.
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        # RedisConnection checks liveness, and ReconnectingConnection limits the time to connect.
        socket_timeout=None,
        socket_connect_timeout=None,
        # Otherwise the user needs the right to CLIENT SETINFO.
        driver_info=None,
    )


@asynccontextmanager
async def connected(host: str, port: int, options: DriverOptions) -> AsyncIterator[Connection]:
    """Connect with redis-py. Disconnect after the `with` block. Raises ConnectFailed or OSError."""
    connection = _build_connection(options, host=host, port=port)
    try:
        await connection.connect()
        yield connection
    except RedisError as error:
        # redis-py raises some error replies, such as LOADING and NOAUTH, as connection errors, and removes their code.
        code = getattr(error, "status_code", None)
        if code or isinstance(error, ResponseError):
            raise connect_refused(RedisRefusal(f"{code} {error}" if code else str(error))) from None
        raise ConnectFailed(str(error)) from None
    except MALFORMED_REPLY as error:
        raise ConnectFailed(f"malformed reply: {error}") from None
    finally:
        await connection.disconnect(nowait=True)


async def connect_to(host: str, port: int, options: DriverOptions) -> RedisConnection:
    """Connect with redis-py, without a timeout. Raises ConnectFailed or OSError."""
    async with connected(host, port, options) as opened:
        if await opened.can_read():
            # Redis has closed the connection, or has sent an error reply without a command, as to too many clients.
            await opened.read_response()
            raise ConnectFailed("unexpected reply from Redis")
        connection = _take_over(opened)
    connection.place = f"{host}:{port}"
    async with closed_on_failure(connection):
        await connection.check_alive()
    return connection


def _take_over(opened: Connection) -> RedisConnection:
    connection = RedisConnection()
    writer: Any = opened._writer
    opened._reader = opened._writer = None
    connection.writer = writer
    writer.transport.set_protocol(connection)
    connection.connection_made(writer.transport)
    if writer.transport.is_closing():
        # The transport does not report the end of the connection a second time.
        connection.connection_lost(None)
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
        raise ConfigError(f"broadcast URL: unknown or reserved option {option}; remove the option") from None
    return options


def open_backend(url: str, options: BackendOptions) -> Backend:
    parsed = parse_redis_url(url)
    (host, port), driver = parsed.hosts[0], driver_options(parsed)
    return RedisBackend(lambda: connect_to(host, port, driver), repr(parsed), options)
