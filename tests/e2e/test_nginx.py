"""Our server behind a real nginx with its usual settings and persistent connections."""

from __future__ import annotations

import http.client
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.server_process import LONGEST_WAIT, running_server

APPS = {
    "asgi": """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"who are you"})
""",
    "wsgi": """
def app(environ, start_response):
    start_response("401 Unauthorized", [("Content-Type", "text/plain")])
    return [b"who are you"]
""",
}

CONFIG = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr warn;
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
        listen unix:{folder}/nginx.sock;
        location / {{
            proxy_pass http://ours;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering {buffering};
        }}
    }}
}}
"""


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a server on a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=LONGEST_WAIT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(LONGEST_WAIT)
        self.sock.connect(str(self._path))


@contextmanager
def nginx(folder: Path, port: int, buffering: str) -> Iterator[Path]:
    """Start nginx in front of our server; return the path of its socket."""
    config = folder / "nginx.conf"
    config.write_text(CONFIG.format(folder=folder, port=port, buffering=buffering))
    listening = folder / "nginx.sock"
    process = subprocess.Popen(
        ["/usr/sbin/nginx", "-p", str(folder), "-c", str(config)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        # nginx listens, and then writes this file. Its socket exists already between `bind` and `listen`.
        while not (folder / "nginx.pid").exists():
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
        yield listening
    finally:
        process.terminate()
        process.communicate(timeout=LONGEST_WAIT)


@pytest.mark.parametrize("buffering", ["on", "off"])
@pytest.mark.parametrize("kind", APPS)
def test_nginx_forwards_an_early_response_although_the_upload_is_incomplete(
    kind: str, buffering: str, tmp_path: Path
) -> None:
    (tmp_path / "early.py").write_text(APPS[kind])
    with running_server(tmp_path, "early:app") as server, nginx(tmp_path, server.port, buffering) as listening:
        statuses = []
        for size in [1_000_000] * 5 + [8_000_000] * 3:
            connection = UnixConnection(listening)
            connection.request("POST", "/", bytes(size))
            response = connection.getresponse()
            statuses.append((response.status, response.read()))
            connection.close()
    assert statuses == [(401, b"who are you")] * 8
