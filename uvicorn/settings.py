"""All settings. Most command-line options, environment variables and keywords are generated from them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

# Groups of `uvicorn --help`, in the order in which they are printed.
ADDRESS = "Where to listen"
APPLICATION = "The application"
PROCESSES = "Processes"
WEBSOCKETS = "WebSockets"
LOGGING = "Logging"
TLS = "TLS"
PROXY = "Behind a proxy"
TIMEOUTS = "Timeouts (seconds)"
LIMITS = "Limits (bytes or counts; 0 means no limit where the text allows it)"
OTHER = "Other"

#: The limit of --watch-loop with --reload. A user notices a delay of half that time.
WATCH_LOOP_WHEN_RELOADING: Final = 0.2

LOOP_NAMES: Final = ("auto", "uvloop", "asyncio")


def setting(default: Any, group: str, help: str, *, keyword: str = "", low: float = 0, **more: Any) -> Any:
    """Return a dataclass field for a setting. `low` is the minimum value."""
    return field(default=default, metadata={"group": group, "help": help, "keyword": keyword, "low": low, **more})


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on what one client may send."""

    # 64 KiB: the limit of uvicorn's releases with httptools. Nothing is allocated for it in advance.
    max_request_line_bytes: int = setting(65536, LIMITS, "Longest request line; 414 above it.", low=64)
    # 64 KiB: room for many cookies. Trailers count towards this limit and towards max_header_fields.
    max_header_bytes: int = setting(65536, LIMITS, "Largest header section; 431 above it.", low=256)
    # 500: no client needs more, and reading so many takes under a millisecond. Browsers send about 20.
    max_header_fields: int = setting(500, LIMITS, "Most header fields in a request; 431 above it.", low=1)
    # 1 GiB, as in waitress: content is streamed, so the limit protects the application's disk, not the server's memory.
    max_content_bytes: int = setting(1 << 30, LIMITS, "Largest request content; 413 above it. 0: no limit.")
    # Clients do not use chunk extensions in practice; without limits an attacker could send unlimited bytes in them.
    max_chunk_extension_bytes: int = setting(256, LIMITS, "Longest extension of one chunk; 400 above it.")
    max_chunk_extensions_bytes: int = setting(8192, LIMITS, "Size of all chunk extensions of a request; 400 above it.")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a server. Immutable."""

    limits: Limits = field(default_factory=Limits)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    #: Whether WebSocket handshakes are served.
    ws: bool = True
    #: Awaited when the server starts and every `timeout_notify` seconds; an exception of it stops the server.
    callback_notify: Callable[[], Awaitable[object]] | None = None
    timeout_notify: float = 30

    interface: str = setting(
        "auto",
        APPLICATION,
        "Interface of the application; auto detects it from the signature.",
        choices=("auto", "channels", "consumer", "wsgi", "asgi3", "asgi2"),
    )
    lifespan: str = setting(
        "auto",
        APPLICATION,
        "Lifespan events of ASGI applications; auto: sent if the application supports them, on: the server exits if it "
        "does not, off: not sent.",
        choices=("auto", "on", "off"),
    )
    root_path: str = setting("", APPLICATION, "Path prefix under which a proxy exposes the application.")
    # yes: with auto, a client could request each page under two paths, with the prefix and without it.
    root_path_cut: str = setting(
        "yes",
        APPLICATION,
        "Whether the proxy strips the root path from the request path; auto: stripped unless the path begins with the "
        "root path.",
        choices=("yes", "no", "auto"),
    )
    # Off by default: it shows source code, and a user with its PIN can run code.
    debug: bool = setting(False, APPLICATION, "Show WSGI exceptions in werkzeug's debugger; for development.")
    # Off by default: middleware that reads or rewrites content does not handle the event.
    pathsend: bool = setting(False, APPLICATION, "Offer http.response.pathsend to ASGI applications.")

    loop: str = setting("auto", OTHER, "uvloop, asyncio or MODULE:FACTORY; auto: uvloop if installed, else asyncio.")

    # 1 MiB: the limit in the interface's draft, and nginx's default for request content.
    max_inline_bytes: int = setting(1 << 20, LIMITS, "Largest request content of a consumer; 413 above it.")

    # 16: more blocked threads than this rarely help one process; gunicorn's users choose similar figures.
    threads: int = setting(16, APPLICATION, "Threads that run WSGI applications and synchronous consumers.", low=1)
    # 1,000: some seconds of work for 16 threads; a request that would wait longer is better rejected and retried.
    thread_queue: int = setting(1000, LIMITS, "Most requests that wait for a thread; 503 above it.")

    # Off by default: the right number depends on the application. Many users may share one address, so requests above
    # the limit wait and are not rejected.
    threads_per_client: int = setting(
        0, LIMITS, "Most threads that one client's requests use at a time; further requests wait. 0: no limit."
    )

    # A proxy usually runs as another user; the permissions of the socket's folder control access.
    uds_mode: str = setting("", ADDRESS, "Permissions of Unix sockets, in octal.  [default: those of the path, or 666]")

    access_log: bool = setting(True, LOGGING, "Log one line for each response, on the logger uvicorn.access.")
    # Off by default: it is for developers.
    watch_loop_seconds: float = setting(
        0.0, LOGGING, "Log which line of the application blocks the event loop for about this long. 0: never.  "
        "[default: 0.2 with --reload, otherwise 0]",
        keyword="watch_loop", with_reload=WATCH_LOOP_WHEN_RELOADING,
    )  # fmt: skip
    server_header: bool = setting(True, OTHER, "Send 'server: uvicorn' unless the application sends its own.")
    date_header: bool = setting(True, OTHER, "Send 'date' unless the application sends its own.")

    # 2,048: the usual default of other servers; the kernel caps it at net.core.somaxconn.
    backlog: int = setting(2048, LIMITS, "Length of the kernel's queue of connections not yet accepted.", low=1)
    # Off by default: the right number depends on the application.
    limit_concurrency: int = setting(
        0,
        LIMITS,
        "Most concurrent connections, including TLS handshakes, and most concurrent requests; 503 above it, or the "
        "connection is closed before its TLS handshake. 0: no limit.",
    )
    # 64 KiB each way: one receive buffer; a larger one costs memory for slow peers and gains no speed.
    read_buffer_bytes: int = setting(65536, LIMITS, "Bytes of unread input above which reading pauses.", low=1)
    write_buffer_bytes: int = setting(65536, LIMITS, "Unsent response bytes above which send() waits.", low=1)
    # 4 MiB: bounds what a handler that never awaits send() buffers for one client.
    max_unsent_bytes: int = setting(
        4 << 20, LIMITS, "Most unsent bytes of sends that are not awaited; above it the connection is aborted.", low=1
    )
    # 64 MiB: a thousand tasks that each await a message of 64 KiB.
    max_pending_bytes: int = setting(
        64 << 20,
        LIMITS,
        "Most unsent bytes, including those of awaited sends; above it the connection is aborted. A single message may "
        "be larger.",
        low=1,
    )
    # Up to this size reading and discarding unread content is cheaper than a new connection.
    max_drain_bytes: int = setting(
        65536, LIMITS, "Most unread request content that is discarded after a response to keep the connection alive."
    )

    # 5 s: the usual default of other servers; long enough for a page's next resource.
    keep_alive_seconds: float = setting(
        5.0, TIMEOUTS, "Idle time after which a kept-alive connection is closed.", keyword="timeout_keep_alive"
    )
    # 10 s from accept or from the first byte: a well-behaved client needs one round trip.
    header_seconds: float = setting(
        10.0, TIMEOUTS, "Time to receive a complete request head; 408 after it.", keyword="timeout_header", low=0.1
    )
    # 20 s without a byte, or under 500 B/s after 10 s: slower than any modem, faster than a slow-body attack.
    content_idle_seconds: float = setting(
        20.0, TIMEOUTS, "Longest pause in the request content; 408 after it.", keyword="timeout_content_idle", low=0.1
    )
    min_content_rate: int = setting(
        500, LIMITS, "Minimum rate of the request content in bytes per second, after 10 seconds; 408 below it."
    )
    # Off by default: clients on bad networks are slow too. 500 suits sites without a proxy in front.
    min_response_rate: int = setting(
        0, LIMITS, "Minimum rate, in bytes per second over a minute, of a response that occupies a thread; below it "
        "the connection is reset. 0: no limit.",
    )  # fmt: skip
    # 60 s: nginx's send_timeout.
    write_stall_seconds: float = setting(
        60.0, TIMEOUTS, "Longest pause in a client's reading; connection reset after it.", keyword="timeout_write_stall"
    )
    # 60 s: a handler may pass its reply channel to another task and return, but the client must not wait for ever.
    reply_seconds: float = setting(
        60.0, TIMEOUTS, "Time for a reply after the handler returned without one; 500 after it.",
        keyword="reply_timeout",
    )  # fmt: skip
    # 10 s, after those of a half-closed client: long enough to commit or roll back; gunicorn's ASGI worker gives 3.
    disconnect_seconds: float = setting(
        10.0, TIMEOUTS, "Time a handler may continue after its client disconnected; it is cancelled after it.",
        keyword="timeout_disconnect",
    )  # fmt: skip
    # 5 s: most half-closed clients have left. One that still reads, such as `nc`, has its response by then.
    half_closed_seconds: float = setting(
        5.0, TIMEOUTS, "Time a response may continue after its client half-closed the connection; then it is aborted. "
        "0: immediately.",
        keyword="timeout_half_closed",
    )  # fmt: skip
    # 2 s: a stream that sends more often is busy and may end by itself; browsers reconnect after 3 s.
    idle_stream_seconds: float = setting(
        2.0, TIMEOUTS, "Idle time after which an event stream is ended during shutdown.", keyword="timeout_idle_stream"
    )
    # 30 s: gunicorn's graceful_timeout, and how long process managers usually wait before they kill.
    graceful_seconds: float = setting(
        30.0, TIMEOUTS, "Time for requests in flight to finish at shutdown.", keyword="timeout_graceful_shutdown"
    )
    # 1 s: enough for a distant client to receive the last bytes of the response.
    linger_seconds: float = setting(
        1.0, TIMEOUTS, "Time to discard input before closing after a rejected request.", keyword="timeout_linger"
    )

    # The default for channels applications is same-origin: browsers send cookies with the handshake of any page.
    ws_allowed_origins: str = setting(
        "",
        WEBSOCKETS,
        "Origins that may open a WebSocket, such as https://a.example,https://b.example; * allows any.  "
        "[default: the origin of the requested host]",
    )
    ws_implicit_accept: bool = setting(
        True, WEBSOCKETS, "Accept a WebSocket whose connect handler returns without a decision; otherwise 403."
    )
    # 10 s: as for a request head; by then a user has left.
    ws_accept_seconds: float = setting(
        10.0, WEBSOCKETS, "Time for the application to accept or reject a handshake; rejected with 403 after it.",
        keyword="ws_accept_timeout",
    )  # fmt: skip
    # 16 MiB, over all fragments and after inflation: the usual default of other servers.
    ws_max_size: int = setting(16 << 20, WEBSOCKETS, "Largest message in bytes; closed with 1009 above it.", low=125)
    # 16,384 fragments of 1 KiB make the largest message; smaller fragments only cost CPU time.
    ws_max_fragments: int = setting(16384, WEBSOCKETS, "Most fragments of a message; closed with 1009 above it.", low=1)
    ws_per_message_deflate: bool = setting(
        True, WEBSOCKETS, "Compress messages if the client can inflate them (RFC 7692)."
    )
    # 16: enough to overlap the handlers' I/O. With 1, messages are handled strictly in order.
    ws_handlers: int = setting(16, WEBSOCKETS, "Messages of a WebSocket handled at a time; then reading pauses.", low=1)
    # 32: the usual default of other servers. Further messages wait in the socket buffers.
    ws_max_queue: int = setting(
        32, WEBSOCKETS, "Most messages that wait for receive() of an ASGI application; reading pauses above it.", low=1
    )
    # 200: with simple-websocket these are 400 threads, 816 descriptors and 72 MB; the usual limit is 1,024 descriptors.
    ws_threads: int = setting(
        200,
        WEBSOCKETS,
        "Most threads of WSGI applications that serve WebSockets; 503 above it. 0: they have no WebSockets.",
    )
    # 20 s and 20 s: shorter than the minute after which most proxies close an idle connection.
    ws_ping_interval: float = setting(20.0, WEBSOCKETS, "Idle time after which the client is pinged. 0: never.")
    ws_ping_timeout: float = setting(20.0, WEBSOCKETS, "Time for the pong; closed with 1011 after it.", low=0.1)
    # 10 s: one round trip, plus time for the client to read the messages sent before.
    ws_close_seconds: float = setting(
        10.0, WEBSOCKETS, "Time for the client's close frame in the closing handshake.", keyword="ws_close_timeout"
    )

    # Names and meanings as in Python's ssl module and in other servers.
    ssl_certfile: str = setting("", TLS, "Certificate chain in PEM; enables https.")
    ssl_keyfile: str = setting("", TLS, "Private key in PEM, if it is not in the certificate file.")
    ssl_keyfile_password: str = setting("", TLS, "Password of the private key.")
    ssl_ca_certs: str = setting("", TLS, "Certificate authorities, in PEM, of client certificates.")
    ssl_cert_reqs: int = setting(0, TLS, "Client certificates: 0 none, 1 optional, 2 required.")
    ssl_ciphers: str = setting("", TLS, "OpenSSL cipher list for TLS 1.2.  [default: OpenSSL's]")
    ssl_version: int = setting(17, TLS, "Protocol constant of Python's ssl; only 17 (TLS 1.2 and later) is supported.")
    # 10 s: as for a request head. Handshakes run concurrently, so a slow one does not delay the others.
    ssl_handshake_seconds: float = setting(
        10.0, TLS, "Time for a client's TLS handshake; --timeout-header applies as well.",
        keyword="ssl_handshake_timeout", low=0.1,
    )  # fmt: skip

    # Off by default: it opens a port. Counting costs each request a quarter of a microsecond.
    metrics: str = setting(
        "", LOGGING, "Address, such as 127.0.0.1:9100, at which /metrics has metrics for Prometheus.  [default: none]"
    )

    # 30 s: gunicorn's default. An event loop that is blocked for that long serves no client.
    healthcheck_seconds: float = setting(
        30.0, PROCESSES, "Time without a heartbeat from a worker after which it is killed and replaced.",
        keyword="timeout_worker_healthcheck", low=1,
    )  # fmt: skip

    proxy_headers: bool = setting(True, PROXY, "Apply X-Forwarded-For and X-Forwarded-Proto of trusted peers.")
    forwarded_allow_ips: str = setting(
        "", PROXY, "Trusted peers: addresses, networks, unix:, unix:PATH, or * for all.  "
        "[default: $FORWARDED_ALLOW_IPS, or 127.0.0.1,::1 and Unix sockets that are not open to all users]",
    )  # fmt: skip

    limit_max_requests: int = setting(
        0, PROCESSES, "Requests and WebSocket messages after which a worker is replaced; a single process exits. "
        "0: no limit.",
    )  # fmt: skip
    limit_max_requests_jitter: int = setting(
        0, PROCESSES, "Most requests added to the limit at random, so that workers are not replaced together."
    )
