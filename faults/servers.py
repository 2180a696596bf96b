"""Server processes, and their measurements from the kernel."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from .clients import get

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 5.0

# Settings of the caller's shell that would change what the server does.
_FOREIGN: Final = ("PYTHON", "UVICORN_")


# Arguments of `python -m` that serve an application on any free port; each says on stderr which it is.
HOSTS: Final = {
    # Its sync workers say that they live between requests only; a gibibyte may take longer than gunicorn's 30 seconds.
    "gunicorn-sync": ("gunicorn", "-b", "127.0.0.1:0", "--no-control-socket", "-k", "sync", "--timeout", "600"),
    "gunicorn-gthread": ("gunicorn", "-b", "127.0.0.1:0", "--no-control-socket", "-k", "gthread", "--threads", "8"),
    "waitress": ("waitress", "--listen=127.0.0.1:0", "--threads=8"),
}


class CaseFailed(Exception):
    """A run without a result; the text has the reason."""


class Server:
    """A running server process."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.port = 0
        #: How many tracebacks it is expected to log: its application's.
        self.tracebacks_allowed = 0
        self._stdout = folder / "stdout"
        self._stderr = folder / "stderr"
        self._proc = Path("/proc", str(process.pid))
        self._idle = 0
        self._terminated = False
        self._sampler: _Sampler | None = None

    def await_start(self, tls: bool = False) -> None:
        """Wait until it says where it listens; then have it serve a little, so that nothing is made lazily later.

        Not over TLS: the clients here do not speak it.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            match = re.search(r"https?://127\.0\.0\.1:(\d+)", self.stderr())
            if match is not None:
                self.port = int(match[1])
                break
            time.sleep(0.02)
        else:
            raise CaseFailed(f"the server did not start: {self.stderr()[-500:]}")
        for _ in range(0 if tls else 50):
            get(self.port)
        children = (self._proc / "task" / str(self.process.pid) / "children").read_text().split()
        if children:
            # A host's worker is what counts, not the process that looks after it.
            self._proc = Path("/proc", children[0])

    def stdout(self) -> str:
        """Return its output so far."""
        return self._stdout.read_text(errors="replace")

    def stderr(self) -> str:
        """Return its log so far."""
        return self._stderr.read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """Return its user and system time so far, in steps of 10 ms."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def thread_seconds(self) -> float:
        """Return the CPU time so far of all threads but the main thread, in nanosecond steps."""
        threads = [task for task in (self._proc / "task").iterdir() if task.name != str(self.process.pid)]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in threads) / 1e9

    def await_quiet(self, seconds: float) -> bool:
        """Wait until it uses hardly any CPU; return whether that happened in time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            before = self.cpu_seconds()
            time.sleep(0.5)
            if self.cpu_seconds() - before < 0.05:
                return True
        return False

    def descriptors(self) -> int:
        """Return the number of its open descriptors."""
        return len(os.listdir(self._proc / "fd"))

    def rss(self) -> int:
        """Return its resident bytes."""
        return self._status("VmRSS")

    def mark_idle(self) -> None:
        """Record the RSS as the base of `growth`, after a pause for one clock tick."""
        time.sleep(1.2)
        try:
            # Sets VmHWM back to what is resident now.
            (self._proc / "clear_refs").write_text("5")
        except OSError:
            self._sampler = _Sampler(self.rss)
        self._idle = self.rss()

    def growth(self) -> int:
        """Return its resident bytes, less those when idle."""
        return self.rss() - self._idle

    def peak_growth(self) -> int:
        """Return the peak of its resident bytes since `mark_idle`, less those when idle."""
        peak = self._sampler.stop() if self._sampler is not None else self._status("VmHWM")
        return max(peak, self.rss()) - self._idle

    def terminate(self, seconds: float, number: int = signal.SIGTERM) -> int:
        """Send a signal that ends it; return the exit code."""
        self._terminated = True
        self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise CaseFailed(f"the server did not stop within {seconds:g} seconds") from None

    def check(self) -> None:
        """Fail if it has ended or has logged a traceback: no client may cause either."""
        if not self._terminated and self.process.poll() is not None:
            raise CaseFailed(f"the server exited with {self.process.returncode}: {self.stderr()[-500:]}")
        if self.stderr().count("Traceback") > self.tracebacks_allowed:
            raise CaseFailed(f"traceback on stderr: {self.stderr().strip().splitlines()[-1]}")

    def _status(self, name: str) -> int:
        match = re.search(rf"^{name}:\s+(\d+) kB", (self._proc / "status").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) * 1024


class _Sampler:
    """The maximum of many readings, for systems where the kernel's peak cannot be reset."""

    def __init__(self, rss: Callable[[], int]) -> None:
        self._rss = rss
        self._peak = rss()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._stopped.wait(0.01):
            try:
                self._peak = max(self._peak, self._rss())
            except OSError:
                return


class Workshop:
    """Starts servers in a folder with the applications, on the event loop to use."""

    def __init__(self, folder: Path, loop: str, descriptors: int, transfer_mebibytes: int) -> None:
        self.folder = folder
        self.loop = loop
        self.descriptors = descriptors
        self.transfer_mebibytes = transfer_mebibytes
        for name in ("app", "websocket_app", "wsgi_app"):
            (folder / f"{name}.py").write_text(Path(__file__).with_name(f"{name}s.py").read_text())

    @contextmanager
    def server(
        self, app: str = "serve", *options: str, module: str = "app", descriptors: int = 0, tls: bool = False
    ) -> Iterator[Server]:
        """Start a server, and kill it at the end. `descriptors` limits its descriptors."""
        command = ["uvicorn", f"{module}:{app}", "--bind", "127.0.0.1:0", "--no-access-log", "--loop", self.loop]
        with self._running([*command, *options], descriptors, tls) as server:
            yield server

    @contextmanager
    def host(self, name: str, app: str) -> Iterator[Server]:
        """Start one of `HOSTS`, a WSGI host of another project, with an application of wsgi_app.py."""
        module = HOSTS[name][0]
        if importlib.util.find_spec(module) is None:
            raise CaseFailed(f"{module} is not installed: pip install '.[test]'")
        with self._running([*HOSTS[name], f"wsgi_app:{app}"]) as server:
            yield server

    @contextmanager
    def _running(self, arguments: Sequence[str], descriptors: int = 0, tls: bool = False) -> Iterator[Server]:
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            process = self._start([sys.executable, "-m", *arguments], Path(place), descriptors)
            try:
                server = Server(process, Path(place))
                server.await_start(tls)
                yield server
                server.check()
            finally:
                _kill(process)

    def _start(self, command: Sequence[str], place: Path, descriptors: int) -> subprocess.Popen[bytes]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        limit = descriptors or self.descriptors
        with open(place / "stdout", "wb") as stdout, open(place / "stderr", "wb") as stderr:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
            )


def _kill(process: subprocess.Popen[bytes]) -> None:
    # Handlers that sleep for an hour would be given their grace; nobody waits for them here.
    # The whole session, because hosts have workers.
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait(_STOP_SECONDS)
