"""What is not as in the public release, each with its reason. A row that no longer holds fails a test."""

from __future__ import annotations

from typing import Final

#: Keywords of `Config`: the value of the public release if they are left out, ours, and the reason.
KEYWORDS: Final = {
    "timeout_graceful_shutdown": (None, 30.0, "a stop has an end: open streams would delay it forever"),
    "timeout_worker_healthcheck": (5, 30.0, "a worker that is busy for 5 s, such as with a large import, is not stuck"),
}

#: Flags: which of `spellings`, `kind`, `choices` and `multiple` differs, and the reason.
FLAGS: Final = {
    "workers": ({"spellings"}, "-w besides, as gunicorn has it"),
    "interface": ({"choices"}, "channels and consumer besides"),
}

_HTTP: Final = "part of an implementation of HTTP; this server has its own"
_WEBSOCKETS: Final = "part of an implementation of WebSockets; this server has its own"
_LIFESPAN: Final = "part of the implementation of lifespan"
_RELOAD: Final = "part of the reloader; `Config.reload_dirs` has the folders"
_INTERNAL: Final = "a helper of the module that nothing public is made of"

#: Names that modules define there and that cannot be imported from ours.
NAMES: Final = {
    "uvicorn._ansi": {"style": _INTERNAL},
    "uvicorn.config": {"is_dir": _RELOAD, "resolve_reload_patterns": _RELOAD},
    "uvicorn.lifespan.on": {
        "LifespanReceiveMessage": _LIFESPAN,
        "LifespanSendMessage": _LIFESPAN,
        "STATE_TRANSITION_ERROR": _LIFESPAN,
    },
    "uvicorn.main": {"print_version": _INTERNAL},
    "uvicorn.middleware.message_logger": {"PLACEHOLDER_FORMAT": _INTERNAL},
    "uvicorn.protocols.http.auto_zttp_impl": {"HTTP2_PREFACE": _HTTP},
    "uvicorn.protocols.http.flow_control": {"service_unavailable": _HTTP},
    "uvicorn.protocols.http.h11_impl": {"STATUS_PHRASES": _HTTP},
    "uvicorn.protocols.http.httptools_impl": {"HEADER_RE": _HTTP, "HEADER_VALUE_RE": _HTTP, "STATUS_LINE": _HTTP},
    "uvicorn.protocols.http.zttp_h2_impl": {"FORBIDDEN_HEADERS": _HTTP},
    "uvicorn.protocols.websockets.websockets_impl": {"Server": _WEBSOCKETS},
    "uvicorn.protocols.websockets.websockets_sansio_impl": {"STATUS_PHRASES": _WEBSOCKETS},
    "uvicorn.protocols.websockets.wsproto_impl": {"FrameTooLargeError": _WEBSOCKETS, "WebsocketBuffer": _WEBSOCKETS},
    "uvicorn.server": {"Protocols": "the union of the protocol classes"},
    "uvicorn.supervisors.basereload": {"HANDLED_SIGNALS": "`uvicorn.server` has it", "logger": _RELOAD},
    "uvicorn.supervisors.multiprocess": {
        "Process": "workers are new interpreters, which the supervisor starts itself",
        "SIGNALS": "part of the supervisor",
        "logger": "the logger is `uvicorn.error`",
    },
    "uvicorn.supervisors.statreload": {"logger": _RELOAD},
    "uvicorn.supervisors.watchfilesreload": {"FileFilter": _RELOAD},
}

_REQUEST: Final = "the line names the request, and what was expected: `<GET '/'>: the application returned ...`"
_CLIENT: Final = "the line names the client and the mistake: `127.0.0.1:50000 refused: ... (400)`"
_ERROR: Final = "one line on stderr, `uvicorn: ...`, and exit code 2"
_ACCESS: Final = 'the access log has the handshake as a request: `"GET /ws HTTP/1.1" 101`'

#: Log lines, a star in place of each value, that ours does not have.
LINES: Final = {
    '* - "WebSocket *" *': _ACCESS,
    '* - "WebSocket *" 403': _ACCESS,
    '* - "WebSocket *" [accepted]': _ACCESS,
    "* [*] Raised exception": "with the type of the exception behind it",
    "*HTTP/2 connection lost": "HTTP/2 is not served",
    "*HTTP/2 connection made": "HTTP/2 is not served",
    "*WebSocket keepalive ping timeout": "not logged; the connection is closed with 1011",
    "--reload-include and --reload-exclude have no effect unless watchfiles is installed.": "they have an effect",
    "ASGI callable returned without completing handshake.": _REQUEST,
    "ASGI callable returned without completing response.": _REQUEST,
    "ASGI callable returned without sending handshake.": _REQUEST,
    "ASGI callable returned without starting response.": _REQUEST,
    "ASGI callable should return None, but returned '*'.": "what an application returns is ignored",
    "Cancel * running task(s), timeout graceful shutdown exceeded": "`aborted 2 requests after 30 seconds`",
    "Child process [*] failed to start, stopping the parent process.": "`the first worker ...`, with the reason",
    "Error loading ASGI app factory: *": _ERROR,
    "Error loading ASGI app. *": _ERROR,
    "Error loading custom loop setup function. *": _ERROR,
    "Exceeded concurrency limit.": "a client could fill the log; the access log has the 503",
    "Exception in 'lifespan' protocol": "`lifespan: the application failed; ...`, or the failed startup",
    "Exception in ASGI application": "behind the request: `<GET '/'>: Exception in ASGI application`",
    "Invalid HTTP request received.": _CLIENT,
    "Invalid HTTP/2 frame received: *": "HTTP/2 is not served",
    "Invalid UTF-8 sequence received from client.": _CLIENT,
    "New child process [*] was not ready in time; keeping worker [*] and aborting the restart.": (
        "`replacement worker * ...; the old workers continue`"
    ),
    "No supported WebSocket library detected. Please use \"pip install 'uvicorn[standard]'\", or install 'websockets' "
    "or 'wsproto' manually.": "WebSockets need no other package",
    "Received signal *, but no handler is defined for it.": "a debug line about other signals, which are not handled",
    "Unsupported upgrade request.": "an unknown upgrade is ignored, as RFC 9110 has it",
    "You must pass the application as an import string to enable 'reload' or 'workers'.": _ERROR,
}


def tables() -> str:
    """Return the tables of docs/from-uvicorn.md."""
    lines = ["| Keyword | There | Here | Why |", "|---|---|---|---|"]
    for name, (theirs, ours, why) in KEYWORDS.items():
        lines.append(f"| `{name}` | {theirs} | {ours:g} | {why} |")
    lines += ["", "| Log line of the public release | Here |", "|---|---|"]
    lines += [f"| `{line}` | {here} |" for line, here in LINES.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(tables(), end="")  # noqa: T201
