"""WebSocket messages as a trial. The client is `websocket_load.c`, which the first run compiles."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from environments import BENCH, CannotRun, complaint

_SOURCE = BENCH / "websocket_load.c"
_PROGRAM = BENCH / ".environments" / "websocket_load"


@dataclass(frozen=True)
class Conversation:
    """Messages of a given size: `kind` is `echo`, or `fanout`, where each message goes to all connections."""

    kind: str
    length: int

    def prepare(self) -> None:
        if _PROGRAM.exists() and _PROGRAM.stat().st_mtime > _SOURCE.stat().st_mtime:
            return
        compiler = shutil.which("cc")
        if compiler is None:
            raise CannotRun("cc, which compiles the program that makes the load, is not installed: apt-get install gcc")
        done = self._run([compiler, "-O2", "-o", str(_PROGRAM), str(_SOURCE)])
        if done.returncode:
            raise CannotRun(f"{_SOURCE.name} cannot be compiled: {complaint(done.stderr)}")

    def ask(self, port: int) -> str:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
        # The program compares all that it gets with what it expects.
        done = self._run(self._command(port, 2, "0.1"))
        return f"wrong answer: {complaint(done.stderr)}" if done.returncode else ""

    @contextmanager
    def load(self, port: int, connections: int, seconds: int) -> Iterator[list[str]]:
        yield self._command(port, connections, str(seconds))

    def _command(self, port: int, connections: int, seconds: str) -> list[str]:
        return [str(_PROGRAM), self.kind, str(port), str(connections), seconds, str(self.length)]

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False)
