"""The keywords of `uvicorn.run` and `Config`, for type checkers."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from ssl import SSLContext

    from uvicorn.logging import LogConfig


class SettingOptions(TypedDict, total=False):
    """The keywords for settings, and keywords that other servers have. None stands for the default."""

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
