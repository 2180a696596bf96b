"""The default broadcast URL."""

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

# Redis replies within a millisecond. Without one, every start takes this much longer.
_PROBE_SECONDS: Final = 0.5

# Error replies of a usable Redis that is starting, is running a script, or has a full disk.
_BUSY: Final = (b"-LOADING ", b"-BUSY ", b"-MASTERDOWN ", b"-MISCONF ")


def url_of_redis(host: str, port: int) -> str:
    """Return the URL of the Redis at `host` and `port`."""
    return f"redis://{f'[{host}]' if ':' in host else host}:{port}"


def named_url() -> str:
    """Return the URL in the environment, or ''."""
    return os.environ.get(VARIABLE, "")


async def choose_url(host: str = "localhost", port: int = 6379) -> str:
    """Return the URL in the environment, or that of a local Redis if it responds, or else `memory://` with a warning.

    If the server has several processes it is never `memory://`.
    """
    named = named_url()
    if named:
        return named
    trouble = await _probe(host, port)
    local = url_of_redis(host, port)
    if not trouble:
        return local
    how = f"start Redis (redis-server), or set {VARIABLE}"
    if process_count.are_several():
        logger.warning("groups need Redis, since there are several processes, and %s; %s", trouble, how)
        return local
    logger.warning("groups reach the clients of this process only: %s; to reach others, %s", trouble, how)
    return MEMORY


async def _probe(host: str, port: int) -> str:
    """Return why there is no usable Redis, or ''."""
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
        return f"there is no Redis on {where}"
    if reply.startswith((b"+PONG", *_BUSY)):
        return ""
    if reply.startswith(b"-NOAUTH"):
        return f"Redis on {where} wants a password"
    return f"the server on {where} is not a usable Redis"
