"""Chooses the default broadcast URL."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from uvicorn import process_count

logger = logging.getLogger("uvicorn.broadcast")

VARIABLE: Final = "UVICORN_BROADCAST_URL"
LOCAL_REDIS: Final = "redis://localhost:6379"
MEMORY: Final = "memory://"

# Redis replies within a millisecond. Each start without Redis takes this much longer.
_PROBE_SECONDS: Final = 0.5

# Error replies to PING of a usable Redis that is starting, is running a script, or has a full disk.
_BUSY: Final = (b"-LOADING ", b"-BUSY ", b"-MASTERDOWN ", b"-MISCONF ")


def url_of_redis(host: str, port: int) -> str:
    return f"redis://{f'[{host}]' if ':' in host else host}:{port}"


def named_url() -> str:
    return os.environ.get(VARIABLE, "")


async def choose_url(host: str = "localhost", port: int = 6379) -> str:
    """Return the broadcast URL for a middleware without `url`."""
    if named := named_url():
        return named
    local = url_of_redis(host, port)
    trouble = await _probe(host, port)
    if not trouble:
        return local
    how = f"start Redis (redis-server), or set {VARIABLE}"
    if process_count.are_several():
        logger.warning("a server with several processes needs Redis for groups, but %s; %s", trouble, how)
        return local
    logger.warning("groups reach the clients of this process only, because %s; %s", trouble, how)
    return MEMORY


async def _probe(host: str, port: int) -> str:
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"*1\r\n$4\r\nPING\r\n")
                reply = await reader.readline()
            finally:
                writer.transport.abort()
    except TimeoutError:
        return f"no response from {where} within {_PROBE_SECONDS:g} s"
    except (OSError, ValueError):
        return f"no Redis is running on {where}"
    if reply.startswith((b"+PONG", *_BUSY)):
        return ""
    if reply.startswith(b"-NOAUTH"):
        return f"Redis on {where} requires a password"
    return f"the server on {where} is not a usable Redis"
