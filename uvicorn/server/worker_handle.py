"""Starts worker processes, and holds their state for the supervisor."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from uvicorn.server.metrics import Totals
    from uvicorn.server.metrics_listener import MetricsListener

# Lines with numbers for metrics take some KiB each.
_READ_BYTES: Final = 65536
_LONGEST_LINE_BYTES: Final = 2 << 20


@dataclass(eq=False)
class Worker:
    """A worker process and its channel to the supervisor."""

    process: subprocess.Popen[bytes]
    channel: socket.socket
    #: The worker that stops as soon as this one is ready.
    replaces: Worker | None
    last_report: float = field(default_factory=time.monotonic)
    #: When it reported that it was ready; 0 until then.
    ready: float = 0.0
    #: When the supervisor asked it to stop; 0 until then.
    stopped: float = 0.0
    #: When to kill it; 0 for never, infinity after it has been killed.
    deadline: float = 0.0
    slow_start_logged: bool = False
    #: The bytes of a line that has not arrived whole.
    buffer: bytes = b""

    def received_lines(self) -> list[tuple[str, str]] | None:
        """Return the lines received, as `(word, rest)`. For a closed channel, return None."""
        try:
            data = self.channel.recv(_READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        *lines, rest = (self.buffer + data).split(b"\n")
        # A worker sends no longer line.
        self.buffer = rest if len(rest) <= _LONGEST_LINE_BYTES else b""
        return [(word, rest) for word, _, rest in (line.decode().partition(" ") for line in lines)]


@final
class WorkerMetrics:
    """Adds up the metrics of all workers. Without `address`, does nothing."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.totals: Totals | None = None
        self._listener: MetricsListener | None = None

    def open(self) -> None:
        """Serve the metrics. Raises ConfigError for an unusable address."""
        if self._address:
            # Imported late: a supervisor without metrics saves 0.4 MiB.
            from uvicorn.server.metrics import Totals
            from uvicorn.server.metrics_listener import MetricsListener

            self.totals = Totals()
            self._listener = MetricsListener(self._address, self.totals.text)

    def close(self) -> None:
        """Stop serving the metrics."""
        if self._listener is not None:
            self._listener.close()

    def update(self, worker: Worker, line: str) -> None:
        """Store the numbers that `worker` has sent in `line`."""
        if self.totals is not None:
            self.totals.update_from(worker.process.pid, line)

    def end(self, worker: Worker) -> None:
        """Read the last metrics of a worker that has ended."""
        if self.totals is None:
            return
        known = -1
        # Until a read adds nothing: another process may hold the channel open.
        while len(worker.buffer) != known:
            known = len(worker.buffer)
            for word, rest in worker.received_lines() or ():
                if word == "metrics":
                    self.update(worker, rest)
                    known = -1
        self.totals.end(worker.process.pid)


def start_worker(
    command: Sequence[str], payload: bytes, sockets: Sequence[socket.socket], replaces: Worker | None
) -> Worker:
    """Start a worker process that inherits `sockets`. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        inherited = [*(sock.fileno() for sock in sockets), theirs.fileno()]
        # The last argument lists the descriptors, and the socket pair's descriptor comes last.
        process = subprocess.Popen([*command, ",".join(map(str, inherited))], pass_fds=inherited)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    # OSError if the worker has died, which the supervisor sees later.
    with suppress(OSError):
        ours.sendall(payload)
    ours.setblocking(False)
    return Worker(process, ours, replaces)


def describe_end(status: int) -> str:
    """Describe an exit code for the log."""
    if status >= 0:
        return f"has ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
