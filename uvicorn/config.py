"""Configuration: turns keywords into settings, sockets and an interface."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import Field, fields, replace
from socket import socket
from typing import TYPE_CHECKING, Any

from uvicorn.errors import ConfigError
from uvicorn.logging import LOG_LEVELS, LOGGING_CONFIG, TRACE_LOG_LEVEL, configure_logging, restore_loggers
from uvicorn.other_servers import (
    HTTP_PROTOCOLS,
    INTERFACES,
    LIFESPAN,
    LOOP_FACTORIES,
    SSL_PROTOCOL_VERSION,
    WS_PROTOCOLS,
    UvicornDeprecationWarning,
    checked_headers,
    create_ssl_context,
    load_environment,
    translate,
)
from uvicorn.server import STARTUP_FAILURE
from uvicorn.server.listener import (
    DEFAULT_HOST,
    DEFAULT_PORT,
    Address,
    close_sockets,
    open_sockets,
    parse_bind,
    parse_mode,
)
from uvicorn.settings import LOOP_NAMES, Limits, Settings

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from ssl import SSLContext

    from uvicorn.interfaces.base import Interface
    from uvicorn.logging import LogConfig

# Besides Config, names that other programs import from here.
__all__ = [
    "HTTP_PROTOCOLS", "INTERFACES", "LIFESPAN", "LOGGING_CONFIG", "LOG_LEVELS", "LOOP_FACTORIES",
    "SSL_PROTOCOL_VERSION", "STARTUP_FAILURE", "TRACE_LOG_LEVEL", "WS_PROTOCOLS", "Config", "UvicornDeprecationWarning",
    "create_ssl_context", "logger",
]  # fmt: skip

logger = logging.getLogger("uvicorn.error")


def keyword(field: Field[Any]) -> str:
    """Return the keyword of a setting; its flag and its environment variable are derived from it."""
    flag: str = field.metadata["flag"]
    return flag.removeprefix("--").replace("-", "_") or field.name


def setting_fields() -> Iterable[Field[Any]]:
    """Return the fields of all settings."""
    for owner in (Settings, Limits):
        yield from (field for field in fields(owner) if field.metadata)


def build_settings(values: Mapping[str, Any]) -> Settings:
    """Build settings from keywords; missing keywords and None mean the default.

    Raises ConfigError for an unknown keyword or an invalid value.
    """
    known = {keyword(field): field for field in setting_fields()}
    for name in values:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(sorted(known))}"
            raise ConfigError(f"unknown setting {name!r}; {hint}")
    chosen = {
        known[name].name: _checked(name, known[name], value) for name, value in values.items() if value is not None
    }
    limits = {name: chosen.pop(name) for name in [field.name for field in fields(Limits)] if name in chosen}
    settings = Settings(limits=Limits(**limits), **chosen)
    root_path = settings.root_path
    if settings.loop not in LOOP_NAMES and ":" not in settings.loop:
        raise ConfigError(f"loop: expected one of {', '.join(LOOP_NAMES)}, or 'module:factory', got {settings.loop!r}")
    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise ConfigError(f"root_path: expected a path such as '/api', without a trailing slash, got {root_path!r}")
    return settings


class Config:
    """The configuration of `uvicorn.run` and `uvicorn.Server`.

    `app` is an application, or 'module:attribute'. Where to listen is `bind` (one address or several, in the syntax
    of --bind), or else `uds`, `fd`, or `host` and `port`. Other keywords are those of the command line.

    Raises ConfigError for any invalid setting.
    """

    def __init__(
        self,
        app: Callable[..., Any] | str,
        host: str | None = None,
        port: int | None = None,
        uds: str | None = None,
        fd: int | None = None,
        *,
        bind: str | Sequence[str] | None = None,
        app_dir: str | None = None,
        log_level: str | int | None = None,
        log_config: LogConfig | None = LOGGING_CONFIG,
        use_colors: bool | None = None,
        env_file: str | os.PathLike[str] | None = None,
        factory: bool = False,
        http: str | type = "auto",
        ws: str | type = "auto",
        headers: Iterable[tuple[str, str]] | None = None,
        workers: int | None = None,
        reload: bool = False,
        reload_dirs: Sequence[str | os.PathLike[str]] | str | None = None,
        reload_includes: Sequence[str] | str | None = None,
        reload_excludes: Sequence[str] | str | None = None,
        reload_delay: float = 0.3,
        ssl_context_factory: Callable[[Config, Callable[[], SSLContext]], SSLContext] | None = None,
        callback_notify: Callable[[], Awaitable[object]] | None = None,
        timeout_notify: float = 30,
        **settings: Any,
    ) -> None:
        self.app = app
        self.app_dir = app_dir
        self.factory = factory
        if env_file is not None:
            load_environment(env_file)
        translated, notes = translate(http, ws, settings)
        self.settings = replace(
            build_settings(translated),
            headers=checked_headers(headers or ()),
            ws=ws != "none",
            callback_notify=callback_notify,
            timeout_notify=timeout_notify,
        )
        if (host is not None or port is not None) and (uds is not None or fd is not None):
            notes.append(f"host and port have no effect beside {'fd' if uds is None else 'uds'}")
        self.addresses = _addresses(host, port, uds, fd, [bind] if isinstance(bind, str) else list(bind or ()))
        self._uds_mode = parse_mode(self.settings.uds_mode)
        self.log_level = _log_level(log_level)
        self.log_config = log_config
        self.use_colors = use_colors
        self.workers = 1 if reload else _workers(workers)
        self.reload = reload
        self.reload_dirs = _texts(reload_dirs)
        self.reload_includes = _texts(reload_includes)
        self.reload_excludes = _texts(reload_excludes)
        self.reload_delay = reload_delay
        self.ssl_context_factory = ssl_context_factory
        #: The application, once it has been imported or created.
        self.loaded_app: Any = None
        for folder in self.reload_dirs:
            if not os.path.isdir(folder):
                raise ConfigError(f"reload_dirs: folder not found: {os.path.abspath(folder)!r}")
        if isinstance(reload_delay, bool) or not isinstance(reload_delay, (int, float)) or not reload_delay > 0:
            raise ConfigError(f"reload_delay: expected a number of seconds above 0, got {reload_delay!r}")
        if reload and workers is not None and workers > 1:
            raise ConfigError("reload and workers cannot be combined; use one of them")
        # Configured here, so that a program can change logging before it starts a server.
        self.configure_logging()
        for note in notes:
            logger.info("%s", note)

    def configure_logging(self) -> None:
        """Set up the loggers named `uvicorn`; do nothing if `log_config` is None."""
        configure_logging(self.log_config, self.use_colors)
        if self.log_level is not None:
            for name in ("uvicorn", "uvicorn.access"):
                logging.getLogger(name).setLevel(self.log_level)

    @property
    def host(self) -> str:
        """The host of the first TCP address, as given: a name or an IP address."""
        return next((address.host for address in self.addresses if address.is_tcp), DEFAULT_HOST)

    @property
    def port(self) -> int:
        """The port of the first TCP address; 0 means a free one."""
        return next((address.port for address in self.addresses if address.is_tcp), DEFAULT_PORT)

    @property
    def is_ssl(self) -> bool:
        """Whether https is served."""
        return bool(self.settings.ssl_certfile or self.ssl_context_factory)

    @property
    def loaded(self) -> bool:
        """Whether the application has been imported or created."""
        return self.loaded_app is not None

    def load(self) -> Interface:
        """Import the application, unless it is loaded, and build its interface."""
        # Imported late: a supervisor does not need it and saves some MiB.
        from uvicorn.interfaces.detect import build_interface

        source = repr(self.app) if isinstance(self.app, str) else "the application"
        if self.loaded_app is None:
            self.loaded_app = self._made(self._imported(self.app) if isinstance(self.app, str) else self.app, source)
            if self.log_config is not None:
                restore_loggers()
        return build_interface(self.loaded_app, self.settings, source)

    def lifespan_class(self, config: Config) -> Interface:
        """Return `Server.lifespan` for programs that call `Server.startup` themselves; the name is other servers'."""
        return config.load()

    def _imported(self, name: str) -> Any:
        from uvicorn.importer import import_from_string

        folder = os.path.abspath(self.app_dir or "")
        if not os.path.isdir(folder):
            raise ConfigError(f"app_dir: folder not found: {folder!r}")
        if self.app_dir is None:
            # The modules of the running script take precedence over the current folder.
            if not {folder, ""} & set(sys.path):
                sys.path.append(folder)
        elif sys.path[:1] != [folder]:
            sys.path.insert(0, folder)
        return import_from_string(name)

    def _made(self, app: Any, source: str) -> Any:
        """Return `app`, or what it returns if it is a factory."""
        if not self.factory:
            return app
        try:
            return app()
        except Exception as error:
            raise ConfigError(
                f"factory: {source} was called without arguments and failed with {type(error).__name__}: {error}; "
                "expected a callable that returns the application"
            ) from error

    def ssl_context(self) -> SSLContext | None:
        """Return the TLS context, or None without a certificate. Raise ConfigError for an unusable certificate.

        `ssl_context_factory` is called with this configuration and a function that returns the default context.
        """
        if self.ssl_context_factory is not None:
            return self.ssl_context_factory(self, self._own_ssl_context)
        if not (self.settings.ssl_certfile or self.settings.ssl_keyfile or self.settings.ssl_ca_certs):
            return None
        return self._own_ssl_context()

    def _own_ssl_context(self) -> SSLContext:
        from uvicorn.server.tls import build_ssl_context

        context = build_ssl_context(self.settings)
        if context is None:
            raise ConfigError("ssl_context_factory: the default context needs ssl_certfile; pass ssl_certfile as well")
        return context

    def open_sockets(self) -> list[socket]:
        """Listen on every address."""
        return open_sockets(self.addresses, self.settings.backlog, self._uds_mode)

    def get_loop_factory(self) -> Callable[[], AbstractEventLoop]:
        """Return the loop factory for `asyncio.run`."""
        from uvicorn.server.loops import loop_factory

        return loop_factory(self.settings.loop)

    def bind_socket(self) -> socket:
        """Listen on the first address, for `Server.serve(sockets=[config.bind_socket()])`."""
        [sock, *others] = open_sockets(self.addresses[:1], self.settings.backlog, self._uds_mode)
        close_sockets(others)
        return sock


def _addresses(
    host: str | None, port: int | None, uds: str | None, fd: int | None, binds: list[str]
) -> tuple[Address, ...]:
    for name, given in (("host", host), ("uds", uds), *(("bind", bind) for bind in binds)):
        if given == "":
            raise ConfigError(f"{name}: expected an address, got an empty string; leave it out for the default")
    if fd is not None and fd < 0:
        raise ConfigError(f"fd: expected the number of an inherited socket, got {fd}")
    # Other servers take a host and a port beside these, and prefer these.
    tcp = uds is None and fd is None and (host is not None or port is not None)
    if sum((tcp, uds is not None, fd is not None, bool(binds))) > 1:
        raise ConfigError(
            "more than one way to say where to listen; expected --bind, --uds, --fd, or --host and --port"
        )
    if uds is not None:
        return (Address(path=uds),)
    if fd is not None:
        return (Address(descriptor=fd),)
    if binds:
        return tuple(parse_bind(bind) for bind in binds)
    number = DEFAULT_PORT if port is None else port
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 65536:
        raise ConfigError(f"port: expected a number from 0 to 65535, got {port!r}")
    return (Address(DEFAULT_HOST if host is None else host, number),)


def _workers(number: int | None) -> int:
    """Return the number of worker processes: as given, or from WEB_CONCURRENCY, or 1."""
    if number is None:
        text = os.environ.get("WEB_CONCURRENCY", "") or "1"
        if not text.isdecimal() or not int(text):
            raise ConfigError(f"WEB_CONCURRENCY: expected a number of workers, at least 1, got {text!r}")
        return int(text)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ConfigError(f"workers: expected a number, at least 1, got {number!r}")
    return number


def _texts(given: Sequence[str | os.PathLike[str]] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else [os.fspath(item) for item in given or ()]


def _log_level(level: str | int | None) -> int | None:
    if level is None or isinstance(level, int):
        return level
    if level.lower() not in LOG_LEVELS:
        raise ConfigError(f"log level: expected one of {', '.join(LOG_LEVELS)}, got {level!r}")
    return LOG_LEVELS[level.lower()]


def _checked(name: str, field: Field[Any], value: Any) -> Any:
    default = field.default
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise ConfigError(f"{name}: expected True or False, got {value!r}")
    if isinstance(default, str):
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        choices = field.metadata.get("choices")
        if isinstance(value, str) and (choices is None or value in choices):
            return value
        raise ConfigError(f"{name}: expected {'one of ' + ', '.join(choices) if choices else 'text'}, got {value!r}")
    kind = float if isinstance(default, float) else int
    if isinstance(value, bool) or not isinstance(value, (int, kind)) or not value >= field.metadata["low"]:
        raise ConfigError(f"{name}: expected a number not below {field.metadata['low']:g}, got {value!r}")
    return value
