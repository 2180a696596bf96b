"""What gunicorn has been told, as settings of ours; docs/gunicorn.md has all of it in a table."""

from __future__ import annotations

import os
from typing import Any, Final

# gunicorn's figure for no limit is 0; there is always one here. 64 KiB: what all of the headers may have.
_LONGEST_LINE: Final = 65536

# Settings whose defaults differ from ours for a reason: they count if somebody has changed them.
_IF_CHANGED: Final = {
    # Above it gunicorn's own workers leave clients in the kernel's queue, which costs nothing. Here it is 503.
    "worker_connections": "limit_concurrency",
    # One thread is what gunicorn takes for granted; here it would be the only one for applications that block.
    "threads": "threads",
    "websocket_max_message_size": "ws_max_size",
    "asgi_disconnect_grace_period": "timeout_disconnect",
}

_AS_THEY_ARE: Final = {
    "backlog": "backlog",
    "keepalive": "timeout_keep_alive",
    "limit_request_line": "max_request_line_bytes",
    "limit_request_fields": "max_header_fields",
    "asgi_loop": "loop",
    "asgi_lifespan": "lifespan",
    "root_path": "root_path",
}

#: What is not honoured, and why. Who sets one of these is told.
NOT_HONOURED: Final = {
    "limit_request_field_size": "the header section is limited as a whole, by max_header_bytes",
    "sendfile": "the kernel sends files wherever that is possible",
    "tmp_upload_dir": "request content is streamed, never stored",
    "secure_scheme_headers": "X-Forwarded-Proto is what a proxy says the scheme with",
    "forwarder_headers": "where the application is mounted is for root_path to say",
    "proxy_protocol": "the PROXY protocol is not spoken, and a request that begins with it is refused",
    "proxy_allow_ips": "the PROXY protocol is not spoken",
    "protocol": "HTTP/1.1 is what is spoken",
    "uwsgi_allow_ips": "HTTP/1.1 is what is spoken",
    "http_protocols": "HTTP/1.1 is what is spoken",
    "http2_cleartext": "HTTP/1.1 is what is spoken",
    "http2_max_concurrent_streams": "HTTP/1.1 is what is spoken",
    "http2_initial_window_size": "HTTP/1.1 is what is spoken",
    "http2_max_frame_size": "HTTP/1.1 is what is spoken",
    "http2_max_header_list_size": "HTTP/1.1 is what is spoken",
    "http_parser": "there is one parser",
    "ssl_version": "gunicorn ignores it too: TLS 1.2 and later are spoken; ssl_context can change that",
    "suppress_ragged_eofs": "a connection that ends without a close_notify has ended",
    "do_handshake_on_connect": "handshakes never block",
    "permit_obsolete_folding": "what it permits is how requests are smuggled",
    "strip_header_spaces": "what it permits is how requests are smuggled",
    "permit_unconventional_http_method": "what it permits is how requests are smuggled",
    "permit_unconventional_http_version": "what it permits is how requests are smuggled",
    "casefold_http_method": "a method is what the client says that it is",
    "header_map": "fields with an underscore never reach environ, as with its default",
}


def not_honoured(cfg: Any) -> list[str]:
    """The names of settings that somebody has changed in vain."""
    return [name for name in NOT_HONOURED if name in cfg.settings and _is_changed(cfg.settings[name])]


def keywords_of(cfg: Any) -> dict[str, Any]:
    """Keywords of `uvicorn.Config` for a gunicorn configuration; older ones lack some settings."""
    known = cfg.settings
    keywords = {ours: known[theirs].get() for theirs, ours in _AS_THEY_ARE.items() if theirs in known}
    for theirs, ours in _IF_CHANGED.items():
        if theirs in known and _is_changed(known[theirs]):
            keywords[ours] = known[theirs].get()
    # As gunicorn has it, who can reach a Unix socket is a proxy.
    keywords["forwarded_allow_ips"] = ",".join([*cfg.forwarded_allow_ips, "unix:"])
    if not keywords["max_request_line_bytes"]:
        keywords["max_request_line_bytes"] = _LONGEST_LINE
    # gunicorn kills whoever is still there when the time is up; the last second is for the application's shutdown.
    keywords["timeout_graceful_shutdown"] = max(cfg.graceful_timeout - 1, cfg.graceful_timeout / 2)
    # SCRIPT_NAME in the environment is how gunicorn's users mount an application.
    if not keywords.get("root_path"):
        # With it, the path arrives whole.
        keywords["root_path_cut"] = "no"
    keywords["root_path"] = (keywords.get("root_path") or os.environ.get("SCRIPT_NAME", "")).rstrip("/")
    return keywords


def _is_changed(setting: Any) -> bool:
    return bool(setting.get() != type(setting)().get())
