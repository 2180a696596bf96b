"""Translates gunicorn's settings to ours. docs/gunicorn.md lists all settings."""

from __future__ import annotations

import os
from typing import Any, Final

from uvicorn.settings import WATCH_LOOP_WHEN_RELOADING

# Replaces gunicorn's 0, which means no limit. 64 KiB is the limit of the whole header section.
_LONGEST_LINE: Final = 65536

# Settings whose defaults deliberately differ from ours: translated only if the user changed them.
_IF_CHANGED: Final = {
    # Above it gunicorn's own workers leave connections in the kernel's queue; this worker answers 503.
    "worker_connections": "limit_concurrency",
    # gunicorn's default is 1, which would leave a single thread for all blocking applications.
    "threads": "threads",
    # gunicorn's defaults, 4,094 bytes and 100 fields, are narrower than ours.
    "limit_request_line": "max_request_line_bytes",
    "limit_request_fields": "max_header_fields",
    "websocket_max_message_size": "ws_max_size",
    "asgi_disconnect_grace_period": "timeout_disconnect",
}

_AS_THEY_ARE: Final = {
    "backlog": "backlog",
    "keepalive": "timeout_keep_alive",
    "asgi_loop": "loop",
    "asgi_lifespan": "lifespan",
    "root_path": "root_path",
}

#: Ignored settings, each with the reason. A warning is logged if the user changed one of them.
IGNORED: Final = {
    "limit_request_field_size": "the header section is limited as a whole, by max_header_bytes",
    "sendfile": "files are always sent by the kernel where possible",
    "tmp_upload_dir": "request content is streamed, never stored",
    "secure_scheme_headers": "the scheme is taken from X-Forwarded-Proto only",
    "forwarder_headers": "the mount path is set by root_path only",
    "proxy_protocol": "the PROXY protocol is not supported; requests that begin with it are rejected",
    "proxy_allow_ips": "the PROXY protocol is not supported",
    **dict.fromkeys(
        "protocol uwsgi_allow_ips http_protocols http2_cleartext http2_max_concurrent_streams "
        "http2_initial_window_size http2_max_frame_size http2_max_header_list_size".split(),
        "only HTTP/1.1 is supported",
    ),
    "http_parser": "there is one parser",
    "ssl_version": "gunicorn ignores it too: TLS 1.2 and later are supported; change this with ssl_context",
    "suppress_ragged_eofs": "a missing close_notify is always accepted",
    "do_handshake_on_connect": "TLS handshakes never block the worker",
    "permit_obsolete_folding": "it permits request smuggling",
    "strip_header_spaces": "it permits request smuggling",
    "permit_unconventional_http_method": "it permits request smuggling",
    "permit_unconventional_http_version": "it permits request smuggling",
    "casefold_http_method": "method names are case-sensitive",
    "header_map": "fields with an underscore in the name are always dropped, as with its default",
}


def ignored_settings(cfg: Any) -> list[str]:
    """Return ignored settings that the user has changed."""
    return [name for name in IGNORED if name in cfg.settings and _is_changed(cfg.settings[name])]


def keywords_of(cfg: Any) -> dict[str, Any]:
    """Return the keywords of `uvicorn.Config` for gunicorn's configuration `cfg`."""
    known = cfg.settings
    keywords = {ours: known[theirs].get() for theirs, ours in _AS_THEY_ARE.items() if theirs in known}
    for theirs, ours in _IF_CHANGED.items():
        if theirs in known and _is_changed(known[theirs]):
            keywords[ours] = known[theirs].get()
    # Peers on a Unix socket are trusted proxies, as in gunicorn.
    keywords["forwarded_allow_ips"] = ",".join([*cfg.forwarded_allow_ips, "unix:"])
    if keywords.get("max_request_line_bytes") == 0:
        keywords["max_request_line_bytes"] = _LONGEST_LINE
    # gunicorn kills the worker after graceful_timeout; the last second is for the application's shutdown.
    keywords["timeout_graceful_shutdown"] = max(cfg.graceful_timeout - 1, cfg.graceful_timeout / 2)
    if cfg.reload:
        keywords["watch_loop"] = WATCH_LOOP_WHEN_RELOADING
    # gunicorn's users mount an application with SCRIPT_NAME in the environment; then the proxy does not cut it off.
    if not keywords.get("root_path") and "SCRIPT_NAME" in os.environ:
        keywords["root_path"] = os.environ["SCRIPT_NAME"]
        keywords["root_path_cut"] = "no"
    keywords["root_path"] = keywords.get("root_path", "").rstrip("/")
    return keywords


def _is_changed(setting: Any) -> bool:
    return bool(setting.get() != type(setting)().get())
