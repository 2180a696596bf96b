"""Clients of the fault cases: normal ones, and tools for hostile ones."""

from __future__ import annotations

import json
import math
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)

REQUEST: Final = b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n"


def connect(port: int, receive_bytes: int = 0, timeout: float = 10) -> socket.socket:
    """Connect; `receive_bytes` limits the bytes that the kernel buffers for a client that does not read."""
    sock = socket.socket()
    try:
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.settimeout(timeout)
        sock.connect(("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


@contextmanager
def connections(port: int, count: int, receive_bytes: int = 0) -> Iterator[list[socket.socket]]:
    """Open `count` connections, and close them at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(connect(port, receive_bytes)) for _ in range(count)]


def reset(sock: socket.socket) -> None:
    """Close with a RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()


def read_response(sock: socket.socket) -> tuple[int, bytes]:
    """Return status and content of a response with a content-length. Raises ConnectionError if it is truncated."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(sock)
    head, _, content = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    while len(content) < length:
        content += _receive(sock)
    return int(head.split(b" ", 2)[1]), content


def _receive(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("closed before the response was complete")
    return data


def get(port: int, path: bytes = b"/", timeout: float = 10) -> bytes:
    """Return the content of a page, on a new connection."""
    with connect(port, timeout=timeout) as sock:
        sock.sendall(REQUEST % path)
        return read_response(sock)[1]


def offer(sock: socket.socket, start: bytes, pieces: Iterator[bytes]) -> tuple[int, bytes]:
    """Send `start` and all pieces, or as much as the server reads; return the number of bytes, and the response."""
    sock.setblocking(False)
    sent, answer, data = 0, b"", memoryview(start)
    deadline = time.monotonic() + 20
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while time.monotonic() < deadline:
            for _, events in selector.select(1):
                try:
                    if events & selectors.EVENT_READ:
                        received = sock.recv(65536)
                        answer += received
                        if not received:
                            selector.modify(sock, selectors.EVENT_WRITE)
                    if events & selectors.EVENT_WRITE:
                        data = data or memoryview(next(pieces, b""))
                        if not data:
                            return sent, answer
                        count = sock.send(data)
                        sent += count
                        data = data[count:]
                except BlockingIOError:
                    pass
                except OSError:
                    # What was answered before the reset is still there to be read.
                    return sent, answer + _rest(sock)
    return sent, answer


def _rest(sock: socket.socket) -> bytes:
    try:
        return sock.recv(65536)
    except OSError:
        return b""


def push(sockets: Sequence[socket.socket], data: bytes, seconds: float) -> int:
    """Send `data` repeatedly on all connections, as fast as the server reads; return the number of bytes."""
    sent, deadline = 0, time.monotonic() + seconds
    left = dict.fromkeys(sockets, memoryview(data))
    with selectors.DefaultSelector() as selector:
        for sock in sockets:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_WRITE)
        while time.monotonic() < deadline:
            for key, _ in selector.select(0.1):
                sock = key.fileobj  # type: ignore[assignment]
                try:
                    count = sock.send(left[sock])
                except BlockingIOError:
                    continue
                sent += count
                left[sock] = left[sock][count:] or memoryview(data)
    return sent


def sip(sockets: Sequence[socket.socket], bytes_per_second: int, seconds: float) -> int:
    """Read slowly from all connections; return the number of bytes."""
    received, deadline = 0, time.monotonic() + seconds
    share = bytes_per_second // len(sockets) // 20
    while time.monotonic() < deadline:
        for sock in sockets:
            sock.setblocking(False)
            try:
                received += len(sock.recv(share))
            except BlockingIOError:
                pass
        time.sleep(0.05)
    return received


@dataclass
class Latency:
    """The latency of a normal client, in milliseconds."""

    count: int = 0
    failures: int = 0
    p99: float = math.inf
    longest: float = math.inf

    def __str__(self) -> str:
        return f"{self.count} requests of a normal client, {self.failures} failed, longest {self.longest:.0f} ms"


@contextmanager
def normal_client(port: int, websocket: str = "") -> Iterator[Latency]:
    """A client in a process of its own, for as long as the block lasts; then its latency is filled in.

    It asks for a page, or has its messages echoed by the application at the path `websocket`.
    """
    latency = Latency()
    probe = Path(__file__).with_name("probe.py")
    command = [sys.executable, str(probe), str(port), websocket]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        # It says so when its first request was answered.
        process.stdout.readline()
        yield latency
        output, _ = process.communicate(timeout=15)
        latency.count, latency.failures, latency.p99, latency.longest = json.loads(output)
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether the condition became true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
