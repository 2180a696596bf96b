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
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import redis

EXECUTABLE: Final = shutil.which("redis-server") or "redis-server"
_STARTS: Final = 20
PATIENCE_SECONDS: Final = 30


def free_port() -> int:
    """Return a free port below the range from which the kernel chooses ports of clients."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


class RedisServer:
    """A redis-server process. Its port and its Unix socket stay the same after a restart."""

    def __init__(self, folder: Path, *options: str, password: str = "", sentinel: str = "") -> None:
        self.folder = Path(tempfile.mkdtemp(dir=folder))
        self.path = str(self.folder / "redis.sock")
        self.password = password
        self.port = 0
        self._options = list(options)
        #: The configuration of a sentinel, if it is to be one.
        self._sentinel = sentinel
        self._process: subprocess.Popen[str] | None = None
        self._reader = threading.Thread()
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
        """Start the server. Return when it accepts connections."""
        for _ in range(_STARTS):
            port = self.port or free_port()
            if self._run(port):
                self.port = port
                return
        raise AssertionError(f"redis-server does not start: {self.log()[-2000:]}")

    def _run(self, port: int) -> bool:
        # A file, since sentinels write into theirs.
        configuration = self.folder / "redis.conf"
        configuration.write_text(self._sentinel)
        command = [EXECUTABLE, str(configuration), *(["--sentinel"] if self._sentinel else [])]
        command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        if not self._sentinel:
            command += ["--unixsocket", self.path, "--save", "", "--appendonly", "no"]
        command += self._options
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started = threading.Event()
        self._reader = threading.Thread(target=self._keep_log, args=(self._process, started), daemon=True)
        self._reader.start()
        assert started.wait(PATIENCE_SECONDS), f"redis-server says nothing: {self.log()[-2000:]}"
        return self._process.poll() is None

    def _keep_log(self, process: subprocess.Popen[str], started: threading.Event) -> None:
        """Read the log to its end, because a server hangs when the pipe is full."""
        assert process.stdout is not None
        with process.stdout, open(self.folder / "log", "a", buffering=1) as log:
            for line in process.stdout:
                log.write(line)
                if "accept connections" in line or "Sentinel ID is" in line:
                    started.set()
        process.wait()
        started.set()

    def kill(self) -> None:
        """Kill the process, as the kernel does when memory runs out."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            # A child of its own, which sends a replica what it has, may have the pipe for a moment longer.
            self._reader.join(PATIENCE_SECONDS)

    def halt(self) -> None:
        """Stop the process. Its connections stay open, but get no reply."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, *command: str | bytes | int) -> Any:
        """Return the reply to a command, through redis-py."""
        client = redis.Redis(host="127.0.0.1", port=self.port, password=self.password or None, protocol=2)
        try:
            return client.execute_command(*command)
        finally:
            client.close()

    def await_answer(self, expected: str, *command: str) -> None:
        """Repeat a command until `expected` is in the reply, because servers need a moment to agree."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        answer = ""
        while expected not in answer:
            assert time.monotonic() < deadline, f"{command} never answered {expected!r}, but {answer}"
            try:
                answer = repr(self.ask(*command))
            except redis.ResponseError as error:
                answer = str(error)


@contextlib.contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    """Start a server, and stop it at the end."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextlib.contextmanager
def watched_pair(folder: Path) -> Iterator[tuple[RedisServer, RedisServer, RedisServer]]:
    """A master, its replica, and a sentinel that fails over on request.

    Without a request the sentinel waits for a minute of silence. On a busy machine a server may be silent for a second,
    and a failover would cause a gap that no test expects.
    """
    with running(RedisServer(folder, "--repl-diskless-sync-delay", "0")) as master:
        replica = RedisServer(folder, "--replicaof", "127.0.0.1", str(master.port))
        configuration = f"""
            sentinel monitor chat 127.0.0.1 {master.port} 1
            sentinel down-after-milliseconds chat 60000
            sentinel failover-timeout chat 3000
        """
        with running(replica):
            # First: a sentinel asks for replicas when it starts, and then not for 10 s.
            replica.await_answer("b'connected'", "ROLE")
            with running(RedisServer(folder, sentinel=configuration)) as sentinel:
                sentinel.await_answer("b'num-slaves', b'1'", "SENTINEL", "MASTER", "chat")
                yield master, replica, sentinel


def fail_over(sentinel: RedisServer) -> None:
    """Make the replica the master. Return when the failover has begun."""
    # The sentinel refuses until it has information about the replica.
    sentinel.await_answer("OK", "SENTINEL", "FAILOVER", "chat")


@contextlib.contextmanager
def cluster_of_three(folder: Path) -> Iterator[list[RedisServer]]:
    """Three masters that share the slots. Each master serves its own slots even when another master is down."""
    with contextlib.ExitStack() as stack:
        servers = []
        for _ in range(3):
            options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
            options += ["--cluster-require-full-coverage", "no", "--cluster-port", str(free_port())]
            servers.append(stack.enter_context(running(RedisServer(folder, *options))))
        for index, server in enumerate(servers):
            server.ask("CLUSTER", "ADDSLOTSRANGE", index * 5461, 16383 if index == 2 else index * 5461 + 5460)
            server.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for server in servers[1:]:
            bus = server.ask("CONFIG", "GET", "cluster-port")
            servers[0].ask("CLUSTER", "MEET", "127.0.0.1", server.port, bus[1].decode())
        for server in servers:
            server.await_answer("cluster_slots_ok:16384", "CLUSTER", "INFO")
        yield servers
