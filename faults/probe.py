"""A normal client: a request every 10 ms on one connection until stdin is closed; then prints what it saw.

Arguments: the port, and the path of a websocket that echoes, if messages are to be sent instead of requests.

A process of its own, so that it does not compete with a flood of clients for one interpreter. A response that takes
longer than 10 ms keeps other requests from being sent, which would have had to wait too, each 10 ms less than the
one before: these are counted as well, lest a server that stands still for a second be a single slow response.
"""

from __future__ import annotations

import json
import math
import select
import socket
import sys
import time

_INTERVAL = 0.01
_TIMEOUT = 5.0
_REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
_END = b"Hello, world"
_HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
# Masked by zeros.
_MESSAGE = b"\x81\x8c\0\0\0\0" + _END


def _ask(sock: socket.socket, request: bytes, end: bytes = _END) -> None:
    sock.sendall(request)
    data = b""
    while not data.endswith(end):
        received = sock.recv(65536)
        if not received:
            raise ConnectionError
        data += received


def _connect(port: int, websocket: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), _TIMEOUT)
    if websocket:
        _ask(sock, _HANDSHAKE % websocket, b"\r\n\r\n")
    return sock


def _with_unsent(latency: float) -> list[float]:
    return [latency - number * _INTERVAL for number in range(max(1, math.ceil(latency / _INTERVAL)))]


def _measure(port: int, websocket: bytes) -> tuple[list[float], int]:
    latencies: list[float] = []
    failures = 0
    request = _MESSAGE if websocket else _REQUEST
    sock = _connect(port, websocket)
    _ask(sock, request)
    print(flush=True)
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        began = time.monotonic()
        try:
            _ask(sock, request)
            latencies += _with_unsent(time.monotonic() - began)
        except OSError:
            failures += 1
            latencies.append(math.inf)
            sock.close()
            sock = _connect(port, websocket)
        due = began + _INTERVAL
    sock.close()
    return latencies, failures


def main() -> None:
    latencies, failures = _measure(int(sys.argv[1]), sys.argv[2].encode())
    latencies.sort()
    p99 = latencies[int(len(latencies) * 0.99)] if latencies else math.inf
    print(json.dumps([len(latencies), failures, p99 * 1000, max(latencies, default=math.inf) * 1000]))


if __name__ == "__main__":
    main()
