"""The memory that WebSocket clients can make the server use, and their ends: E4, E6, E7, E8, E9, IDLE-WS."""

from __future__ import annotations

import socket
import struct
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Final

from .clients import normal_client, push, reset, wait_until
from .measuring import MIB, Figure, case, growth
from .servers import CaseFailed, Server, Workshop
from .websocket_apps import FLOOD_MESSAGES, HEARTBEATS, MANY_EACH, MANY_TASKS, MUCH_TASKS
from .websocket_clients import (
    BINARY,
    CLOSE,
    COMPRESSED_BINARY,
    DEFLATE,
    PING,
    TEXT,
    echo,
    frame,
    open_websocket,
    read_close_code,
    read_frames,
)

_CLIENTS: Final = 8

# Small enough that most of what is owed to a client that does not read is in the server, not in the kernel.
_RECEIVE_BYTES: Final = 65536

# `--ws-max-size`, as it is by default.
_LIMIT: Final = 16 * MIB


@contextmanager
def _server(workshop: Workshop, *options: str, app: str = "serve") -> Iterator[Server]:
    """Start a server that has served one WebSocket, so that its lazy imports are done."""
    with workshop.server(app, *options, module="websocket_app") as server:
        with open_websocket(server.port, b"/") as sock:
            echo(sock)
        server.mark_idle()
        yield server


def _bomb() -> bytes:
    """Return a megabyte that inflates to a message of a gigabyte of zeros."""
    compressor = zlib.compressobj(9, wbits=-12)
    # Each piece begins anew, so that all of them are the same.
    piece = compressor.compress(bytes(16 * MIB)) + compressor.flush(zlib.Z_FULL_FLUSH)
    payload = piece * 64
    return frame(COMPRESSED_BINARY, payload[:-4])


@case("E4", "a message of 1 MB that inflates to 1 GB, ten times", 120)
def bomb(workshop: Workshop) -> list[Figure]:
    data = _bomb()
    codes: list[int] = []
    with _server(workshop) as server:
        before = server.cpu_seconds()
        for _ in range(10):
            with open_websocket(server.port, b"/", DEFLATE) as sock:
                try:
                    sock.sendall(data)
                except ConnectionError:
                    pass  # it has heard enough
                codes.append(read_close_code(sock))
        used = (server.cpu_seconds() - before) / 10
        note = f"{len(data) / 1e6:.2f} MB; close codes {dict(Counter(codes))}"
        return [
            Figure("not closed with 1009", 10 - codes.count(1009), "count", 0, bar_may_be_met=True),
            growth(server, 2 * _LIMIT / MIB, note=note),
            Figure("CPU time of each", used, "s", 0.5),
        ]


def _flood(workshop: Workshop, path: bytes, piece: bytes) -> list[Figure]:
    """Have clients send `piece` endlessly, and read nothing; measure memory, and the latency of another client."""
    with _server(workshop) as server, ExitStack() as stack:
        sockets = [
            stack.enter_context(open_websocket(server.port, path, receive_bytes=_RECEIVE_BYTES))
            for _ in range(_CLIENTS)
        ]
        with normal_client(server.port, "/") as latency:
            sent = push(sockets, piece, 5)
        return [
            growth(server, 8, note=f"{sent / MIB:.0f} MiB were taken in 5 s; {latency}"),
            Figure("p99 of another's echo", latency.p99, "ms", 500),
        ]


@case("E6", "8 clients that flood pings and read no pong", 60)
def ping_flood(workshop: Workshop) -> list[Figure]:
    return _flood(workshop, b"/", frame(PING, b"x" * 125) * 500)


@case("E8-quick", "8 clients that flood an application that is done with each message at once", 60)
def quick_flood(workshop: Workshop) -> list[Figure]:
    return _flood(workshop, b"/drop", frame(TEXT, b"x") * 9000)


def _unread_flood(server: Server, path: bytes, start: Callable[[], None]) -> list[Figure]:
    with ExitStack() as stack:
        for _ in range(_CLIENTS):
            stack.enter_context(open_websocket(server.port, path, receive_bytes=_RECEIVE_BYTES))
        with normal_client(server.port, "/") as latency:
            start()
            time.sleep(5)
    return [
        growth(server, 32),
        Figure("p99 of another's echo", latency.p99, "ms", 100, note=str(latency)),
        Figure("echoes of another that failed", latency.failures, "count", 0, bar_may_be_met=True),
    ]


@case("E7", f"8 clients that never read while their handlers send {FLOOD_MESSAGES} messages of 10 KB to each", 60)
def unread_floods(workshop: Workshop) -> list[Figure]:
    with _server(workshop) as server:
        return _unread_flood(server, b"/flood", lambda: None)


@case("E7-others", f"8 clients that never read while another's handler sends {FLOOD_MESSAGES} messages to each", 60)
def unread_floods_by_another(workshop: Workshop) -> list[Figure]:
    with _server(workshop) as server, open_websocket(server.port, b"/speak") as speaker:

        def start() -> None:
            speaker.sendall(frame(TEXT, b"go"))
            if next(read_frames(speaker), None) != (TEXT, b"done"):
                raise CaseFailed("the sender was held up")

        return _unread_flood(server, b"/listen", start)


def _pausing_client(workshop: Workshop, path: bytes, count: int) -> list[Figure]:
    """Have tasks await `count` sends to a client that pauses for two seconds; count the messages it misses."""
    figures = []
    for app in ("serve", "serve_asgi3"):
        with _server(workshop, app=app) as server:
            with open_websocket(server.port, path, receive_bytes=_RECEIVE_BYTES) as sock:
                sock.sendall(frame(TEXT, b"go"))
                time.sleep(2)
                heard = [payload for first, payload in islice(read_frames(sock), count) if first == BINARY]
            parts: dict[bytes, list[int]] = {}
            for sender, part, _ in (payload.split(b" ", 2) for payload in heard if b" " in payload[:20]):
                parts.setdefault(sender, []).append(int(part))
            disordered = sum(of_one != sorted(of_one) for of_one in parts.values())
            figures += [
                Figure(f"messages lost, {app}", count - len(heard), "count", 0, bar_may_be_met=True),
                Figure(f"senders out of order, {app}", disordered, "count", 0, bar_may_be_met=True),
            ]
    return figures


@case("E7-many", f"a client that pauses 2 s while {MANY_TASKS} tasks each await {MANY_EACH} sends of 8 KB", 60)
def many_senders(workshop: Workshop) -> list[Figure]:
    return _pausing_client(workshop, b"/many", MANY_TASKS * MANY_EACH)


@case("E7-large", f"a client that pauses 2 s before 24 MiB and {HEARTBEATS} heartbeats of another task", 60)
def large_message(workshop: Workshop) -> list[Figure]:
    return _pausing_client(workshop, b"/large", 1 + HEARTBEATS)


@case("E7-much", f"a client that never reads while {MUCH_TASKS} tasks each await a send of 1 MiB", 60)
def much_awaited(workshop: Workshop) -> list[Figure]:
    figures = []
    for app in ("serve", "serve_asgi3"):
        with _server(workshop, app=app) as server:
            with open_websocket(server.port, b"/much", receive_bytes=_RECEIVE_BYTES) as sock:
                sock.sendall(frame(TEXT, b"go"))
                time.sleep(2)
                code = read_close_code(sock)
            figures += [
                # 64 MiB, which asyncio before Python 3.12 has in one buffer that it makes larger, and a message or two.
                growth(server, 112, f"RSS growth, {app}"),
                Figure(f"not closed with 1013, {app}", int(code != 1013), "count", 0, bar_may_be_met=True),
            ]
    return figures


def _receive_flood(workshop: Workshop, app: str) -> list[Figure]:
    # 16 messages of 1 KB that were handed over, and what one read has brought behind them, 128 KiB, make 15 MiB.
    piece = frame(BINARY, b"x" * 1000) * 64
    with _server(workshop, app=app) as server, ExitStack() as stack:
        sockets = [stack.enter_context(open_websocket(server.port, b"/stuck")) for _ in range(100)]
        for sock in sockets:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
        sent = push(sockets, piece, 6)
        return [growth(server, 24, note=f"{sent / MIB:.0f} MiB were sent in 6 s")]


@case("E8", "100 clients that flood an application that gets no message done", 60)
def receive_flood(workshop: Workshop) -> list[Figure]:
    return _receive_flood(workshop, "serve")


@case("E8-asgi3", "100 clients that flood an ASGI application that does not receive", 60)
def receive_flood_of_asgi3(workshop: Workshop) -> list[Figure]:
    return _receive_flood(workshop, "serve_asgi3")


def _say(text: bytes) -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(frame(TEXT, text))


def _send(data: bytes) -> Callable[[socket.socket], None]:
    return lambda sock: sock.sendall(data)


def _close(sock: socket.socket) -> None:
    sock.sendall(frame(CLOSE, struct.pack("!H", 1000)))


# What a client does; what is left of it stays open and silent.
_ENDINGS: Final[dict[str, tuple[Callable[[socket.socket], None], ...]]] = {
    "close": (_close,),
    "close without a code": (_send(frame(CLOSE)),),
    "end without a close": (lambda sock: sock.shutdown(socket.SHUT_WR),),
    "reset": (reset,),
    "close, reset": (_close, reset),
    "reset while a handler runs": (_say(b"wait"), reset),
    "close while a handler runs": (_say(b"wait"), _close),
    "frame without a mask": (_send(b"\x81\x01x"),),
    "message over the limit": (_send(frame(BINARY, bytes(_LIMIT + 1))),),
    "the application closes, answered": (_say(b"close"), _close),
    "the application closes, not answered": (_say(b"close"),),
    "the application closes, reset": (_say(b"close"), reset),
    "the handler fails, close": (_say(b"fail"), _close),
    "the handler fails, reset": (_say(b"fail"), reset),
    "no answer to pings": (),
}
_TIMES: Final = 10


@case("E9", f"{len(_ENDINGS)} ways to end, {_TIMES} connections each, and a shutdown under as many", 60)
def disconnects(workshop: Workshop) -> list[Figure]:
    options = ("--ws-ping-interval=2", "--ws-ping-timeout=1", "--ws-close-timeout=1", "--timeout-disconnect=1")
    ended = len(_ENDINGS) * _TIMES
    with _server(workshop, *options) as server, ExitStack() as stack:
        # A failing handler is logged, and what is told about the others depends on the order of events.
        server.tracebacks_allowed = 2 * _TIMES
        for ending in _ENDINGS.values():
            for _ in range(_TIMES):
                sock = stack.enter_context(open_websocket(server.port, b"/ends"))
                for act in ending:
                    act(sock)
        wait_until(lambda: server.stdout().count("disconnect ") >= ended, 20)
        early = server.stdout().count("disconnect ")
        for _ in range(_TIMES):
            stack.enter_context(open_websocket(server.port, b"/ends"))
        server.terminate(20)
        told = Counter(tuple(line.split()) for line in server.stdout().splitlines())
        accepted = [name for what, name in told if what == "connect"]
        wrong = sum(told["disconnect", name] != 1 for name in accepted)
        note = f"{len(accepted)} connections, {early} of {ended} ended before the shutdown"
        return [
            Figure("connections without exactly one disconnect", wrong, "count", 0, bar_may_be_met=True, note=note),
            Figure("connections that did not end", ended - early, "count", 0, bar_may_be_met=True),
            Figure("connections not seen", ended + _TIMES - len(accepted), "count", 0, bar_may_be_met=True),
        ]


@case("E9-refused", "20 clients that send all of a message of 8 MB, which is over the limit, before they read", 60)
def refused_messages(workshop: Workshop) -> list[Figure]:
    data = frame(BINARY, bytes(8_000_000))
    codes: Counter[int] = Counter()
    with _server(workshop) as server:
        for _ in range(20):
            with open_websocket(server.port, b"/drop") as sock:
                try:
                    sock.sendall(data)
                    codes[read_close_code(sock)] += 1
                except ConnectionError:
                    codes[1006] += 1
        note = f"close codes {dict(codes)}"
        return [
            Figure("clients that did not read 1009", 20 - codes[1009], "count", 0, bar_may_be_met=True, note=note),
            growth(server, 8),
        ]


def _idle(workshop: Workshop, fields: bytes = b"", app: str = "serve") -> list[Figure]:
    # Some descriptors are the process's own.
    count = min(10_000, workshop.descriptors - 100)
    if count < 1000:
        raise CaseFailed(f"descriptors are limited to {workshop.descriptors}; raise the limit (ulimit -Hn)")
    with _server(workshop, "--ws-ping-interval", "0", app=app) as server, ExitStack() as stack:
        before = server.descriptors()
        for _ in range(count):
            echo(stack.enter_context(open_websocket(server.port, b"/", fields)))
        time.sleep(2.5)
        kept = server.descriptors() - before
        if kept != count:
            raise CaseFailed(f"{kept} of {count} connections are open")
        return [Figure("RSS per connection", server.growth() / count / 1024, "KiB", 16, note=f"{count} connections")]


@case("IDLE-WS", "10,000 idle websockets, each of which has had an echo, without compression", 180)
def idle_websockets(workshop: Workshop) -> list[Figure]:
    return _idle(workshop)


@case("IDLE-WS-deflate", "the same with compression agreed on, and only short messages so far", 180)
def idle_websockets_with_compression(workshop: Workshop) -> list[Figure]:
    return _idle(workshop, DEFLATE)


@case("IDLE-WS-asgi3", "the same with an ASGI application, whose call lasts as long as the connection", 180)
def idle_websockets_of_asgi3(workshop: Workshop) -> list[Figure]:
    return _idle(workshop, app="serve_asgi3")
