"""Which carrier is used by who has named none."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Final

from uvicorn import process_count

logger = logging.getLogger("uvicorn.broadcast")

#: What names a carrier, for those who do not do so in code.
VARIABLE: Final = "UVICORN_BROADCAST_URL"

#: Where Redis is unless somebody says otherwise.
LOCAL_REDIS: Final = "redis://localhost:6379"

MEMORY: Final = "memory://"

# Redis answers within a millisecond; who waits longer at each start where there is none would notice.
_PROBE_SECONDS: Final = 0.5

# A Redis that is starting, or held up by a script, is one that can be used.
_BUSY: Final = (b"-LOADING ", b"-BUSY ", b"-MASTERDOWN ", b"-MISCONF ")


def url_of_redis(host: str, port: int) -> str:
    """The URL of a Redis that is given by host and port."""
    return f"redis://{f'[{host}]' if ':' in host else host}:{port}"


def named_url() -> str:
    """The URL that the environment names, or ''."""
    return os.environ.get(VARIABLE, "")


async def choose_url(host: str = "localhost", port: int = 6379) -> str:
    """The URL that the environment names; or that of a local Redis, if it answers; or else memory, with a warning.

    Where there are other processes it is never memory.
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
    """What keeps a Redis from being used; '' if nothing does."""
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"*1\r\n$4\r\nPING\r\n")
                answer = await reader.readline()
            finally:
                writer.transport.abort()
    except TimeoutError:
        return f"nothing answered on {where} within {_PROBE_SECONDS:g} s"
    except (OSError, ValueError):
        return f"there is no Redis on {where}"
    if answer.startswith((b"+PONG", *_BUSY)):
        return ""
    if answer.startswith(b"-NOAUTH"):
        return f"Redis on {where} wants a password"
    return f"what answers on {where} is not a Redis that can be used"
