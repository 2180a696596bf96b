"""Names that programs import from the public release, and what becomes of each here.

`python -m tests.public_names` prints the table of docs/from-uvicorn.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Row:
    """Names of one module; `works` is False if they can be imported, named and subclassed, but not called."""

    module: str
    names: str
    note: str
    works: bool = True


_MESSAGES: Final = (
    "ASGIReceiveEvent ASGISendEvent HTTPDisconnectEvent HTTPRequestEvent HTTPResponseBodyEvent "
    "HTTPResponseDebugEvent HTTPResponseEarlyHintEvent HTTPResponseStartEvent HTTPResponseTrailersEvent "
    "HTTPServerPushEvent LifespanShutdownCompleteEvent LifespanShutdownEvent LifespanShutdownFailedEvent "
    "LifespanStartupCompleteEvent LifespanStartupEvent LifespanStartupFailedEvent WebSocketAcceptEvent "
    "WebSocketCloseEvent WebSocketConnectEvent WebSocketDisconnectEvent WebSocketEvent WebSocketReceiveEvent "
    "WebSocketResponseBodyEvent WebSocketResponseStartEvent WebSocketSendEvent"
)

ROWS: Final = (
    Row("uvicorn", "Config Server main run __version__", "`main` is the command, a `click.Command`"),
    Row(
        "uvicorn.main",
        "Config Server main run ChangeReload Multiprocess LEVEL_CHOICES LIFESPAN_CHOICES INTERFACE_CHOICES "
        "INTERFACES LIFESPAN LOGGING_CONFIG LOG_LEVELS SSL_PROTOCOL_VERSION STARTUP_FAILURE logger",
        "the command calls `run` of this module, so tests may replace it",
    ),
    Row("uvicorn.server", "Server ServerState HANDLED_SIGNALS STARTUP_FAILURE logger", "`ServerState` is read-only"),
    Row(
        "uvicorn.config",
        "Config HTTP_PROTOCOLS WS_PROTOCOLS LIFESPAN LOOP_FACTORIES INTERFACES LOGGING_CONFIG LOG_LEVELS "
        "TRACE_LOG_LEVEL SSL_PROTOCOL_VERSION STARTUP_FAILURE UvicornDeprecationWarning create_ssl_context logger "
        "HTTPProtocolType InterfaceType LifespanType LoopFactoryType WSProtocolType",
        "changes of `LOGGING_CONFIG` take effect; changes of the other tables do not",
    ),
    Row(
        "uvicorn.importer",
        "import_from_string ImportFromStringError",
        "a module alone means its `application` or `app`",
    ),
    Row(
        "uvicorn.logging",
        "ColourizedFormatter DefaultFormatter AccessFormatter TRACE_LOG_LEVEL",
        "with `level_name_colors`, `color_level_name`, `status_code_colours` and `get_status_code` for subclasses",
    ),
    Row("uvicorn.middleware.proxy_headers", "ProxyHeadersMiddleware _TrustedHosts", "on any ASGI server"),
    Row(
        "uvicorn.middleware.wsgi",
        "WSGIMiddleware _WSGIMiddleware build_environ",
        "an `ASGI3Adapter`: content is streamed",
    ),
    Row("uvicorn.middleware.wsgi", "WSGIResponder", "`ASGI3Adapter` answers", works=False),
    Row("uvicorn.middleware.asgi2", "ASGI2Middleware", "on any ASGI server"),
    Row("uvicorn.middleware.message_logger", "MessageLoggerMiddleware message_with_placeholders", "on any ASGI server"),
    Row(
        "uvicorn.supervisors",
        "ChangeReload Multiprocess BaseReload",
        "`(config, target, sockets).run()`; workers are new interpreters, so `config` and `target` are pickled; "
        "with a target they run the main script, as `multiprocessing` does",
    ),
    Row("uvicorn.supervisors.multiprocess", "Multiprocess", "the same class"),
    Row("uvicorn.supervisors.basereload", "BaseReload", "`ChangeReload`; methods of a subclass are not called"),
    Row("uvicorn.supervisors.statreload", "StatReload", "`ChangeReload`, which uses watchfiles if it is installed"),
    Row(
        "uvicorn.supervisors.watchfilesreload", "WatchFilesReload", "`ChangeReload`, which works without watchfiles too"
    ),
    Row(
        "uvicorn.protocols.utils",
        "ClientDisconnected get_client_addr get_local_addr get_path_with_query_string get_remote_addr is_ssl",
        "for scopes and transports of any server",
    ),
    Row("uvicorn.loops.auto", "auto_loop_factory", "returns the function that makes the loop"),
    Row("uvicorn.loops.asyncio", "asyncio_loop_factory", "the same"),
    Row("uvicorn.loops.uvloop", "uvloop_loop_factory", "the same; ConfigError without uvloop"),
    Row("uvicorn.loops.zuvloop", "zuvloop_loop_factory", "the same; ImportError without zuvloop"),
    Row("uvicorn._compat", "asyncio_run", ""),
    Row("uvicorn._subprocess", "get_subprocess subprocess_started spawn", "configuration and target must be picklable"),
    Row(
        "uvicorn._types",
        "ASGI2Application ASGI2Protocol ASGI3Application ASGIApplication ASGIReceiveCallable ASGISendCallable "
        "ASGIVersions Environ ExcInfo HTTPScope LifespanScope Scope StartResponse WSGIApp WWWScope WebSocketScope "
        + _MESSAGES,
        "scopes and messages are dicts with text keys, for type checkers too",
    ),
    Row("uvicorn.workers", "UvicornWorker", "for gunicorn"),
    Row("uvicorn.lifespan.on", "LifespanOn", "`Config.lifespan_class(config)` returns the lifespan", works=False),
    Row("uvicorn.lifespan.off", "LifespanOff", "`lifespan='off'` turns it off", works=False),
    Row("uvicorn.protocols.http.auto", "AutoHTTPProtocol", "there is one HTTP implementation", works=False),
    Row("uvicorn.protocols.http.h11_impl", "H11Protocol RequestResponseCycle", "the same", works=False),
    Row("uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol RequestResponseCycle", "the same", works=False),
    Row("uvicorn.protocols.http.zttp_impl", "ZttpProtocol RequestResponseCycle", "the same", works=False),
    Row(
        "uvicorn.protocols.http.zttp_h2_impl",
        "ZttpH2Protocol RequestResponseCycle",
        "HTTP/2 is not served",
        works=False,
    ),
    Row("uvicorn.protocols.http.auto_zttp_impl", "AutoZttpProtocol", "the same", works=False),
    Row("uvicorn.protocols.http.flow_control", "FlowControl", "settings limit what waits unsent", works=False),
    Row("uvicorn.protocols.http.flow_control", "CLOSE_HEADER HIGH_WATER_LIMIT", "constants"),
    Row("uvicorn.protocols.websockets.auto", "AutoWebSocketsProtocol", "there is one implementation", works=False),
    Row("uvicorn.protocols.websockets.websockets_impl", "WebSocketProtocol", "the same", works=False),
    Row("uvicorn.protocols.websockets.websockets_sansio_impl", "WebSocketsSansIOProtocol", "the same", works=False),
    Row("uvicorn.protocols.websockets.wsproto_impl", "WSProtocol", "the same", works=False),
)


def table() -> str:
    """Return the table of docs/from-uvicorn.md."""
    lines = ["| Module | Names | | Remarks |", "|---|---|---|---|"]
    for row in ROWS:
        # Forty names of messages in a cell hide the others.
        names = ", ".join(f"`{name}`" for name in row.names.replace(" " + _MESSAGES, "").split())
        names += ", and each message" if _MESSAGES in row.names else ""
        lines.append(f"| `{row.module}` | {names} | {'works' if row.works else 'name only'} | {row.note} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201
