"""One contender's server process: started on its CPU, checked for the right response, and killed."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

from environments import APPS, CannotRun, clean_environ, complaint
from heads import one_head, varied_heads, wrk_script
from machine import on_cpu

# Generous: the slowest contender needs one second on an idle machine.
_START_SECONDS = 20.0
_STOP_SECONDS = 3.0

# As many of the varied heads as have every combination of fields; and what is enough where content decides.
_ALL_KINDS = 40
_FEW = 16


class Trial(Protocol):
    """A check of the response, and a load of requests of the same kind."""

    def prepare(self) -> None:
        """Raise CannotRun if the program for the load is missing."""

    def ask(self, port: int) -> str:
        """Send one request; return the fault of its response, or "". Raises OSError without a response."""

    def load(self, port: int, connections: int, seconds: int) -> AbstractContextManager[list[str]]:
        """Return the command that makes the load and reports like wrk; it runs in this context."""


@dataclass(frozen=True)
class Question:
    """Requests for wrk, and the right response: `answer`, repeated `times`.

    With `varied` the heads are those of `varied_heads`, otherwise one head is repeated. With `content_bytes` they are
    POSTs of this size; with `forwarded` they come from a proxy. `content_type` is that of the response.
    """

    path: str = "/articles"
    answer: bytes = b"Hello, world"
    times: int = 1
    content_bytes: int = 0
    content_type: str = "text/plain"
    varied: bool = True
    forwarded: bool = False

    def prepare(self) -> None:
        if shutil.which("wrk") is None:
            raise CannotRun("wrk, which makes the load, is not installed: apt-get install wrk")

    def ask(self, port: int) -> str:
        large = self.content_bytes or self.times > 1
        for head in self.heads(port)[: _FEW if large else _ALL_KINDS]:
            wrong = self._ask(port, head)
            if wrong:
                return wrong
        return ""

    def heads(self, port: int) -> list[bytes]:
        """Return the heads to send in turn, without content."""
        host = f"127.0.0.1:{port}"
        if not self.varied:
            return [one_head(host, self.path, self.content_bytes, self.forwarded)]
        heads = varied_heads(host, self.path, self.content_bytes, self.forwarded)
        # wrk keeps each request whole.
        return heads[:_FEW] if self.content_bytes else heads

    @contextmanager
    def load(self, port: int, connections: int, seconds: int) -> Iterator[list[str]]:
        # wrk reads the script before it opens a connection.
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(wrk_script(self.heads(port), self.content_bytes))
            script.flush()
            command = ["wrk", "-t1", "--latency", f"-c{connections}", f"-d{seconds}s", "-s", script.name]
            yield [*command, f"http://127.0.0.1:{port}{self.path}"]

    def _ask(self, port: int, head: bytes) -> str:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(head + b"x" * self.content_bytes)
            response = http.client.HTTPResponse(connection)
            try:
                response.begin()
                body = response.read()
            except http.client.HTTPException as error:
                return f"wrong answer: {error!r}"
        content_type = response.getheader("content-type", "")
        if response.status == 200 and body == self.answer * self.times and content_type.startswith(self.content_type):
            return ""
        return f"wrong answer: {response.status} {content_type} {len(body)} bytes: {body[:40]!r}"


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def running(command: list[str], port: int, cpu: int | None, trial: Trial) -> Iterator[int]:
    """Run a server on `port`; yield its process id when it sends the right response. Raises CannotRun."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        with on_cpu(cpu):
            process = _start(command, log.fileno())
        try:
            wrong = _await_answer(process, port, trial)
            if wrong:
                log.seek(0)
                raise CannotRun(f"{wrong} {complaint(log.read())}".strip())
            yield process.pid
        finally:
            _stop(process)


def _start(command: list[str], log: int) -> subprocess.Popen[bytes]:
    try:
        # A session of its own, so that the workers of a server can be killed with it.
        return subprocess.Popen(
            command, cwd=APPS, env=clean_environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise CannotRun(f"cannot be started: {error}") from None


def _await_answer(process: subprocess.Popen[bytes], port: int, trial: Trial) -> str:
    """Wait for the server; return the fault of its response, empty if it is right."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"exited with {process.returncode}:"
        try:
            return trial.ask(port)
        except OSError:
            time.sleep(0.05)
    return f"does not answer within {_START_SECONDS:g} seconds:"


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    # Whoever is left of its session.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
