"""The memory that clients can make the server use: D1, D4, D5, D7, D11."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

from .clients import REQUEST, connect, connections, get, offer, push, read_response, sip
from .measuring import MIB, Figure, case, growth
from .servers import CaseFailed, Server, Workshop

_PIECE: Final = b"x" * 65536

# Seconds for which a transfer is held up. What would pile up does so within the first of them.
_STUCK_SECONDS: Final = 6.0

# Small enough that most of what is owed to a client that does not read is in the server, not in the kernel.
_RECEIVE_BYTES: Final = 65536


def _refused(server: Server, total: int, start: bytes, piece: bytes) -> int:
    """Send `total` bytes on successive connections; return how many connections did not end with 431."""
    left, accepted = total, 0
    while left > 0:
        with connect(server.port) as sock:
            sent, answer = offer(sock, start, itertools.repeat(piece))
        if not answer.startswith(b"HTTP/1.1 431 "):
            accepted += 1
        left -= max(sent, 1)
    return accepted


def _refusal_figures(server: Server, accepted: int) -> list[Figure]:
    get(server.port)
    return [
        Figure("connections without a 431", accepted, "count", 0, bar_may_be_met=True),
        growth(server, 1),
    ]


@case("D1a", "64 MB of an endless header field, anew whenever it is refused", 120)
def endless_field(workshop: Workshop) -> list[Figure]:
    with workshop.server() as server:
        server.mark_idle()
        accepted = _refused(server, 64_000_000, b"GET / HTTP/1.1\r\nhost: x\r\nfield: ", _PIECE)
        return _refusal_figures(server, accepted)


@case("D1b", "20 MB of endless trailers: one endless field, and many small ones", 120)
def endless_trailers(workshop: Workshop) -> list[Figure]:
    start = b"POST /length HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    with workshop.server() as server:
        server.mark_idle()
        accepted = _refused(server, 10_000_000, start + b"field: ", _PIECE)
        accepted += _refused(server, 10_000_000, start, b"field: value\r\n" * 4096)
        return _refusal_figures(server, accepted)


def _slow_readers(server: Server) -> list[Figure]:
    server.mark_idle()
    with connections(server.port, 8, _RECEIVE_BYTES) as sockets:
        for sock in sockets:
            sock.sendall(REQUEST % b"/large")
        received = sip(sockets, 4 * MIB, _STUCK_SECONDS)
        note = f"{received / MIB:.0f} MiB were read in {_STUCK_SECONDS:g} s"
        return [growth(server, 32, note=note)]


@case("D4", "8 x 200 MB response in chunks of 64 KiB, read slowly", 60)
def slow_readers_of_a_stream(workshop: Workshop) -> list[Figure]:
    with workshop.server() as server:
        return _slow_readers(server)


@case("D4-whole", "8 x 200 MB response in one message, of content that the application holds, read slowly", 60)
def slow_readers_of_one_content(workshop: Workshop) -> list[Figure]:
    with workshop.server("serve_whole") as server:
        return _slow_readers(server)


def _uploads(workshop: Workshop, path: str, count: int, length: int, bar: float) -> list[Figure]:
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n".encode()
    with workshop.server() as server:
        server.mark_idle()
        with connections(server.port, count) as sockets:
            for sock in sockets:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
                sock.sendall(head)
            sent = push(sockets, _PIECE, _STUCK_SECONDS)
            return [growth(server, bar, note=f"{sent / MIB:.0f} MiB were sent in {_STUCK_SECONDS:g} s")]


@case("D5a", "8 x 200 MB upload that the application reads slowly", 60)
def slowly_read_uploads(workshop: Workshop) -> list[Figure]:
    return _uploads(workshop, "/slow-upload", 8, 200_000_000, 32)


@case("D5b", "100 x 1 GB upload that the application does not read", 60)
def unread_uploads(workshop: Workshop) -> list[Figure]:
    return _uploads(workshop, "/unread", 100, 1_000_000_000, 16)


@case("D7", "30,000 pipelined GETs of 1,000 bytes, on a connection that never reads", 60)
def pipelining_flood(workshop: Workshop) -> list[Figure]:
    # Unbounded, it would hold 34 MB. 4 MiB: what is unsent may grow by the answers to one read buffer of requests.
    with workshop.server() as server:
        get(server.port, b"/kilobyte")
        server.mark_idle()
        with connect(server.port, _RECEIVE_BYTES) as sock:
            sent = _push_once(sock, REQUEST % b"/kilobyte" * 30_000, 5)
            before = server.cpu_seconds()
            quiet = server.await_quiet(20)
            used = server.cpu_seconds() - before
            note = f"{sent} bytes of requests were taken; {used:.1f} s of CPU time after it"
            return [growth(server, 4, note=note if quiet else note + ", and more to come")]


def _push_once(sock: socket.socket, data: bytes, seconds: float) -> int:
    """Send as much of `data` as the server reads in time."""
    sock.settimeout(0.5)
    view, deadline = memoryview(data), time.monotonic() + seconds
    while view and time.monotonic() < deadline:
        try:
            view = view[sock.send(view) :]
        except TimeoutError:
            pass
    return len(data) - len(view)


def _served(server: Server, count: int) -> Iterator[socket.socket]:
    for _ in range(count):
        sock = connect(server.port)
        sock.sendall(REQUEST % b"/")
        read_response(sock)
        yield sock


@case("D11", "10,000 idle connections, each of which has had a response", 120)
def idle_connections(workshop: Workshop) -> list[Figure]:
    # Some descriptors are the process's own.
    count = min(10_000, workshop.descriptors - 100)
    if count < 1000:
        raise CaseFailed(f"descriptors are limited to {workshop.descriptors}; raise the limit (ulimit -Hn)")
    with workshop.server("serve", "--timeout-keep-alive", "600") as server, ExitStack() as stack:
        server.mark_idle()
        before = server.descriptors()
        for sock in _served(server, count):
            stack.enter_context(sock)
        time.sleep(2.5)
        kept = server.descriptors() - before
        if kept != count:
            raise CaseFailed(f"{kept} of {count} connections are open")
        return [Figure("RSS per connection", server.growth() / count / 1024, "KiB", 8, note=f"{count} connections")]
