"""Parses Redis URLs."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from uvicorn.errors import ConfigError

# Errors show no part of a malformed URL: after an unescaped `/` the rest of a password looks like a port.
HOW_TO_ESCAPE: Final = "in a password, / ? # @ : [ ] % are written as %2F %3F %23 %40 %3A %5B %5D %25"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """The address of a Redis server, with credentials."""

    host: str = "localhost"
    port: int = 6379
    #: The path of a Unix socket; '' for a server at `host` and `port`.
    path: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = None

    def __repr__(self) -> str:
        scheme = "unix" if self.path else "rediss" if self.tls else "redis"
        return _shown(scheme, self.username, self.path, ((self.host, self.port),), str(self.database))

    def login_commands(self) -> Iterator[tuple[bytes, ...]]:
        if self.username or self.password:
            name = (self.username.encode(),) if self.username else ()
            yield (b"AUTH", *name, self.password.encode())
        if self.database:
            yield (b"SELECT", b"%d" % self.database)


@dataclass(frozen=True, slots=True)
class RedisURL:
    """A parsed URL of one of these forms:

    - `redis://user:password@host:port/database` or `unix://user:password@/path?db=0`
    - `redis+sentinel://user:password@host:port,host:port/service/database?sentinel_password=…`
    - `redis+cluster://user:password@host:port,host:port`

    `rediss` uses TLS. In `redis+py`, `rediss+py` and `unix+py`, the driver is redis-py.
    """

    #: The part of the scheme before the +.
    base: str
    #: The part of the scheme after the +, or ''.
    kind: str
    hosts: tuple[tuple[str, int], ...]
    path: str
    username: str
    password: str
    database: int
    #: The name by which sentinels know the master and its replicas.
    service: str
    sentinel_password: str
    #: The rest of the query.
    options: dict[str, str]

    def __repr__(self) -> str:
        scheme = f"{self.base}+{self.kind}" if self.kind else self.base
        tail = self.service if self.kind else str(self.database)
        return _shown(scheme, self.username, self.path, self.hosts, tail)

    def addresses(self) -> list[RedisAddress]:
        """Return the address of each host. Raises ConfigError for an unknown option."""
        options = dict(self.options)
        tls = _tls_context(options) if self.base == "rediss" else None
        if options:
            raise ConfigError(f"broadcast URL: unknown option {min(options)!r} for {self.base}://")
        others = self.path, self.username, self.password, self.database, tls
        return [RedisAddress(host, port, *others) for host, port in self.hosts]


def parse_redis_url(url: str) -> RedisURL:
    parts = split_url(url)
    base, _, kind = parts.scheme.partition("+")
    credentials, _, places = parts.netloc.rpartition("@")
    username, _, password = map(unquote, credentials.partition(":"))
    options = _options(parts)
    hosts: tuple[tuple[str, int], ...] = (("localhost", 6379),)
    path = service = database = ""
    if base == "unix":
        if not parts.path:
            raise ConfigError("broadcast URL: expected the path of a socket, as in unix:///run/redis.sock")
        # unix://run/redis.sock parses as the host `run` and a path, but the user means a path.
        path = unquote(places + parts.path)
    else:
        default_port = 26379 if kind == "sentinel" else 6379
        hosts = tuple(_host(place, default_port) for place in (places or "localhost").split(","))
        if len(hosts) > 1 and kind not in ("sentinel", "cluster"):
            raise ConfigError(
                "broadcast URL: expected one host; several hosts need redis+cluster:// or redis+sentinel://"
            )
        database = parts.path.strip("/")
    if kind == "sentinel":
        service, _, database = database.partition("/")
        if not service or "@" in service:
            raise ConfigError(f"broadcast URL: expected redis+sentinel://host:port,host:port/service; {HOW_TO_ESCAPE}")
    database = options.pop("db", "") or database
    sentinel_password = options.pop("sentinel_password", "") if kind else ""
    number = _database(database)
    return RedisURL(base, kind, hosts, path, username, password, number, service, sentinel_password, options)


def split_url(url: str) -> SplitResult:
    if not isinstance(url, str):
        raise ConfigError(f"broadcast URL: expected text, got {type(url).__name__}")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"broadcast URL: malformed host; {HOW_TO_ESCAPE}") from None
    if parts.fragment:
        raise ConfigError(f"broadcast URL: unexpected #; {HOW_TO_ESCAPE}")
    return parts


def _host(place: str, default_port: int) -> tuple[str, int]:
    # urlsplit, because an IPv6 address has several colons.
    parts = split_url(f"//{place}")
    try:
        port = parts.port
    except ValueError:
        raise ConfigError(f"broadcast URL: expected a port from 0 to 65535 after the host; {HOW_TO_ESCAPE}") from None
    return parts.hostname or "localhost", default_port if port is None else port


def _options(parts: SplitResult) -> dict[str, str]:
    try:
        return dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError:
        raise ConfigError(f"broadcast URL: expected options as in ?name=value&name=value; {HOW_TO_ESCAPE}") from None


def _database(text: str) -> int:
    if text and not (text.isdecimal() and text.isascii()):
        found = f"got {text!r:.40}" if "@" not in text else HOW_TO_ESCAPE
        raise ConfigError(f"broadcast URL: expected the number of a database, as in redis://localhost:6379/0; {found}")
    return int(text or 0)


def _tls_context(options: dict[str, str]) -> ssl.SSLContext:
    verify = options.pop("ssl_cert_reqs", "required")
    if verify not in ("required", "none"):
        raise ConfigError(f"broadcast URL: ssl_cert_reqs is {verify!r}; expected 'required' or 'none'")
    authorities = options.pop("ssl_ca_certs", None)
    certificate, key = options.pop("ssl_certfile", None), options.pop("ssl_keyfile", None)
    try:
        context = ssl.create_default_context(cafile=authorities)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigError(f"broadcast URL: cannot load ssl_ca_certs, ssl_certfile or ssl_keyfile: {error}") from None
    if verify == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _shown(scheme: str, username: str, path: str, hosts: tuple[tuple[str, int], ...], tail: str) -> str:
    name = f"{username}@" if username else ""
    if path:
        return f"{scheme}://{name}{path}"
    places = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
    return f"{scheme}://{name}{places}{f'/{tail}' if tail else ''}"
