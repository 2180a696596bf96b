"""WebSocket clients on plain sockets, which may break the rules that libraries enforce."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Final

from .clients import connect
from .servers import CaseFailed

TEXT: Final = 0x81
BINARY: Final = 0x82
COMPRESSED_BINARY: Final = 0xC2
CLOSE: Final = 0x88
PING: Final = 0x89

DEFLATE: Final = b"sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n"

_HANDSHAKE: Final = (
    b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n%b\r\n"
)


def open_websocket(port: int, path: bytes, fields: bytes = b"", receive_bytes: int = 0) -> socket.socket:
    """Open a WebSocket; drop the input after the handshake's response."""
    sock = connect(port, receive_bytes, timeout=30)
    sock.sendall(_HANDSHAKE % (path, fields))
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(1024)
        if not data:
            break
        head += data
    if not head.startswith(b"HTTP/1.1 101 "):
        raise CaseFailed(f"the handshake was answered with {head[:200]!r}")
    return sock


def frame(first: int, payload: bytes = b"") -> bytes:
    """Return a frame whose first byte is `first`, masked by zeros."""
    length = len(payload)
    if length < 126:
        size = bytes((0x80 | length,))
    elif length < 65536:
        size = b"\xfe" + length.to_bytes(2)
    else:
        size = b"\xff" + length.to_bytes(8)
    return bytes((first,)) + size + bytes(4) + payload


def read_frames(sock: socket.socket) -> Iterator[tuple[int, bytes]]:
    """Yield first byte and payload of each frame until the connection ends."""
    with sock.makefile("rb") as stream:
        try:
            while len(head := stream.read(2)) == 2:
                length = head[1]
                if length > 125:
                    length = int.from_bytes(stream.read(2 if length == 126 else 8))
                yield head[0], stream.read(length)
        except ConnectionError:
            return


def read_close_code(sock: socket.socket) -> int:
    """Return the code of the server's close frame: 1005 for an empty frame, 1006 without a frame."""
    for first, payload in read_frames(sock):
        if first == CLOSE:
            return int.from_bytes(payload[:2]) if payload else 1005
    return 1006


def echo(sock: socket.socket, payload: bytes = b"hello") -> None:
    """Send a message, and read the same one."""
    sock.sendall(frame(BINARY, payload))
    if next(read_frames(sock), None) != (BINARY, payload):
        raise CaseFailed("a message was not echoed")
