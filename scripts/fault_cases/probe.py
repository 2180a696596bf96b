"""A normal client: a request every 10 ms on one connection until stdin is closed; then prints what it saw.

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


def _ask(sock: socket.socket) -> None:
    sock.sendall(_REQUEST)
    data = b""
    while not data.endswith(_END):
        received = sock.recv(65536)
        if not received:
            raise ConnectionError
        data += received


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), _TIMEOUT)


def _with_unsent(latency: float) -> list[float]:
    return [latency - number * _INTERVAL for number in range(max(1, math.ceil(latency / _INTERVAL)))]


def _measure(port: int) -> tuple[list[float], int]:
    latencies: list[float] = []
    failures = 0
    sock = _connect(port)
    _ask(sock)
    print(flush=True)
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        began = time.monotonic()
        try:
            _ask(sock)
            latencies += _with_unsent(time.monotonic() - began)
        except OSError:
            failures += 1
            latencies.append(math.inf)
            sock.close()
            sock = _connect(port)
        due = began + _INTERVAL
    sock.close()
    return latencies, failures


def main() -> None:
    latencies, failures = _measure(int(sys.argv[1]))
    latencies.sort()
    p99 = latencies[int(len(latencies) * 0.99)] if latencies else math.inf
    print(json.dumps([len(latencies), failures, p99 * 1000, max(latencies, default=math.inf) * 1000]))


if __name__ == "__main__":
    main()
