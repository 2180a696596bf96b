"""Slow clients, resets midway, and their effect on other clients: D2, D6."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Sequence
from typing import Final

from .clients import REQUEST, Latency, connect, connections, normal_client, read_response, reset, wait_until
from .measuring import Figure, case
from .servers import CaseFailed, Server, Workshop

_CHUNKS: Final = 512 * 1024


def _p99(latency: Latency, bar: float) -> Figure:
    return Figure("p99 of a normal client", latency.p99, "ms", bar, note=str(latency))


def _drip(sockets: Sequence[socket.socket], seconds: float) -> tuple[float, int]:
    """Send a byte a second on each connection; return when the last one was closed, and how many never were."""
    left = set(sockets)
    began = dropped = time.monotonic()
    sent = 0
    text = b"GET / HTTP/1.1\r\nfield: " + b"x" * 100
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            selector.register(sock, selectors.EVENT_READ)
        while left and (now := time.monotonic()) < began + seconds:
            if now >= began + sent:
                _send_byte(left, text[sent : sent + 1])
                sent += 1
            for key, _ in selector.select(max(0, began + sent - now)):
                if _is_closed(key.fileobj):  # type: ignore[arg-type]
                    selector.unregister(key.fileobj)
                    left.discard(key.fileobj)
                    dropped = time.monotonic()
    return dropped - began, len(left)


def _send_byte(sockets: set[socket.socket], byte: bytes) -> None:
    for sock in sockets:
        try:
            sock.send(byte)
        except OSError:
            pass  # has been dropped; reading will tell


def _is_closed(sock: socket.socket) -> bool:
    try:
        return not sock.recv(65536)
    except OSError:
        return True


@case("D2", "500 connections that drip a byte of a header a second", 60)
def slow_heads(workshop: Workshop) -> list[Figure]:
    with workshop.server() as server:
        began = time.monotonic()
        with connections(server.port, 500) as sockets, normal_client(server.port) as latency:
            connecting = time.monotonic() - began
            dropped, left = _drip(sockets, 20)
        if left:
            raise CaseFailed(f"{left} of 500 connections were not dropped")
        return [Figure("all dropped after", dropped + connecting, "s", 15), _p99(latency, 500)]


def _send_chunks(sock: socket.socket, chunks_in_a_piece: int) -> None:
    sock.sendall(b"POST /length HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    piece = b"1\r\nx\r\n" * chunks_in_a_piece
    for _ in range(_CHUNKS // chunks_in_a_piece):
        sock.sendall(piece)
    sock.sendall(b"0\r\n\r\n")


def _tiny_chunks(workshop: Workshop, chunks_in_a_piece: int) -> list[Figure]:
    with workshop.server() as server, connect(server.port, timeout=60) as sock:
        with normal_client(server.port) as latency:
            before = server.cpu_seconds()
            _send_chunks(sock, chunks_in_a_piece)
            status, content = read_response(sock)
            used = server.cpu_seconds() - before
        if (status, content) != (200, str(_CHUNKS).encode()):
            raise CaseFailed(f"expected {_CHUNKS} bytes to be counted, got {status} {content[:50]!r}")
        return [Figure("CPU time", used, "s", 5), _p99(latency, 500)]


@case("D6", "512 K chunks of one byte, as fast as they are taken", 90)
def tiny_chunks_at_once(workshop: Workshop) -> list[Figure]:
    return _tiny_chunks(workshop, _CHUNKS)


@case("D6-drip", "512 K chunks of one byte, each sent alone", 90)
def tiny_chunks_alone(workshop: Workshop) -> list[Figure]:
    return _tiny_chunks(workshop, 1)


def _seconds_until_ended(server: Server, number: int) -> float:
    """Reset the client of the next handler; return the seconds until the handler has ended."""
    sock = connect(server.port)
    sock.sendall(REQUEST % b"/endless")
    for _ in range(20):
        sock.recv(65536)
    at = time.monotonic()
    reset(sock)

    def has_ended() -> bool:
        return server.stdout().count("\n") > number

    if not wait_until(has_ended, 5):
        raise CaseFailed("a handler did not end within 5 seconds")
    return float(server.stdout().split()[-1]) - at


@case("RESET", "20 clients that reset in the middle of an endless response", 60)
def resets(workshop: Workshop) -> list[Figure]:
    with workshop.server() as server, normal_client(server.port) as latency:
        times: list[float] = []
        for number in range(20):
            times.append(_seconds_until_ended(server, number))
            time.sleep(0.1)
    return [Figure("handler ended after, at most", max(times), "s", 1), _p99(latency, 100)]
