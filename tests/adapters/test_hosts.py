"""`WSGIAdapter` on real WSGI hosts, each in a process of its own."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.server_process import LONGEST_WAIT

APP = """
import asyncio, os
from uvicorn.utils import ASGIAdapter, WSGIAdapter, read_body

async def app(message, channels):
    reply = channels['reply']
    if message['path'] == '/stream':
        await reply.send({'status': 200, 'headers': [[b'content-type', b'text/plain']], 'more_content': True})
        for number in range(5):
            await asyncio.sleep(0)
            await reply.send({'content': b'%d' % number * 20000, 'more_content': True})
        await reply.send({})
    elif message['path'] == '/broken':
        headers = [[b'content-length', b'10']]
        await reply.send({'status': 200, 'headers': headers, 'content': b'half', 'more_content': True})
        raise ValueError('boom')
    else:
        body = await read_body(message, channels)
        head = '%s %s %s ' % (message['method'], message['path'], message['query_string'].decode())
        await reply.send({'status': 201, 'headers': [[b'x-app', b'yes']], 'content': head.encode() + body})

wsgi = WSGIAdapter(app)

def plain(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [environ['PATH_INFO'].encode('latin-1')]

double = WSGIAdapter(ASGIAdapter(plain))
"""

# What Python runs; SOCKET stands for the number of a listening socket, PORT for its port.
HOSTS = {
    "gunicorn sync": ["-m", "gunicorn", "-b", "fd://SOCKET", "app:wsgi"],
    "gunicorn gthread": ["-m", "gunicorn", "-b", "fd://SOCKET", "-k", "gthread", "--threads", "4", "app:wsgi"],
    "gunicorn --preload": ["-m", "gunicorn", "-b", "fd://SOCKET", "--preload", "-w", "2", "app:wsgi"],
    "waitress": [
        "-c",
        "import socket, waitress, app; waitress.serve(app.wsgi, sockets=[socket.socket(fileno=SOCKET)], _quiet=True)",
    ],
    "wsgiref": [
        "-c",
        "import socket, app\nfrom wsgiref.simple_server import WSGIServer, WSGIRequestHandler\n"
        "s = WSGIServer(('', 0), WSGIRequestHandler, False); s.socket.close()\n"
        "s.socket = socket.socket(fileno=SOCKET)\n"
        "s.server_name, s.server_port = '127.0.0.1', PORT; s.setup_environ(); s.set_app(app.wsgi); s.serve_forever()",
    ],
    "werkzeug": [
        "-c",
        "import werkzeug.serving as w, app\n"
        "w.make_server('127.0.0.1', PORT, app.wsgi, threaded=True, fd=SOCKET).serve_forever()",
    ],
}


@contextmanager
def hosted(folder: Path, command: list[str]) -> Iterator[int]:
    """A host that listens on a socket which is open before it starts, so that nobody has to wait for it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        port = listener.getsockname()[1]
        words = [word.replace("SOCKET", str(listener.fileno())).replace("PORT", str(port)) for word in command]
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        try:
            yield port
        finally:
            process.terminate()
            try:
                process.wait(LONGEST_WAIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            drain.join(LONGEST_WAIT)
            process.stderr.close()


@pytest.fixture(scope="module", params=HOSTS)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("host")
    (folder / "app.py").write_text(APP)
    with hosted(folder, HOSTS[request.param]) as port:
        yield port


def ask(port: int, method: str, path: str, content: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONGEST_WAIT)
    try:
        connection.request(method, path, content)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def test_a_whole_response(port: int) -> None:
    status, headers, content = ask(port, "GET", "/a%20b?c=d")
    assert (status, headers["x-app"], content) == (201, "yes", b"GET /a b c=d ")


@pytest.mark.parametrize("size", [0, 1, 300000])
def test_content_goes_in_and_out(port: int, size: int) -> None:
    assert ask(port, "POST", "/", b"x" * size)[2] == b"POST /  " + b"x" * size


def test_a_streamed_response(port: int) -> None:
    assert ask(port, "GET", "/stream")[2] == b"".join(b"%d" % number * 20000 for number in range(5))


def test_a_broken_response_does_not_look_complete(port: int) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        ask(port, "GET", "/broken")


def test_many_requests_at_a_time(port: int) -> None:
    answers: list[bytes] = []
    threads = [
        threading.Thread(target=lambda number=number: answers.append(ask(port, "GET", f"/{number}")[2]))  # type: ignore[misc]
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST_WAIT)
    assert sorted(answers) == sorted(b"GET /%d  " % number for number in range(20))
