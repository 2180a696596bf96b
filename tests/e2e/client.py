"""A client connection that sends and receives bytes unchanged."""

from __future__ import annotations

import os
import socket
import ssl
import struct
import time
from typing import Self

from tests.e2e.server_process import LONGEST_WAIT, ServerProcess


class Client:
    """A connection that sends bytes unchanged and reads the response."""

    def __init__(self, server: ServerProcess | None, tls: ssl.SSLContext | None = None, path: str = "") -> None:
        if path:
            self.socket = _connect(path)
        else:
            assert server is not None
            self.socket = socket.create_connection(("127.0.0.1", server.port), LONGEST_WAIT)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Reset the connection."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.socket.sendall(data)

    def receive(self) -> bytes:
        """Receive until the server closes or resets the connection."""
        pieces = []
        while True:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                break
            if not piece:
                break
            pieces.append(piece)
        return b"".join(pieces)

    def receive_until(self, end: bytes) -> bytes:
        """Receive up to `end`."""
        received = b""
        while end not in received:
            piece = self.socket.recv(65536)
            assert piece, f"closed before {end!r} came, after {received!r}"
            received += piece
        return received

    def get(self, path: str = "/", *fields: str) -> bytes:
        """Send a request; return the whole response, after which the connection is closed."""
        head = "\r\n".join((f"GET {path} HTTP/1.1", "host: x", "connection: close", *fields))
        self.send(head.encode() + b"\r\n\r\n")
        return self.receive()


def status_of(response: bytes) -> int:
    """Return the status of a response in bytes."""
    return int(response.split(b" ", 2)[1])


def content_of(response: bytes) -> bytes:
    """Return the content of a response in bytes."""
    return response.partition(b"\r\n\r\n")[2]


def _connect(path: str) -> socket.socket:
    """Connect to the Unix socket at `path`, whose file exists a moment before the server listens."""
    deadline = time.monotonic() + LONGEST_WAIT
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(LONGEST_WAIT)
        try:
            client.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            client.close()
            if time.monotonic() > deadline:
                raise
            os.sched_yield()
        else:
            return client
