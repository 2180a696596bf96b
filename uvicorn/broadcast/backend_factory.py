"""From a URL to the backend that it names."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final

from uvicorn.broadcast.backend import CONNECT_TIMEOUT, PUBLISH_TIMEOUT, Backend
from uvicorn.broadcast.redis.url import split_url
from uvicorn.errors import ConfigError


def backend_from_url(
    url: str,
    *,
    publish_timeout: float = PUBLISH_TIMEOUT,
    connect_timeout: float = CONNECT_TIMEOUT,
    prefix: str = "",
) -> Backend:
    """The backend that `url` names, not started yet.

    `prefix` goes before each group name to make the channel name that others see: several applications can then share
    one Redis. `connect_timeout` bounds each attempt to connect, and with it `start`.

    Raises ConfigError when the URL is not understood, or names a driver that is not installed.
    """
    scheme = split_url(url).scheme
    build = BACKENDS.get(scheme)
    if build is None:
        found = f"scheme {scheme!r}" if scheme else "no scheme"
        # Not the URL itself: there may be a password in it.
        raise ConfigError(f"broadcast URL: {found}; expected one of {', '.join(f'{name}://' for name in BACKENDS)}")
    return build(url, publish_timeout, connect_timeout, prefix)


def _memory(url: str, publish_timeout: float, connect_timeout: float, prefix: str) -> Backend:
    from uvicorn.broadcast.memory import MemoryBackend

    parts = split_url(url)
    return MemoryBackend(parts.netloc + parts.path, publish_timeout=publish_timeout)


def _redis(url: str, publish_timeout: float, connect_timeout: float, prefix: str) -> Backend:
    from uvicorn.broadcast.redis.standalone import redis_backend

    return redis_backend(url, publish_timeout, connect_timeout, prefix)


def _redis_py(url: str, publish_timeout: float, connect_timeout: float, prefix: str) -> Backend:
    scheme = split_url(url).scheme
    name, function = _REDIS_PY[scheme.partition("+")[2]]
    try:
        module = import_module(f"uvicorn.broadcast.redis.{name}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "redis":
            raise
        raise ConfigError(f"broadcast URL: {scheme}:// needs redis-py: pip install 'uvicorn[redis]'") from None
    backend: Backend = getattr(module, function)(url, publish_timeout, connect_timeout, prefix)
    return backend


_REDIS_PY: Final = {
    "py": ("redis_py", "redis_py_backend"),
    "sentinel": ("sentinel", "sentinel_backend"),
    "cluster": ("cluster", "cluster_backend"),
}

#: Scheme to what builds its backend. Modules are imported when they are asked for: not every driver is installed.
BACKENDS: Final[dict[str, Callable[[str, float, float, str], Backend]]] = {
    "memory": _memory,
    "redis": _redis,
    "rediss": _redis,
    "unix": _redis,
    "redis+py": _redis_py,
    "rediss+py": _redis_py,
    "unix+py": _redis_py,
    "redis+sentinel": _redis_py,
    "rediss+sentinel": _redis_py,
    "redis+cluster": _redis_py,
    "rediss+cluster": _redis_py,
}
