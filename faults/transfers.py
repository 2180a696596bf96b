"""Memory during large transfers through adapters, in both directions: MEM."""

from __future__ import annotations

import itertools
import socket

from .clients import connect
from .measuring import MIB, Figure, case, growth
from .servers import CaseFailed, Server, Workshop

_PIECE = b"x" * 65536

# More than the buffers of any part may be: what grows with the content would be far beyond.
_BAR_MIB = 32


def _upload(server: Server, size: int) -> None:
    head = f"POST /length HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {size}\r\n\r\n"
    with connect(server.port, timeout=60) as sock:
        sock.sendall(head.encode())
        for piece in itertools.repeat(_PIECE, size // len(_PIECE)):
            sock.sendall(piece)
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    if not answer.endswith(b"\r\n\r\n%d" % size):
        raise CaseFailed(f"upload: expected {size} bytes to be counted, got {answer[-100:]!r}")


def _download(server: Server, size: int) -> None:
    with connect(server.port, timeout=60) as sock:
        sock.sendall(f"GET /download?{size} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(65536)
        received = len(head.partition(b"\r\n\r\n")[2]) + _rest(sock)
    if received != size:
        raise CaseFailed(f"download: expected {size} bytes, got {received}")


def _rest(sock: socket.socket) -> int:
    buffer = bytearray(1 << 18)
    received = 0
    while count := sock.recv_into(buffer):
        received += count
    return received


def _transfers(server: Server, mebibytes: int) -> list[Figure]:
    figures = []
    for name, transfer in (("upload", _upload), ("download", _download)):
        # What is made lazily, on the first request of its kind, is not the content's.
        transfer(server, MIB)
        server.mark_idle()
        transfer(server, mebibytes * MIB)
        figures.append(growth(server, _BAR_MIB, f"RSS growth, {name} of {mebibytes} MiB"))
    return figures


@case("MEM", "much content, WSGI application served directly", 180)
def directly(workshop: Workshop) -> list[Figure]:
    with workshop.server("serve", module="wsgi_app") as server:
        return _transfers(server, workshop.transfer_mebibytes)


@case("MEM-messages", "much content, through an ASGIAdapter that is called with messages", 180)
def by_messages(workshop: Workshop) -> list[Figure]:
    with workshop.server("routed", module="wsgi_app") as server:
        return _transfers(server, workshop.transfer_mebibytes)


@case("MEM-gthread", "much content, WSGIAdapter on gunicorn gthread", 180)
def on_gthread(workshop: Workshop) -> list[Figure]:
    with workshop.host("gunicorn-gthread", "bridged") as server:
        return _transfers(server, workshop.transfer_mebibytes)


@case("MEM-sync", "much content, WSGIAdapter on gunicorn sync", 180)
def on_sync(workshop: Workshop) -> list[Figure]:
    with workshop.host("gunicorn-sync", "bridged") as server:
        return _transfers(server, workshop.transfer_mebibytes)
