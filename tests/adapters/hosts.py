"""WSGI hosts and other hosts in processes of their own, as users run them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

import uvicorn
from tests.waits import LONGEST_WAIT

ROOT: Final = Path(uvicorn.__file__).parents[1]

_WAITRESS: Final = """
import socket, waitress, MODULE
waitress.serve(MODULE.NAME, sockets=[socket.socket(fileno=SOCKET)], _quiet=True)
"""

_WSGIREF: Final = """
import socket, socketserver, MODULE
from wsgiref.simple_server import WSGIServer, WSGIRequestHandler
class Server(BASES):
    daemon_threads = True
server = Server(('', 0), WSGIRequestHandler, False)
server.socket.close()
server.socket = socket.socket(fileno=SOCKET)
server.server_name, server.server_port = '127.0.0.1', PORT
server.setup_environ()
server.set_app(MODULE.NAME)
server.serve_forever()
"""

_WERKZEUG: Final = """
import werkzeug.serving, MODULE
werkzeug.serving.make_server('127.0.0.1', PORT, MODULE.NAME, threaded=True, fd=SOCKET).serve_forever()
"""

_GUNICORN: Final = ["-m", "gunicorn", "-b", "fd://SOCKET", "--graceful-timeout", "1"]
if int(version("gunicorn").partition(".")[0]) >= 25:
    # All that run at a time would share it; and the master would fork beside the thread that serves it.
    _GUNICORN.append("--no-control-socket")
_UWSGI: Final = ["UWSGI", "--http-socket", "fd://SOCKET", "--master", "--die-on-term", "--module", "MODULE:NAME"]

# What Python runs. SOCKET stands for the number of a listening socket, PORT for its port, MODULE:NAME for the
# application, UWSGI for a command that is no Python.
HOSTS: Final[dict[str, list[str]]] = {
    "gunicorn sync": [*_GUNICORN, "MODULE:NAME"],
    "gunicorn gthread": [*_GUNICORN, "-k", "gthread", "--threads", "4", "MODULE:NAME"],
    "gunicorn with our worker": [*_GUNICORN, "-k", "tests.routing.sites.PlacedWorker", "MODULE:NAME"],
    "gunicorn --preload": [*_GUNICORN, "--preload", "-w", "2", "MODULE:NAME"],
    "waitress": ["-c", _WAITRESS],
    "wsgiref": ["-c", _WSGIREF.replace("BASES", "WSGIServer")],
    "wsgiref threaded": ["-c", _WSGIREF.replace("BASES", "socketserver.ThreadingMixIn, WSGIServer")],
    "werkzeug": ["-c", _WERKZEUG],
    "uwsgi": [*_UWSGI, "--threads", "4"],
    "uwsgi --lazy-apps": [*_UWSGI, "--lazy-apps"],
    "uwsgi of one thread": _UWSGI,
    "hypercorn": [
        *("-m", "hypercorn", "-b", "fd://SOCKET", "--graceful-timeout", "1", "PREFIXMODULE:NAME"),
    ],
    "uvicorn": ["-m", "uvicorn", "--bind", "fd://SOCKET", "--no-access-log", "MODULE:NAME"],
}


class Host:
    """A running host: its `port`, and the stderr of host and application."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def stderr(self) -> str:
        """Return the output so far."""
        return "".join(self._lines)

    def wait_for_line(self, text: str) -> None:
        """Wait until a line with `text` has been printed."""
        self.wait_until(lambda: text in self.stderr)
        assert text in self.stderr, f"expected a line with {text!r}; stderr:\n{self.stderr}"

    def wait_until(self, happened: Callable[[], bool]) -> None:
        """Wait until `happened()` is true of the output, for a limited time."""
        with self._changed:
            self._changed.wait_for(lambda: happened() or not self._reader.is_alive(), LONGEST_WAIT)

    def stop(self) -> int:
        """Stop the host as an operator does. Return its exit code, which is negative after SIGKILL."""
        self.process.terminate()
        try:
            return self.process.wait(LONGEST_WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
        finally:
            self._reader.join(LONGEST_WAIT)

    def close(self) -> None:
        """Kill the process and close its files."""
        if self.process.poll() is None:
            self.stop()
        try:
            # Workers that a host did not end: they would hold its stderr, and this, up.
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        assert self.process.stderr is not None
        self._reader.join(LONGEST_WAIT)
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


@contextmanager
def hosted(name: str, app: str, env: Mapping[str, str] | None = None, prefix: str = "") -> Iterator[Host]:
    """Start the host `name` with the application `app` (MODULE:NAME) on a socket that already listens.

    `prefix` is `wsgi:` for hypercorn with a WSGI application.
    """
    module, _, attribute = app.partition(":")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        port: int = listener.getsockname()[1]
        names = {
            "PREFIX": prefix,
            "SOCKET": str(listener.fileno()),
            "PORT": str(port),
            "MODULE": module,
            "NAME": attribute,
        }
        words = list(HOSTS[name])
        for placeholder, value in names.items():
            words = [word.replace(placeholder, value) for word in words]
        if words[0] == "UWSGI":
            words[0] = str(Path(sys.executable).with_name("uwsgi"))
        else:
            words.insert(0, sys.executable)
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(env or {})},
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    host = Host(process, port)
    try:
        yield host
    finally:
        host.close()
