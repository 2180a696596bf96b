"""A table whose applications block: M22."""

from __future__ import annotations

import http.client
import time
from contextlib import ExitStack

from .clients import REQUEST, connect
from .measuring import Figure, case
from .servers import Workshop

# The threads of the default, as many as there are.
_STREAMS = 16
_REQUESTS = 1000


@case("M22", "16 endless streams in the pool of the default; /health has two threads of its own", 60)
def pools_of_entries(workshop: Workshop) -> list[Figure]:
    took: list[float] = []
    failed = 0
    with workshop.server("pools", module="wsgi_app") as server, ExitStack() as stack:
        for _ in range(_STREAMS):
            sock = stack.enter_context(connect(server.port))
            sock.sendall(REQUEST % b"/endless-drops")
            sock.recv(1)
        health = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        stack.callback(health.close)
        for _ in range(_REQUESTS):
            began = time.perf_counter()
            health.request("GET", "/health")
            response = health.getresponse()
            response.read()
            took.append(time.perf_counter() - began)
            failed += response.status != 200
    took.sort()
    return [
        Figure("p99 of /health", took[len(took) * 99 // 100] * 1000, "ms", 50),
        Figure("of 1,000 requests, not answered with 200", failed, "count", 0, bar_may_be_met=True),
    ]
