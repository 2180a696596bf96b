"""Connections whose client disconnects early: FIN, HEAD, EARLY, STREAMS, PIPELINED, HANDSHAKES."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trustme

from .clients import REQUEST, connect, connections, get, wait_until
from .measuring import Figure, case, growth
from .servers import CaseFailed, Server, Workshop

_VISITS: Final = 300
_UPLOADS: Final = 100

# Half-closed, then a tick of the clock, and a moment.
_SECONDS: Final = 8.0

_NGINX: Final = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream ours {{ server 127.0.0.1:{port}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{own_port};
        location / {{ proxy_pass http://ours; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


def _visit(port: int, method: bytes, path: bytes) -> None:
    """Send a request, read the beginning of the response, and close."""
    with connect(port) as sock:
        sock.sendall(REQUEST.replace(b"GET", method) % path)
        sock.recv(1000)


def _left(server: Server, before: int) -> int:
    """Return the number of descriptors left by all visits after the allowed time."""
    wait_until(lambda: server.descriptors() <= before, _SECONDS)
    return max(server.descriptors() - before, 0)


def _tasks(server: Server) -> int:
    return int(get(server.port, b"/tasks"))


@case("FIN", f"{_VISITS} visitors open a silent event stream and close it", 60)
def visitors(workshop: Workshop) -> list[Figure]:
    with workshop.server() as server:
        before, tasks = server.descriptors(), _tasks(server)
        for _ in range(_VISITS):
            _visit(server.port, b"GET", b"/events")
        left = _left(server, before)
        # The handlers are cancelled later; those of the last visits have begun last.
        time.sleep(1)
        return [
            Figure(f"descriptors left after {_SECONDS:g} s", left, "", 0, bar_may_be_met=True),
            Figure("handlers left beside those that may still finish", max(_tasks(server) - tasks - _VISITS, 0), "", 0,
                   bar_may_be_met=True),
        ]  # fmt: skip


@case("HEAD", f"{_VISITS} visitors send HEAD for an endless stream and close", 60)
def heads(workshop: Workshop) -> list[Figure]:
    with workshop.server() as server:
        before = server.descriptors()
        for _ in range(_VISITS):
            _visit(server.port, b"HEAD", b"/endless")
        left = _left(server, before)
        began = time.monotonic()
        server.terminate(40)
        return [
            Figure(f"descriptors left after {_SECONDS:g} s", left, "", 0, bar_may_be_met=True),
            Figure("SIGTERM to exit, handlers going on", time.monotonic() - began, "s", 3),
        ]


@case("STREAMS", "SIGTERM with 50 silent event streams open", 60)
def open_streams(workshop: Workshop) -> list[Figure]:
    with workshop.server() as server:
        sockets = [connect(server.port) for _ in range(50)]
        try:
            for sock in sockets:
                sock.sendall(REQUEST % b"/events")
                sock.recv(1000)
            began = time.monotonic()
            code = server.terminate(40)
            took = time.monotonic() - began
            ended = sum(_rest(sock).endswith(b"0\r\n\r\n") for sock in sockets)
        finally:
            for sock in sockets:
                sock.close()
        return [
            Figure("SIGTERM to exit", took, "s", 6),
            Figure("streams without a last chunk", 50 - ended, "", 0, bar_may_be_met=True),
            Figure("exit code", code, "", 0, bar_may_be_met=True),
        ]


def _rest(sock: object) -> bytes:
    data = b""
    while piece := sock.recv(1000):  # type: ignore[attr-defined]
        data += piece
    return data


@contextmanager
def _nginx(port: int) -> Iterator[int]:
    """Start nginx in front of `port`; return its port."""
    if shutil.which("nginx", path="/usr/sbin:/usr/bin") is None:
        raise CaseFailed("nginx is not installed: scripts/install-test-tools")
    with tempfile.TemporaryDirectory() as folder, connect(port) as sock:
        # Free a moment ago, and of this machine.
        own_port = sock.getsockname()[1] + 1
        config = Path(folder, "nginx.conf")
        config.write_text(_NGINX.format(folder=folder, port=port, own_port=own_port))
        process = subprocess.Popen(["/usr/sbin/nginx", "-p", folder, "-c", str(config)], stderr=subprocess.DEVNULL)
        try:
            if not wait_until(lambda: _answers(own_port), 10):
                raise CaseFailed("nginx did not start")
            yield own_port
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    try:
        connect(port).close()
    except OSError:
        return False
    return True


def _lost(port: int, size: int) -> int:
    lost = 0
    for _ in range(_UPLOADS):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", "/early", bytes(size))
            lost += connection.getresponse().status != 401
        except OSError:
            lost += 1
        finally:
            connection.close()
    return lost


@case("EARLY", f"{_UPLOADS} uploads each of 1, 8 and 50 MB that are answered before they are read", 600)
def early_answers(workshop: Workshop) -> list[Figure]:
    figures = []
    for kind, module in (("channels", "app"), ("WSGI", "wsgi_app")):
        with workshop.server("early" if module == "wsgi_app" else "serve", module=module) as server:
            with _nginx(server.port) as port:
                figures += [
                    Figure(f"lost of {_UPLOADS} behind nginx, {size} MB, {kind}", _lost(port, size * 10**6), "", 0,
                           bar_may_be_met=True)
                    for size in (1, 8, 50)
                ]  # fmt: skip
            figures.append(
                Figure(f"lost of {_UPLOADS} sent directly, 8 MB, {kind}", _lost(server.port, 8 * 10**6), "", 0,
                       bar_may_be_met=True)
            )  # fmt: skip
    return figures


@case("PIPELINED", "64 clients pipeline a POST without its content behind a GET, and close", 60)
def truncated_pipelines(workshop: Workshop) -> list[Figure]:
    with workshop.server("read", module="wsgi_app") as server:
        before = server.descriptors()
        for _ in range(64):
            with connect(server.port) as sock:
                sock.sendall(REQUEST % b"/" + b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n")
        left = _left(server, before)
        began = time.monotonic()
        get(server.port)
        served = time.monotonic() - began
        began = time.monotonic()
        server.terminate(40)
        return [
            Figure(f"descriptors left after {_SECONDS:g} s", left, "", 0, bar_may_be_met=True),
            Figure("next request served within", served, "s", 1),
            Figure("SIGTERM to exit", time.monotonic() - began, "s", 4),
        ]


@case("HANDSHAKES", "400 TLS handshakes that never begin, with --limit-concurrency 10", 60)
def unfinished_handshakes(workshop: Workshop) -> list[Figure]:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    pem = workshop.folder / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(pem)
    options = ("--limit-concurrency", "10", "--ssl-certfile", str(pem))
    with workshop.server("serve", *options, tls=True) as server:
        # The first one has uvloop open a descriptor of its own.
        with connections(server.port, 1):
            time.sleep(0.2)
        time.sleep(0.2)
        before = server.descriptors()
        server.mark_idle()
        with connections(server.port, 400):
            wait_until(lambda: server.descriptors() <= before + 10, _SECONDS)
            held = server.descriptors() - before
            grown = growth(server, 8)
        return [Figure("connections held", held, "", 10, bar_may_be_met=True), grown]
