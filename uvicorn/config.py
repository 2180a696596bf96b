"""`Config`, which turns keywords into settings, sockets and an interface."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import fields, replace
from socket import socket
from typing import TYPE_CHECKING, Any, Final, Unpack

from uvicorn.errors import ConfigError
from uvicorn.escape import summary
from uvicorn.keywords import (
    ALWAYS_GIVEN,
    FIELDS,
    OTHER_KEYWORDS,
    READ_KEYWORDS,
    SettingOptions,
    addresses_of,
    build_settings,
    log_level_of,
    signature_of,
    takes_nothing,
    workers_of,
)
from uvicorn.logging import LOG_LEVELS, LOGGING_CONFIG, TRACE_LOG_LEVEL, configure_logging, restore_loggers
from uvicorn.other_servers import (
    HTTP_PROTOCOLS,
    INTERFACES,
    LIFESPAN,
    LOOP_FACTORIES,
    PROTOCOL_CLASSES,
    SSL_PROTOCOL_VERSION,
    WS_PROTOCOLS,
    HTTPProtocolType,
    InterfaceType,
    LifespanType,
    LoopFactoryType,
    UvicornDeprecationWarning,
    WSProtocolType,
    checked_context,
    checked_headers,
    create_ssl_context,
    load_environment,
    protocol_class,
    translate,
)
from uvicorn.server import STARTUP_FAILURE
from uvicorn.server.listener import DEFAULT_HOST, DEFAULT_PORT, Address, close_sockets, open_sockets, parse_mode
from uvicorn.server.proxy import DEFAULT_TRUSTED
from uvicorn.settings import WATCH_LOOP_WHEN_RELOADING, Limits

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from pathlib import Path
    from ssl import SSLContext

    from uvicorn.interfaces.base import Interface
    from uvicorn.logging import LogConfig

# Besides Config, names that other programs import from here.
__all__ = [
    "HTTP_PROTOCOLS", "INTERFACES", "LIFESPAN", "LOGGING_CONFIG", "LOG_LEVELS", "LOOP_FACTORIES",
    "SSL_PROTOCOL_VERSION", "STARTUP_FAILURE", "TRACE_LOG_LEVEL", "WS_PROTOCOLS", "Config",
    "HTTPProtocolType", "InterfaceType", "LifespanType", "LoopFactoryType", "WSProtocolType",
    "UvicornDeprecationWarning",
    "create_ssl_context", "logger",
]  # fmt: skip

logger = logging.getLogger("uvicorn.error")

_DEFAULT_ADDRESS: Final = Address(DEFAULT_HOST, DEFAULT_PORT)


class Config:
    """The configuration of `uvicorn.run` and `uvicorn.Server`.

    `app` is an application or 'module:attribute'. Most keywords are options of the command line. Each keyword is also
    an attribute. Programs may set attributes until the server loads the application. Raises ConfigError.
    """

    #: As given, or those of the first TCP address. With port 0 the system chooses a free port.
    host: str
    port: int
    #: The kind of the application: as given, or as detected once it is loaded.
    interface: str

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
        reload_delay: float = 0.25,
        ssl_context_factory: Callable[[Config, Callable[[], SSLContext]], SSLContext] | None = None,
        callback_notify: Callable[[], Awaitable[object]] | None = None,
        timeout_notify: float = 30,
        **settings: Unpack[SettingOptions],
    ) -> None:
        self.app = app
        self.app_dir = app_dir
        self.factory = factory
        if env_file is not None:
            load_environment(env_file)
        if reload and settings.get("watch_loop") is None:
            settings["watch_loop"] = WATCH_LOOP_WHEN_RELOADING
        #: The keywords from which settings and addresses are read, as given.
        self._given: dict[str, Any] = {
            "host": host, "port": port, "uds": uds, "fd": fd, "bind": bind, "http": http, "ws": ws,
            "headers": list(headers or ()), "callback_notify": callback_notify, "timeout_notify": timeout_notify,
            **settings,
        }  # fmt: skip
        self._ssl: SSLContext | None = None
        self._interface_name = ""
        notes = self._read(self._given)
        log_level_of(log_level)
        self.log_level = log_level
        self.log_config = log_config
        self.use_colors = use_colors
        self.workers = 1 if reload else workers_of(workers)
        self.reload = reload
        self.reload_includes = _texts(reload_includes)
        self.reload_excludes = _texts(reload_excludes)
        self.reload_dirs: list[Path] = []
        self.reload_delay = reload_delay
        self.ssl_context_factory = ssl_context_factory
        self.loaded_app: Any = None
        if isinstance(reload_delay, bool) or not isinstance(reload_delay, (int, float)) or not reload_delay > 0:
            raise ConfigError(f"reload_delay: expected a number of seconds above 0, got {reload_delay!r}")
        # Configured here, so that a program can change logging before it starts a server.
        self.configure_logging()
        for note in notes:
            logger.info("%s", note)
        if env_file is not None:
            logger.info("Loading environment from '%s'", env_file)
        if reload and workers is not None and workers > 1:
            logger.warning('"workers" flag is ignored when reloading is enabled.')
        if self.should_reload:
            from uvicorn.server.reloader import reload_folders

            self.reload_dirs = reload_folders(_texts(reload_dirs), self.reload_includes, self.reload_excludes)
            logger.info("Will watch for changes in these directories: %s", list(map(str, self.reload_dirs)))
        elif reload_dirs or reload_includes or reload_excludes:
            logger.warning(
                "Current configuration will not reload as not all conditions are met, please refer to documentation."
            )

    def _read(self, given: dict[str, Any]) -> list[str]:
        if isinstance(given["port"], str) and given["port"].isdecimal():
            # From an environment variable, as in port=os.environ.get("PORT", 8000).
            given = {**given, "port": int(given["port"])}
        values = dict(given)
        host, port, uds, fd, bind, http, ws, headers, callback_notify, timeout_notify = map(values.pop, ALWAYS_GIVEN)
        translated, notes = translate(http, ws, values)
        settings = replace(
            build_settings(translated),
            headers=checked_headers(headers or ()),
            ws=ws not in ("none", None),
            callback_notify=callback_notify,
            timeout_notify=timeout_notify,
        )
        if (host is not None or port is not None) and (uds is not None or fd is not None):
            notes.append(f"host and port have no effect beside {'uds' if fd is None else 'fd'}")
        if uds is not None and fd is not None:
            notes.append("uds has no effect beside fd")
        addresses = addresses_of(host, port, uds, fd, [bind] if isinstance(bind, str) else list(bind or ()))
        parse_mode(settings.uds_mode)
        self.settings = settings
        self.addresses = addresses
        self._given = given
        return notes

    def __getattr__(self, name: str) -> Any:
        if name == "forwarded_allow_ips":
            return self.settings.forwarded_allow_ips or os.environ.get("FORWARDED_ALLOW_IPS") or DEFAULT_TRUSTED
        if name == "interface" and self._interface_name:
            return self._interface_name
        if name in PROTOCOL_CLASSES:
            keyword, classes = PROTOCOL_CLASSES[name]
            return protocol_class(getattr(self, keyword), classes)
        value = self.__dict__.get("_given", {}).get(name)
        if value is None and name in ("host", "port"):
            return next(getattr(each, name) for each in (*self.addresses, _DEFAULT_ADDRESS) if each.is_tcp)
        if value is not None or name in OTHER_KEYWORDS:
            return value
        field = FIELDS.get(name)
        if field is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.settings.limits if field in fields(Limits) else self.settings, field.name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in READ_KEYWORDS:
            if name.startswith("ssl_"):
                self._ssl = None
            self._read({**self._given, name: value})
        else:
            super().__setattr__(name, value)

    def configure_logging(self) -> None:
        """Set up logging from `log_config`, `use_colors`, `log_level` and `access_log`."""
        configure_logging(self.log_config, self.use_colors)
        level = log_level_of(self.log_level)
        if level is not None:
            # Level 0 is that of the parent: the configuration's own level of `uvicorn`.
            for name in ("uvicorn",) * bool(level) + ("uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
                logging.getLogger(name).setLevel(level)
        if not self.settings.access_log:
            # Programs check the handlers to find out whether there is an access log.
            access = logging.getLogger("uvicorn.access")
            access.handlers, access.propagate = [], False

    @property
    def asgi_version(self) -> str:
        """The ASGI version in the scope of an ASGI application."""
        return "2.0" if self.interface == "asgi2" else "3.0"

    @property
    def encoded_headers(self) -> list[tuple[bytes, bytes]]:
        """The header fields added to every response."""
        return list(self.settings.headers)

    @property
    def is_ssl(self) -> bool:
        """Whether https is served."""
        return bool(self.settings.ssl_certfile or self.ssl_context_factory or self._ssl)

    @property
    def ssl(self) -> SSLContext | None:
        """The TLS context, or None if no certificate is configured."""
        self._ssl = self.ssl_context()
        return self._ssl

    @ssl.setter
    def ssl(self, context: SSLContext | None) -> None:
        self._ssl = context

    @property
    def should_reload(self) -> bool:
        """Whether the server restarts when a file changes."""
        return isinstance(self.app, str) and self.reload

    @property
    def use_subprocess(self) -> bool:
        """Whether worker processes serve the application."""
        return bool(self.reload or self.workers > 1)

    @property
    def loaded(self) -> bool:
        """Whether the application has been imported or created."""
        return self.loaded_app is not None

    def load(self) -> Interface:
        """Load the application. Return a new interface."""
        # Imported late: a supervisor does not need it and saves some MiB.
        from uvicorn.interfaces.detect import build_interface

        interface = build_interface(self.load_app(), self.settings, self._source)
        self._interface_name = interface.name
        if self.reload and "DJANGO_SETTINGS_MODULE" in os.environ and "django" in sys.modules:
            from uvicorn.django.static_files import unserved_static_files

            if line := unserved_static_files(self.loaded_app):
                logger.warning("%s", line)
        if self.settings.debug:
            from uvicorn.debugger import debug

            debug(interface, self.addresses, self.workers)
        if logging.getLogger("uvicorn.asgi").isEnabledFor(TRACE_LOG_LEVEL):
            from uvicorn.message_logger import log_messages

            log_messages(interface)
        return interface

    def load_app(self) -> Any:
        """Return the application. The first call imports or creates the application."""
        if self.loaded_app is None:
            app = self._imported(self.app) if isinstance(self.app, str) else self.app
            self.loaded_app = self._made(app, self._source)
            if self.log_config is not None:
                restore_loggers()
        return self.loaded_app

    @property
    def _source(self) -> str:
        return repr(self.app) if isinstance(self.app, str) else "the application"

    def lifespan_class(self, config: Config) -> Interface:
        """Load the application. Return the object that runs its startup and shutdown."""
        return config.load()

    def _imported(self, name: str) -> Any:
        from uvicorn.importer import import_application

        try:
            folder = os.path.abspath(self.app_dir or "")
        except FileNotFoundError:
            raise ConfigError(
                "the current folder has been deleted; change to the folder of the application, or pass --app-dir"
            ) from None
        if not os.path.isdir(folder):
            raise ConfigError(f"app_dir: folder not found: {folder!r}")
        if self.app_dir is None:
            # The modules of the running script take precedence over the current folder.
            if not {folder, ""} & set(sys.path):
                sys.path.append(folder)
        elif sys.path[:1] != [folder]:
            sys.path.insert(0, folder)
        return import_application(name)

    def _made(self, app: Any, source: str) -> Any:
        if not self.factory:
            if not takes_nothing(app):
                return app
            logger.warning(
                "ASGI app factory detected. Using it, but please consider setting the --factory flag explicitly."
            )
        try:
            return app()
        except Exception as error:
            raise ConfigError(
                f"factory: {source} was called without arguments and failed with {summary(error)}; "
                "expected a callable that returns the application"
            ) from error

    def ssl_context(self) -> SSLContext | None:
        """Return the TLS context, or None if no certificate is configured. Raises ConfigError."""
        if self._ssl is not None:
            return self._ssl
        if self.ssl_context_factory is not None:
            return checked_context(self.ssl_context_factory(self, self._own_ssl_context))
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
        """Open listening sockets for each configured address."""
        return open_sockets(self.addresses, self.settings.backlog, parse_mode(self.settings.uds_mode))

    def get_loop_factory(self) -> Callable[[], AbstractEventLoop] | None:
        """Return the loop factory for `asyncio.run`, or None for asyncio's default loop."""
        from uvicorn.server.loops import loop_factory

        if self._given.get("loop") == "none":
            return None
        return loop_factory(self.settings.loop)

    def setup_event_loop(self) -> None:
        """Do nothing. Use `get_loop_factory` instead."""

    def bind_socket(self) -> socket:
        """Return a socket that listens on the first address."""
        [sock, *others] = open_sockets(self.addresses[:1], self.settings.backlog, parse_mode(self.settings.uds_mode))
        close_sockets(others)
        return sock


# Programs look there for the keywords that they may pass on.
Config.__init__.__signature__ = signature_of(Config.__init__, SettingOptions)  # type: ignore[attr-defined]


def _texts(given: Sequence[str | os.PathLike[str]] | str | None) -> list[str]:
    return [given] if isinstance(given, str) else [os.fspath(item) for item in given or ()]
