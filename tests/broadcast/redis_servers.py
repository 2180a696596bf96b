"""Real Redis servers on free ports, which tests may kill, halt and start again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import redis

EXECUTABLE: Final = shutil.which("redis-server") or "redis-server"
_STARTS: Final = 20


def free_port() -> int:
    """A port of no use to anybody at this moment, below those that the kernel gives to clients by itself."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


class RedisServer:
    """A redis-server process that listens on a port and on a Unix socket; the same ones each time it is started."""

    def __init__(self, folder: Path, *options: str, password: str = "", sentinel: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.path = str(self.folder / "redis.sock")
        self.password = password
        self.port = 0
        self._options = list(options)
        self._sentinel = sentinel
        self._process: subprocess.Popen[str] | None = None
        if password:
            self._options += ["--requirepass", password]

    @property
    def url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        secret = f":{self.password}@" if self.password else ""
        return f"unix://{secret}{self.path}"

    def start(self) -> None:
        """Returns when it accepts connections."""
        for _ in range(_STARTS):
            port = self.port or free_port()
            if self._run(port):
                self.port = port
                return
        raise AssertionError(f"redis-server does not start: {self.log()[-2000:]}")

    def _run(self, port: int) -> bool:
        configuration = self.folder / "redis.conf"
        if not configuration.exists() or not self._sentinel:
            configuration.write_text("")
        command = [EXECUTABLE, str(configuration), *(["--sentinel"] if self._sentinel else [])]
        command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        if not self._sentinel:
            command += ["--unixsocket", self.path, "--save", "", "--appendonly", "no"]
        command += self._options
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        with open(self.folder / "log", "a") as log:
            for line in self._process.stdout:
                log.write(line)
                if "accept connections" in line or "Sentinel ID is" in line:
                    return True
        self._process.wait()
        self._process.stdout.close()
        return False

    def kill(self) -> None:
        """As the kernel does when memory runs out."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def halt(self) -> None:
        """It neither answers nor goes away."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, *command: str | bytes | int) -> Any:
        """The answer to a command, by another implementation of the protocol."""
        client = redis.Redis(host="127.0.0.1", port=self.port, password=self.password or None, protocol=2)
        try:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]
        finally:
            client.close()

    def clients(self, kind: str) -> list[dict[str, str]]:
        """Its connections of one kind, `normal` or `pubsub`, but for that of the asker."""
        found = self.ask("CLIENT", "LIST", "TYPE", kind)
        return [client for client in found if client["cmd"] != "client|list"]


@contextlib.contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    """Started, and gone in the end."""
    server.start()
    try:
        yield server
    finally:
        server.kill()
