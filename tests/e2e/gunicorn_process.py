"""gunicorn with our worker, in a process of its own, as a user starts it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from gunicorn.config import KNOWN_SETTINGS

from tests.e2e.server_process import ServerProcess, running_server

WORKER: Final = "uvicorn.workers.UvicornWorker"

_KNOWN: Final = {setting.name for setting in KNOWN_SETTINGS}

#: The settings that the tests of this suite cover.
COVERED: Final[set[str]] = set()


def covers(*names: str) -> Callable[[Any], Any]:
    """Mark a test as the test of the named settings."""
    COVERED.update(names)
    return lambda test: test


def knows(name: str) -> bool:
    """Return whether this version of gunicorn has the setting."""
    return name in _KNOWN


class Gunicorn(ServerProcess):
    """A running gunicorn."""

    @property
    def workers(self) -> list[int]:
        """Return the process ids of the workers, in the order of their start."""
        return [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", self.stderr)]

    def wait_for_workers(self, count: int) -> None:
        """Wait until `count` workers in all have begun to serve."""
        self.wait_for_line("Uvicorn running on ", count=count)

    def wait_for_exits(self, count: int) -> None:
        """Wait until `count` workers in all have ended."""
        self.wait_for_line("Worker exiting", count=count)

    def signal_worker(self, number: int) -> None:
        """Send a signal to the worker that was started last."""
        os.kill(self.workers[-1], number)


@contextmanager
def running_gunicorn(
    folder: Path,
    app: str,
    *arguments: str,
    workers: int = 1,
    env: dict[str, str] | None = None,
    worker_class: str = WORKER,
    said: bool = True,
) -> Iterator[Gunicorn]:
    """Run gunicorn in `folder` with the number `workers` of workers. Kill gunicorn and its workers at the end.

    It listens on a free port of 127.0.0.1 unless `arguments` say where. With `said` false nothing on stderr shows when
    it serves, so it may not have begun to.
    """
    if not any(argument in ("-b", "--bind") for argument in arguments):
        arguments = (*arguments, "-b", "127.0.0.1:0")
    if knows("control_socket_disable"):
        # It would be the same for every gunicorn of this user.
        arguments = (*arguments, "--no-control-socket")
    with running_server(
        folder,
        app,
        *(("-k", worker_class) if worker_class else ()),
        *(("-w", str(workers)) if workers > 1 else ()),
        *arguments,
        env=env,
        program=("-m", "gunicorn"),
        addresses=0,
        kind=Gunicorn,
    ) as server:
        try:
            if said:
                server.wait_for_workers(workers)
            yield server
        finally:
            # An arbiter that is killed leaves its workers to find out.
            for pid in server.workers:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
