"""The entries of a Router: `Route` and `Mount`. Both are immutable."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NoReturn

from uvicorn.errors import ConfigError, InterfaceError
from uvicorn.fields import is_token
from uvicorn.interfaces.base import Interface
from uvicorn.interfaces.detect import build_interface
from uvicorn.interfaces.threaded import ThreadedInterface
from uvicorn.settings import Settings

HTTP: Final = "http"
WEBSOCKET: Final = "websocket"

# A name, an IPv4 address, or an IPv6 address in brackets; without port.
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")

# Never in a decoded path, or a sign of a table that is written for another router.
_WRONG: Final = (
    (re.compile(r"[{<]"), "a path has no parameters; write '/prefix/*', and let the application read the rest"),
    (re.compile(r"%"), "paths are compared decoded; write the character itself"),
    (re.compile(r"\?"), "a path has no query; the application reads it"),
    (re.compile(r"[\x00-\x1f\x7f-\x9f]"), "a path has no control characters"),
    (re.compile("[\ufffd\ud800-\udfff]"), "a path is valid Unicode text"),
    (re.compile(r"/\.\.?(/|$)"), "a path has no '.' or '..' segments, which clients resolve"),
)


@dataclass(frozen=True, eq=False, repr=False)
class Entry:
    """An application, and the conditions for requests to this application."""

    path: str
    app: Any
    #: The path without a final `/*`.
    prefix: str
    #: Whether the entry takes no path below `prefix`.
    is_exact: bool = False
    #: In lower case, without port and final dot. None for all hosts.
    host: str | None = None
    protocol: str | None = None
    #: An entry with methods takes no WebSockets. None for all methods.
    methods: frozenset[str] | None = None
    threads: int | None = None
    interface: str = "auto"
    name: str | None = None

    #: Whether the prefix becomes a part of the application's root path.
    moves_root = False
    #: How the kind of the application may be named, for errors.
    keyword = "interface=..."

    def __post_init__(self) -> None:
        if self.threads is not None and (type(self.threads) is not int or self.threads < 1):
            raise ConfigError(f"{self!r}: threads: expected a number not below 1, got {self.threads!r}")
        if self.name is not None and (not isinstance(self.name, str) or not self.name):
            raise ConfigError(f"{self!r}: name: expected text, got {self.name!r}")
        # Built to be checked: a mistake is an error when the module is imported.
        interface = self.build(Settings())
        if self.threads is not None and not isinstance(interface, ThreadedInterface):
            raise ConfigError(f"{self!r}: threads: only WSGI applications and synchronous consumers run on threads")
        if self.threads is not None and adapted(self.app)[1] is not None:
            raise ConfigError(
                f"{self!r}: threads: the ASGIAdapter already sets threads or an executor; remove threads= here"
            )

    def with_app(self, app: Any) -> Entry:
        """Return a copy of this entry with another application."""
        entry = copy(self)
        object.__setattr__(entry, "app", app)
        entry.__post_init__()
        return entry

    def build(self, settings: Settings) -> Interface:
        """Return a new interface for the application. Raises InterfaceError."""
        settings = replace(settings, interface=self.interface, threads=self.threads or settings.threads)
        try:
            return build_interface(self.app, settings, keyword=self.keyword)
        except InterfaceError as error:
            raise InterfaceError(f"{self!r}: {error}") from None

    @property
    def label(self) -> str:
        """The entry's conditions as text, such as "GET,HEAD example.com/shop"."""
        methods = ",".join(sorted(self.methods)) if self.methods is not None else self.protocol or ""
        return f"{methods} {self.host or ''}{self.path}".lstrip()

    def __str__(self) -> str:
        return self.name or self.path

    def __repr__(self) -> str:
        given = [repr(self.path)]
        given += [f"{name}={value!r}" for name in ("host", "protocol") if (value := getattr(self, name)) is not None]
        if self.methods is not None:
            given.append(f"methods={tuple(sorted(self.methods))!r}")
        return f"{type(self).__name__}({', '.join(given)})"


def adapted(app: Any) -> tuple[Any, object]:
    """Return an adapter's application and pool. For any other `app`, return `(app, None)`."""
    parts: tuple[Any, object] = getattr(app, "__uvicorn_adapted__", (app, None))
    return parts


class Unservable:
    """Base class of applications that other servers cannot call."""

    #: Why no other server can call it; see `uvicorn.interfaces.detect`.
    __uvicorn_no_kind__: ClassVar[str]

    def __call__(self, *arguments: Any) -> NoReturn:
        raise InterfaceError(self.__uvicorn_no_kind__)


def mapped(app: Any, wrap: Callable[[Any], Any]) -> Any:
    """Wrap `app`. For a Router, Shift or adapter, wrap the applications inside instead."""
    inside = getattr(app, "mapped", None)
    return inside(wrap) if callable(inside) else wrap(app)


class Route(Entry):
    """`Route("/a/b", app)` matches only this path. `Route("/a/*", app)` matches `/a` and every path below.

    `host`, `protocol` (`"http"` or `"websocket"`) and `methods` restrict the requests. GET includes HEAD. `threads` is
    the size of the entry's own thread pool. `interface` names the kind of application. By default, the kind is
    detected. `name` replaces the path in log lines.

    Raises ConfigError for an invalid argument, and InterfaceError for an unknown kind of application.
    """

    def __init__(
        self,
        path: str,
        app: Any,
        *,
        host: str | None = None,
        protocol: str | None = None,
        methods: Iterable[str] | None = None,
        threads: int | None = None,
        interface: str = "auto",
        name: str | None = None,
    ) -> None:
        where = f"Route({path!r:.200})"
        _check_path(where, path)
        prefix = path.removesuffix("/*")
        if "*" in prefix:
            raise ConfigError(f"{where}: expected '*' only at the end, as in '/prefix/*'")
        host, methods = _checked_host(where, host), _checked_methods(where, protocol, methods)
        super().__init__(path, app, prefix, prefix == path, host, protocol, methods, threads, interface, name)


class Mount(Entry):
    """`Mount("/shop", app)` matches `/shop` and every path below, and adds `/shop` to the root path.

    The keywords are the same as for `Route`.
    """

    moves_root = True

    def __init__(
        self,
        prefix: str,
        app: Any = None,
        *,
        host: str | None = None,
        protocol: str | None = None,
        methods: Iterable[str] | None = None,
        threads: int | None = None,
        interface: str = "auto",
        name: str | None = None,
        routes: object = None,
    ) -> None:
        where = f"Mount({prefix!r:.200})"
        if routes is not None:
            raise ConfigError(
                f"{where}: routes: only Starlette's Mount has this argument; import Mount from Starlette, or write "
                "Mount('/prefix', app)"
            )
        if prefix in ("", "/", "/*"):
            raise ConfigError(
                f"{where}: expected a prefix such as '/shop'; for all paths write Route('/*', app) or default=app"
            )
        _check_path(where, prefix)
        if "*" in prefix:
            raise ConfigError(f"{where}: a Mount takes all paths below its prefix; write the prefix without '*'")
        if prefix.endswith("/"):
            raise ConfigError(
                f"{where}: expected a prefix without a slash at its end; write Mount({prefix.rstrip('/')!r}, app)"
            )
        host, methods = _checked_host(where, host), _checked_methods(where, protocol, methods)
        super().__init__(prefix, app, prefix, False, host, protocol, methods, threads, interface, name)


class Default(Entry):
    """The application for requests that no other entry takes."""

    keyword = "Route('/*', app, interface=...)"

    def __init__(self, app: Any) -> None:
        super().__init__("*", app, "")

    def __str__(self) -> str:
        return ""

    def __repr__(self) -> str:
        return "Router(default=...)"


def _check_path(where: str, path: object) -> None:
    if not isinstance(path, str) or not path.startswith("/"):
        raise ConfigError(f"{where}: expected a path that begins with '/', such as '/search' or '/search/*'")
    for pattern, reason in _WRONG:
        if found := pattern.search(path):
            raise ConfigError(f"{where}: got {found[0]!r}; {reason}")


def _checked_host(where: str, host: object) -> str | None:
    if host is None:
        return None
    text = host.lower().removesuffix(".") if isinstance(host, str) else ""
    if not _HOST.fullmatch(text):
        raise ConfigError(f"{where}: host: expected a name without port and wildcards, got {host!r:.200}")
    return text


def _checked_methods(where: str, protocol: str | None, methods: Iterable[str] | None) -> frozenset[str] | None:
    if protocol not in (None, HTTP, WEBSOCKET):
        raise ConfigError(f"{where}: protocol: expected 'http' or 'websocket', got {protocol!r:.100}")
    if methods is None:
        return None
    names = [] if isinstance(methods, (str, bytes)) or not isinstance(methods, Iterable) else list(methods)
    if not names or not all(
        isinstance(name, str) and is_token(name.encode("utf-8", "replace")) and name == name.upper() for name in names
    ):
        raise ConfigError(f"{where}: methods: expected upper-case names such as ('GET', 'POST'), got {methods!r:.200}")
    if protocol == WEBSOCKET:
        raise ConfigError(f"{where}: methods cannot be combined with protocol='websocket'; remove one of them")
    return frozenset(names) | ({"HEAD"} if "GET" in names else frozenset())
