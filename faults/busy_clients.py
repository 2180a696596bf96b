"""Run as a process: `busy_clients.py PORT COUNT` keeps so many connections busy until its input ends.

Each sends its next request as soon as it has the response to the one before. Prints the 99th percentile of the times
to a response, in milliseconds.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

_REQUEST = (
    b"GET /?number=%d HTTP/1.1\r\nhost: x\r\nuser-agent: busy/%d\r\naccept: */*\r\naccept-encoding: gzip, br\r\n"
    b"x-request-id: %08d\r\ncookie: session=%d\r\n\r\n"
)


def main(port: int, count: int) -> None:
    """Send requests and receive responses, each of which arrives in one piece because it is small."""
    times: list[float] = []
    number = 0
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        sent: dict[int, float] = {}
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port))
            selector.register(sock, selectors.EVENT_READ, sock)
            sent[sock.fileno()] = time.perf_counter()
            sock.sendall(_REQUEST % (number, number, number, number))
        print("busy", flush=True)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    times.sort()
                    print(times[len(times) * 99 // 100] * 1000)
                    return
                if not key.data.recv(4096):
                    raise ConnectionError("the server has closed a busy connection")
                now = time.perf_counter()
                times.append(now - sent[key.fd])
                number += 1
                sent[key.fd] = now
                key.data.sendall(_REQUEST % (number % 512, number % 4, number, number))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
