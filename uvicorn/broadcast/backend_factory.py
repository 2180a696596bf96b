"""Makes the backend for a broadcast URL."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from uvicorn.broadcast.backend import CONNECT_TIMEOUT, PUBLISH_TIMEOUT, Backend, BackendOptions
from uvicorn.broadcast.redis.url import split_url
from uvicorn.errors import ConfigError

#: URL scheme -> the module that has `open_backend(url, options)`. Only that one is imported: redis-py may be missing.
BACKENDS: Final = {
    "memory": "memory",
    **dict.fromkeys(("redis", "rediss", "unix"), "redis.standalone"),
    **dict.fromkeys(("redis+py", "rediss+py", "unix+py"), "redis.redis_py"),
    **dict.fromkeys(("redis+sentinel", "rediss+sentinel"), "redis.sentinel"),
    **dict.fromkeys(("redis+cluster", "rediss+cluster"), "redis.cluster"),
}


def backend_from_url(
    url: str, *, publish_timeout: float = PUBLISH_TIMEOUT, connect_timeout: float = CONNECT_TIMEOUT, prefix: str = ""
) -> Backend:
    """Make the backend for `url`, without starting it. Raises ConfigError."""
    scheme = split_url(url).scheme
    if scheme not in BACKENDS:
        found = f"scheme {scheme!r}" if scheme else "no scheme"
        # The URL is not shown, because it may contain a password.
        raise ConfigError(f"broadcast URL: {found}; expected one of {', '.join(f'{name}://' for name in BACKENDS)}")
    try:
        module = import_module(f"uvicorn.broadcast.{BACKENDS[scheme]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "redis":
            raise
        raise ConfigError(f"broadcast URL: {scheme}:// needs redis-py: pip install 'uvicorn[redis]'") from None
    backend: Backend = module.open_backend(url, BackendOptions(publish_timeout, connect_timeout, prefix))
    return backend
