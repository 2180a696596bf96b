"""Every setting, once: its name, its default with the reason for it, its help text.

The command line, the environment and `uvicorn.Config` are all made from these fields. A field's flag is
its own name with dashes, unless today's users know the setting by another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Groups of `uvicorn --help`, in the order in which they are printed.
ADDRESS = "Where to listen"
APPLICATION = "The application"
LOGGING = "Logging"
LIMITS = "Limits (bytes or counts; 0 means no limit where that is said)"
TIMEOUTS = "Deadlines (seconds)"
WEBSOCKETS = "WebSockets"
TLS = "TLS"
PROXY = "Behind a proxy"
PROCESSES = "Processes"
OTHER = "Other"


def setting(default: Any, group: str, help: str, *, flag: str = "", low: float = 0, **more: Any) -> Any:
    """A dataclass field with what the command line must know: `low` is the least value allowed."""
    return field(default=default, metadata={"group": group, "help": help, "flag": flag, "low": low, **more})


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may use. Protocol code sees only this part of the settings."""

    # 8 KiB: what nginx and gunicorn allow, give or take; longer URLs do not survive most proxies.
    max_request_line_bytes: int = setting(8192, LIMITS, "Longest request line; more is refused with 414.", low=64)
    # 64 KiB: room for many cookies. Trailers count towards it, and towards the number of fields.
    max_header_bytes: int = setting(65536, LIMITS, "Largest header section; more is refused with 431.", low=256)
    # 100: gunicorn's figure, and Apache's. Browsers send about 20.
    max_header_fields: int = setting(100, LIMITS, "Most header fields in a request; more are refused with 431.", low=1)
    # 1 GiB, as waitress has it: content is streamed, so this bounds an application's disk, not our memory.
    max_content_bytes: int = setting(
        1 << 30, LIMITS, "Largest request content; more is refused with 413. 0: no limit.", flag="--max-content-bytes"
    )
    # Nobody is known to use chunk extensions; the figures only keep them from being a place to hide bytes.
    max_chunk_extension_bytes: int = setting(256, LIMITS, "Longest extension of one chunk.")
    max_chunk_extensions_bytes: int = setting(8192, LIMITS, "All chunk extensions of one request together.")


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server behaves. Immutable: what a running server was told does not change under it."""

    limits: Limits = field(default_factory=Limits)
    #: Fields that each response has besides the application's.
    headers: tuple[tuple[bytes, bytes], ...] = ()
    #: Whether websockets are served.
    ws: bool = True

    interface: str = setting(
        "auto",
        APPLICATION,
        "How the application is called; auto looks at its signature.",
        choices=("auto", "channels", "consumer", "wsgi", "asgi3", "asgi2"),
    )
    lifespan: str = setting(
        "auto",
        APPLICATION,
        "Startup and shutdown of ASGI applications; on: one that takes no part in them is not served.",
        choices=("auto", "on", "off"),
    )
    root_path: str = setting("", APPLICATION, "Path under which a proxy has mounted the application.")
    # yes: what a guess takes for the prefix may be the client's own, which gives one page two public paths.
    root_path_cut: str = setting(
        "yes",
        APPLICATION,
        "Whether the proxy cuts the root path off; yes: the path is the root path and what arrives, no: what arrives "
        "is whole, auto: whole if it begins with the root path.",
        choices=("yes", "no", "auto"),
    )
    # Off: middleware that reads or rewrites content does not know the event.
    pathsend: bool = setting(False, APPLICATION, "Offer http.response.pathsend to ASGI applications.")

    loop: str = setting(
        "auto",
        OTHER,
        "Event loop; auto is uvloop where it is installed.",
        choices=("auto", "uvloop", "asyncio"),
    )

    # 1 MiB: the most that the interface's draft puts into a message, and nginx's figure for what a site takes.
    max_inline_bytes: int = setting(
        1 << 20, LIMITS, "Largest request content of a one-argument consumer, which has it whole; 413 above it."
    )

    # 16: as many blocked requests as one process can usefully hold; gunicorn's users choose figures like it.
    threads: int = setting(16, APPLICATION, "Threads that run WSGI applications and plain consumers.", low=1)
    # 1,000: some seconds of work for 16 threads; what would wait longer is better told to come back.
    thread_queue: int = setting(1000, LIMITS, "Requests that wait for a thread; 503 above it.")

    # Off by default: the right number depends on the application. The people of an office share an address, so that
    # requests above it wait instead of being refused.
    threads_per_client: int = setting(
        0, LIMITS, "Most threads that one client's requests take at a time; more of them wait. 0: no limit."
    )

    # A proxy usually runs as another user; the socket's folder says who may reach it.
    uds_mode: str = setting(
        "", ADDRESS, "Permissions of Unix sockets, in octal.  [default: 666, or those that the path has]"
    )

    access_log: bool = setting(True, LOGGING, "One line for each response, on logger uvicorn.access.")
    server_header: bool = setting(True, OTHER, "Send 'server: uvicorn' unless the application sends its own.")
    date_header: bool = setting(True, OTHER, "Send 'date' unless the application sends its own.")

    # 2,048: the accept queue that today's users know; the kernel cuts it to net.core.somaxconn.
    backlog: int = setting(2048, LIMITS, "Connections that the kernel holds until they are accepted.", low=1)
    # Off by default: the right number depends on the application. Above it clients get 503 at once.
    limit_concurrency: int = setting(
        0,
        LIMITS,
        "Most connections, TLS handshakes among them, and most requests, at one time; 503 above it, and the "
        "end before a handshake. 0: no limit.",
    )
    # 64 KiB each way: one receive buffer; beyond it a slow peer costs memory, not speed.
    read_buffer_bytes: int = setting(
        65536, LIMITS, "Unread content, or unserved pipelined requests, above which reading pauses.", low=1
    )
    write_buffer_bytes: int = setting(65536, LIMITS, "Unsent response bytes above which send() waits.", low=1)
    # 4 MiB: what a handler that never awaits send() may pile up for one client before it is cut off.
    max_unsent_bytes: int = setting(
        4 << 20, LIMITS, "Unsent bytes, of sends that nothing awaits, above which a client is cut off.", low=1
    )
    # 64 MiB: a thousand tasks that each await a message of 64 KiB.
    max_pending_bytes: int = setting(
        64 << 20,
        LIMITS,
        "Unsent bytes, of sends that tasks await as well, above which a client is cut off; a single message may be "
        "larger.",
        low=1,
    )
    # Up to here it is cheaper to read and drop what the application left unread than to reconnect.
    max_drain_bytes: int = setting(65536, LIMITS, "Unread request content that is read and dropped after a reply.")

    # 5 s: today's users know this default; long enough for a page's next resource.
    keep_alive_seconds: float = setting(
        5.0, TIMEOUTS, "Idle time after which a kept-alive connection is closed.", flag="--timeout-keep-alive"
    )
    # 10 s from the first byte, or from accept: honest clients need one round trip.
    header_seconds: float = setting(
        10.0, TIMEOUTS, "Time for a whole request head; 408 after it.", flag="--timeout-header", low=0.1
    )
    # 20 s without a byte, or under 500 B/s after 10 s: slower than any modem, faster than any slow-body attack.
    content_idle_seconds: float = setting(
        20.0, TIMEOUTS, "Longest pause within request content; 408 after it.", flag="--timeout-content-idle", low=0.1
    )
    min_content_rate: int = setting(500, LIMITS, "Least bytes per second of request content, after 10 seconds.")
    # Off by default: clients with bad connections are slow too. 500 is a figure for sites without a proxy in front.
    min_response_rate: int = setting(
        0, LIMITS, "Least bytes per second, over a minute, of a response that holds a thread; reset below it. "
        "0: no limit.",
    )  # fmt: skip
    # 60 s: nginx's send_timeout.
    write_stall_seconds: float = setting(
        60.0, TIMEOUTS, "Time a client may take no byte of a response; reset after it.", flag="--timeout-write-stall"
    )
    # 60 s: a handler may hand its reply channel to another task, but not for ever.
    reply_seconds: float = setting(
        60.0, TIMEOUTS, "Time for a reply after the handler has returned without one; 500 after it.",
        flag="--reply-timeout",
    )  # fmt: skip
    # 10 s beside those of a half-closed client: long enough to commit or roll back; gunicorn's ASGI worker gives 3.
    disconnect_seconds: float = setting(
        10.0, TIMEOUTS, "Time a handler may go on once its client has gone; cancelled after it.",
        flag="--timeout-disconnect",
    )  # fmt: skip
    # 5 s: a client that has closed its side is mostly gone. One that waits, such as `nc`, has its answer by then.
    half_closed_seconds: float = setting(
        5.0, TIMEOUTS, "Time a response may go on once its client has closed its side; then it is broken off. 0: none.",
        flag="--timeout-half-closed",
    )  # fmt: skip
    # 2 s: what sends more often is busy, and may be about to end by itself; browsers open another one after 3 s.
    idle_stream_seconds: float = setting(
        2.0, TIMEOUTS, "Silence after which an event stream is ended at shutdown.", flag="--timeout-idle-stream"
    )
    # 30 s: gunicorn's graceful_timeout, and what process managers wait before they kill.
    graceful_seconds: float = setting(
        30.0, TIMEOUTS, "Time for requests in flight to finish at shutdown.", flag="--timeout-graceful-shutdown"
    )
    # 1 s: enough for a client on the other side of the world to have our last bytes.
    linger_seconds: float = setting(
        1.0, TIMEOUTS, "Time unread input is dropped before a refused connection is closed.", flag="--timeout-linger"
    )

    # By default a channels application takes pages of its own host only: browsers send cookies along with any page's.
    ws_allowed_origins: str = setting(
        "",
        WEBSOCKETS,
        "Origins whose pages may open a websocket, as in https://a.example,https://b.example; * means any.  "
        "[default: those of the host that is asked]",
    )
    ws_implicit_accept: bool = setting(
        True, WEBSOCKETS, "Accept a websocket whose connect handler returns without having said so; if not, refuse it."
    )
    # 10 s: as for a request's head; a user has left by then.
    ws_accept_seconds: float = setting(
        10.0, WEBSOCKETS, "Time for the decision about a websocket; refused with 403 after it.",
        flag="--ws-accept-timeout",
    )  # fmt: skip
    # 1 MiB, over all fragments and inflated: what a chat never needs, and a process can hold for many.
    ws_max_size: int = setting(1 << 20, WEBSOCKETS, "Largest message, in bytes; closed with 1009 above it.", low=125)
    # 1,024 fragments of a kilobyte make the largest message; more are a way to keep us busy.
    ws_max_fragments: int = setting(
        1024, WEBSOCKETS, "Most fragments of one message; closed with 1009 above it.", low=1
    )
    ws_per_message_deflate: bool = setting(True, WEBSOCKETS, "Compress messages for clients that offer to (RFC 7692).")
    # 16: enough to overlap what handlers wait for. With 1, messages are handled strictly one after another.
    ws_handlers: int = setting(
        16, WEBSOCKETS, "Messages of one websocket that are handled at a time; reading pauses above it.", low=1
    )
    # 32: today's users know it. A chat's worth of reading behind; what comes then waits with the client.
    ws_max_queue: int = setting(
        32, WEBSOCKETS, "Messages that wait for an ASGI application to receive them; reading pauses above it.", low=1
    )
    # 20 s and 20 s: shorter than the minute after which most proxies forget a silent connection.
    ws_ping_interval: float = setting(20.0, WEBSOCKETS, "Silence after which a client is pinged. 0: never.")
    ws_ping_timeout: float = setting(20.0, WEBSOCKETS, "Time for an answer to it; closed with 1011 after it.", low=0.1)
    # 10 s: one round trip, and a client that first reads what it has been sent.
    ws_close_seconds: float = setting(
        10.0, WEBSOCKETS, "Time for a client's half of the closing handshake.", flag="--ws-close-timeout"
    )

    # The names and meanings of Python's ssl module, which today's users know.
    ssl_certfile: str = setting("", TLS, "Certificate and its chain, in PEM; makes this an https server.")
    ssl_keyfile: str = setting("", TLS, "Its private key, if it is not in the same file.")
    ssl_keyfile_password: str = setting("", TLS, "Password of the key.")
    ssl_ca_certs: str = setting("", TLS, "Authorities whose client certificates are accepted.")
    ssl_cert_reqs: int = setting(0, TLS, "Client certificates: 0 not asked for, 1 optional, 2 required.")
    ssl_ciphers: str = setting("", TLS, "OpenSSL cipher list for TLS 1.2.  [default: OpenSSL's]")
    ssl_version: int = setting(17, TLS, "Version constant of Python's ssl; only 17, TLS 1.2 and later.")
    # 10 s: as for a request's head. Handshakes cost the loop, not the others: they are not awaited one by one.
    ssl_handshake_seconds: float = setting(
        10.0, TLS, "Time for a client's TLS handshake; --timeout-header bounds it too.",
        flag="--ssl-handshake-timeout", low=0.1,
    )  # fmt: skip

    # 30 s: gunicorn's figure. A loop that has been held up for so long serves nobody.
    healthcheck_seconds: float = setting(
        30.0, PROCESSES, "Silence of a worker after which it is killed and replaced.",
        flag="--timeout-worker-healthcheck", low=1,
    )  # fmt: skip

    proxy_headers: bool = setting(
        True, PROXY, "Take client and scheme from X-Forwarded-For and X-Forwarded-Proto of trusted peers."
    )
    forwarded_allow_ips: str = setting(
        "", PROXY, "Trusted peers: addresses, networks, unix:, unix:PATH, * for everybody.  "
        "[default: $FORWARDED_ALLOW_IPS, or 127.0.0.1,::1, and Unix sockets that not everybody may open]",
    )  # fmt: skip

    limit_max_requests: int = setting(
        0, PROCESSES, "Requests and websocket messages after which a process is replaced, or ends if it is the only "
        "one. 0: no limit.",
    )  # fmt: skip
    limit_max_requests_jitter: int = setting(
        0, PROCESSES, "Up to so many more, at random, so that not all are replaced at once."
    )
