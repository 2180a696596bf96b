"""URLs of carriers, taken apart.

Nothing of a URL that cannot be read is shown: a password with a `/` in it makes one, and looks like a port then.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from uvicorn.errors import ConfigError

#: What to do about most of those that cannot be read.
HOW_TO_ESCAPE: Final = "in a password, / ? # @ : [ ] % are written as %2F %3F %23 %40 %3A %5B %5D %25"


def split_url(url: str) -> SplitResult:
    """Its parts. Raises ConfigError."""
    if not isinstance(url, str):
        raise ConfigError(f"broadcast URL: expected text, got {type(url).__name__}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"broadcast URL: the host cannot be read; {HOW_TO_ESCAPE}") from None
    if parts.fragment:
        raise ConfigError(f"broadcast URL: nothing is expected behind a #; {HOW_TO_ESCAPE}")
    return parts


def port_of(parts: SplitResult) -> int | None:
    """The port, if there is one. Raises ConfigError."""
    try:
        return parts.port
    except ValueError:
        raise ConfigError(
            f"broadcast URL: expected a port from 0 to 65535 behind the host's colon; {HOW_TO_ESCAPE}"
        ) from None


def options_of(parts: SplitResult) -> dict[str, str]:
    """What is behind the question mark; of several values, the last. Raises ConfigError."""
    try:
        found = parse_qs(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigError(
            f"broadcast URL: expected options as in ?name=value&name=value behind the question mark; {HOW_TO_ESCAPE}"
        ) from None
    return {name: values[-1] for name, values in found.items()}


def service_of(path: str) -> tuple[str, int]:
    """What sentinels call the servers that they watch, and the number of a database. Raises ConfigError."""
    service, _, database = path.strip("/").partition("/")
    if not service or "@" in service:
        raise ConfigError(f"broadcast URL: expected redis+sentinel://host:port,host:port/service; {HOW_TO_ESCAPE}")
    return service, database_of(database)


def database_of(text: str) -> int:
    """The number of a database; '' is 0. Raises ConfigError."""
    if not text:
        return 0
    if not text.isdecimal() or not text.isascii():
        shown = f"got {text!r:.40}" if "@" not in text else HOW_TO_ESCAPE
        raise ConfigError(f"broadcast URL: expected the number of a database, as in redis://localhost:6379/0; {shown}")
    return int(text)
