"""A server in a process of its own, as a user starts it."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Final, TypeVar, overload

import uvicorn
from tests.waits import LONGEST_WAIT as LONGEST_WAIT

_HOW_TO_LISTEN: Final = re.compile(r"--(bind|host|port|uds|fd)(=|$)|-b")
_LISTENING: Final = re.compile(r"Uvicorn running on (unix socket )?(\S+)")


class ServerProcess:
    """A running server. `port` is the port of the first address, or 0 for a Unix socket."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._changed = threading.Condition()
        self._readers: list[threading.Thread] = []
        for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr)):
            assert pipe is not None
            reader = threading.Thread(target=self._read, args=(name, pipe), daemon=True)
            reader.start()
            self._readers.append(reader)

    @property
    def stderr(self) -> str:
        """Return its log so far."""
        return "".join(self._lines["stderr"])

    @property
    def stdout(self) -> str:
        """Return its access log so far."""
        return "".join(self._lines["stdout"])

    @property
    def addresses(self) -> list[str]:
        """Return the addresses in its log: URLs, and `unix:PATH`."""
        return [f"unix:{name}" if is_unix else name for is_unix, name in _LISTENING.findall(self.stderr)]

    @property
    def port(self) -> int:
        """The port of the first URL in its log."""
        return next((int(address.rpartition(":")[2]) for address in self.addresses if "://" in address), 0)

    def wait_for_line(self, text: str, name: str = "stderr", count: int = 1) -> None:
        """Wait until `count` lines with `text` have been printed."""
        self._wait_until(lambda: sum(text in line for line in self._lines[name]) >= count, f"{text!r} on {name}")

    def wait(self) -> int:
        """Wait for the end of the server. Return its exit code, which is negative after a fatal signal."""
        code = self.process.wait(LONGEST_WAIT)
        for reader in self._readers:
            reader.join(LONGEST_WAIT)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal without waiting for the end."""
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end. Return the exit code."""
        self.send_signal(number)
        return self.wait()

    def get(self, path: str = "/", host: str = "127.0.0.1", port: int = 0) -> tuple[int, str]:
        """Return status and content of a response on a new connection."""
        connection = http.client.HTTPConnection(host, port or self.port, timeout=LONGEST_WAIT)
        try:
            connection.request("GET", path, headers={"connection": "close"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def close(self) -> None:
        """Kill the process and close its files."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self, name: str, pipe: IO[str]) -> None:
        for line in pipe:
            with self._changed:
                self._lines[name].append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _wait_until(self, happened: Callable[[], bool], what: str) -> None:
        def over() -> bool:
            return happened() or not any(reader.is_alive() for reader in self._readers)

        with self._changed:
            self._changed.wait_for(over, LONGEST_WAIT)
        assert happened(), f"{what} did not happen; stderr:\n{self.stderr}\nstdout:\n{self.stdout}"


Process = TypeVar("Process", bound=ServerProcess)


@overload
def running_server(
    folder: Path,
    *arguments: str,
    env: dict[str, str] | None = ...,
    program: Sequence[str] = ...,
    addresses: int = ...,
    pass_fds: Sequence[int] = ...,
) -> AbstractContextManager[ServerProcess]: ...


@overload
def running_server(
    folder: Path,
    *arguments: str,
    env: dict[str, str] | None = ...,
    program: Sequence[str] = ...,
    addresses: int = ...,
    pass_fds: Sequence[int] = ...,
    kind: type[Process],
) -> AbstractContextManager[Process]: ...


@contextmanager
def running_server(
    folder: Path,
    *arguments: str,
    env: dict[str, str] | None = None,
    program: Sequence[str] = ("-m", "uvicorn"),
    addresses: int = 1,
    pass_fds: Sequence[int] = (),
    kind: type[Any] = ServerProcess,
) -> Iterator[Any]:
    """Start a server in `folder`, wait until its log has the number `addresses` of addresses, and kill it at the end.

    It listens on a free port of 127.0.0.1 unless `arguments` or `env` say where. `program` is what Python runs.
    """
    variables = environment(env)
    has_address = any(map(_HOW_TO_LISTEN.match, arguments)) or any(
        name in variables for name in ("UVICORN_BIND", "UVICORN_HOST", "UVICORN_PORT", "UVICORN_UDS", "UVICORN_FD")
    )
    if not has_address and program[0] == "-m":
        arguments = (*arguments, "--bind", "127.0.0.1:0")
    server = kind(
        subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=pass_fds,
        )
    )
    try:
        if addresses:
            server.wait_for_line("Uvicorn running on ", count=addresses)
        yield server
    finally:
        server.close()


def run_command(
    folder: Path, *arguments: str, env: dict[str, str] | None = None, program: Sequence[str] = ("-m", "uvicorn")
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LONGEST_WAIT,
        check=False,
    )


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment without variables that set options, with our package on the path."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("UVICORN_")}
    here = str(Path(uvicorn.__file__).parents[1])
    # A socket that is left open is to be seen on stderr.
    return {
        **kept,
        "PYTHONPATH": here,
        "PYTHONWARNINGS": "always::ResourceWarning",
        "PYTHONUNBUFFERED": "1",
        **(more or {}),
    }
