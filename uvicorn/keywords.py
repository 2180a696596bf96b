"""The keywords of `Config`, and how settings are built from them."""

from __future__ import annotations

import inspect
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, Final, TypedDict

from uvicorn.errors import ConfigError, UnknownKeywordError
from uvicorn.logging import LOG_LEVELS
from uvicorn.server.listener import DEFAULT_HOST, DEFAULT_PORT, Address, parse_bind
from uvicorn.settings import LOOP_NAMES, Limits, Settings

if TYPE_CHECKING:
    from ssl import SSLContext

    from uvicorn.logging import LogConfig


class SettingOptions(TypedDict, total=False):
    """Keyword arguments of `Config`. None means the default, but turns `ws_ping_interval` off."""

    access_log: bool | None
    backlog: int | None
    date_header: bool | None
    debug: bool | None
    forwarded_allow_ips: Sequence[str] | str | None
    interface: str | None
    lifespan: str | None
    limit_concurrency: int | None
    limit_max_requests: int | None
    limit_max_requests_jitter: int | None
    loop: str | None
    max_chunk_extension_bytes: int | None
    max_chunk_extensions_bytes: int | None
    max_content_bytes: int | None
    max_drain_bytes: int | None
    max_header_bytes: int | None
    max_header_fields: int | None
    max_inline_bytes: int | None
    max_pending_bytes: int | None
    max_request_line_bytes: int | None
    max_unsent_bytes: int | None
    metrics: str | None
    min_content_rate: int | None
    min_response_rate: int | None
    pathsend: bool | None
    proxy_headers: bool | None
    read_buffer_bytes: int | None
    reply_timeout: float | None
    root_path: str | None
    root_path_cut: str | None
    server_header: bool | None
    ssl_ca_certs: str | os.PathLike[str] | None
    ssl_cert_reqs: int | None
    ssl_certfile: str | os.PathLike[str] | None
    ssl_ciphers: str | None
    ssl_handshake_timeout: float | None
    ssl_keyfile: str | os.PathLike[str] | None
    ssl_keyfile_password: str | None
    ssl_version: int | None
    thread_queue: int | None
    threads: int | None
    threads_per_client: int | None
    timeout_content_idle: float | None
    timeout_disconnect: float | None
    timeout_graceful_shutdown: float | None
    timeout_half_closed: float | None
    timeout_header: float | None
    timeout_idle_stream: float | None
    timeout_keep_alive: float | None
    timeout_linger: float | None
    timeout_worker_healthcheck: float | None
    timeout_write_stall: float | None
    uds_mode: str | None
    watch_loop: float | None
    write_buffer_bytes: int | None
    ws_accept_timeout: float | None
    ws_allowed_origins: str | None
    ws_close_timeout: float | None
    ws_handlers: int | None
    ws_implicit_accept: bool | None
    ws_max_fragments: int | None
    ws_max_queue: int | None
    ws_max_size: int | None
    ws_per_message_deflate: bool | None
    ws_ping_interval: float | None
    ws_ping_timeout: float | None
    ws_threads: int | None
    # Of other servers: see uvicorn/other_servers.py.
    h11_max_incomplete_event_size: int | None
    http2: bool
    reset_contextvars: bool


class RunOptions(SettingOptions, total=False):
    """Keywords of `uvicorn.run`."""

    host: str | None
    port: int | None
    uds: str | None
    fd: int | None
    bind: str | Sequence[str] | None
    app_dir: str | None
    log_level: str | int | None
    log_config: LogConfig | None
    use_colors: bool | None
    env_file: str | os.PathLike[str] | None
    factory: bool
    http: str | type
    ws: str | type
    headers: Iterable[tuple[str, str]] | None
    workers: int | None
    reload: bool
    reload_dirs: Sequence[str | os.PathLike[str]] | str | None
    reload_includes: Sequence[str] | str | None
    reload_excludes: Sequence[str] | str | None
    reload_delay: float
    # Its first argument is the Config.
    ssl_context_factory: Callable[[Any, Callable[[], SSLContext]], SSLContext] | None
    callback_notify: Callable[[], Awaitable[object]] | None
    timeout_notify: float


#: The fields of all settings, by keyword.
FIELDS: Final = {
    field.metadata["keyword"] or field.name: field
    for owner in (Settings, Limits)
    for field in fields(owner)
    if field.metadata
}

#: Keywords, other than settings, from which each Config reads its settings and addresses.
ALWAYS_GIVEN: Final = (
    "host", "port", "uds", "fd", "bind", "http", "ws", "headers", "callback_notify", "timeout_notify",
)  # fmt: skip
READ_KEYWORDS: Final = {*ALWAYS_GIVEN, *SettingOptions.__annotations__}
OTHER_KEYWORDS: Final = frozenset(RunOptions.__annotations__) - frozenset(FIELDS)


def build_settings(values: Mapping[str, Any]) -> Settings:
    """Build settings from keywords. None means the default. Raises ConfigError."""
    for name in values:
        if name not in FIELDS:
            import difflib  # Late: only mistakes need it.

            names = {*FIELDS, *OTHER_KEYWORDS}
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected one of {', '.join(sorted(names))}"
            raise UnknownKeywordError(f"unknown setting {name!r}; {hint}")
    chosen = {FIELDS[key].name: _checked(key, FIELDS[key], value) for key, value in values.items() if value is not None}
    limits = {field.name: chosen.pop(field.name) for field in fields(Limits) if field.name in chosen}
    settings = Settings(limits=Limits(**limits), **chosen)
    root_path = settings.root_path
    if settings.loop not in LOOP_NAMES and ":" not in settings.loop:
        raise ConfigError(f"loop: expected one of {', '.join(LOOP_NAMES)}, or 'module:factory', got {settings.loop!r}")
    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise ConfigError(f"root_path: expected a path such as '/api', without a trailing slash, got {root_path!r}")
    if settings.metrics:
        parse_bind(settings.metrics, "metrics")
    return settings


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


def workers_of(number: int | None) -> int:
    """Return the number of worker processes. The default is $WEB_CONCURRENCY, or 1."""
    if number is None:
        text = os.environ.get("WEB_CONCURRENCY", "") or "1"
        if not text.isdecimal():
            raise ConfigError(f"WEB_CONCURRENCY: expected a number of workers, got {text!r}")
        return int(text) or 1
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise ConfigError(f"workers: expected a number, at least 1, got {number!r}")
    return number or 1


def log_level_of(level: str | int | None) -> int | None:
    """Return a log level as a number. Raises ConfigError."""
    if level is None or isinstance(level, int):
        return level
    if level.lower() not in LOG_LEVELS:
        raise ConfigError(f"log level: expected one of {', '.join(LOG_LEVELS)}, got {level!r}")
    return LOG_LEVELS[level.lower()]


def takes_nothing(app: Any) -> bool:
    """Return whether `app` is a plain function or a class without parameters, of unknown interface."""
    is_plain = (inspect.isfunction(app) or inspect.isclass(app)) and not inspect.iscoroutinefunction(app)
    if not is_plain or hasattr(app, "__uvicorn_interface__"):
        return False
    try:
        return not inspect.signature(app).parameters
    except (TypeError, ValueError):
        return False


def addresses_of(
    host: str | None, port: int | None, uds: str | None, fd: int | None, binds: list[str]
) -> tuple[Address, ...]:
    """Return the addresses to listen on. Raises ConfigError."""
    for name, given in (("host", host), ("uds", uds), *(("bind", bind) for bind in binds)):
        if given == "":
            raise ConfigError(f"{name}: expected an address, got an empty string; leave {name} out for the default")
    if fd is not None and fd < 0:
        raise ConfigError(f"fd: expected the number of an inherited socket, got {fd}")
    # As in the public release, fd takes precedence over uds, and both over host and port.
    uds = uds if fd is None else None
    tcp = uds is None and fd is None and (host is not None or port is not None)
    kinds = {"--host and --port": tcp, "--uds": uds is not None, "--fd": fd is not None, "--bind": bool(binds)}
    if sum(kinds.values()) > 1:
        found = " beside ".join(kind for kind, is_given in kinds.items() if is_given)
        raise ConfigError(f"more than one kind of address: expected only one of {', '.join(kinds)}, got {found}")
    if uds is not None:
        return (Address(path=uds),)
    if fd is not None:
        return (Address(descriptor=fd),)
    if binds:
        return tuple(parse_bind(bind) for bind in binds)
    if host is not None and not isinstance(host, str):
        raise ConfigError(f"host: expected a name or an IP address as text, got {host!r:.40}")
    number = DEFAULT_PORT if port is None else port
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 65536:
        raise ConfigError(f"port: expected a number from 0 to 65535, got {port!r}")
    return (Address(DEFAULT_HOST if host is None else host, number),)


def signature_of(function: Callable[..., Any], options: type) -> inspect.Signature:
    """Return the signature of `function`, with `options` in place of `**keywords`."""
    signature = inspect.signature(function)
    named = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    more = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=FIELDS[name].default if name in FIELDS else None,
            annotation=getattr(hint, "__forward_arg__", hint),
        )
        for name, hint in inspect.get_annotations(options).items()
    ]
    return signature.replace(parameters=[*named, *more])
