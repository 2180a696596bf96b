"""Supervisors: `Multiprocess` runs several workers, and `ChangeReload` restarts one worker."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from socket import socket
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.errors import ConfigError
from uvicorn.server.reloader import Reloader, Selection
from uvicorn.server.supervisor import Supervisor

__all__ = ["BaseReload", "ChangeReload", "Multiprocess"]

# The program of a worker process. It leaves Ctrl-C to the supervisor.
_WORKER: Final = """
import pickle, signal, sys
signal.signal(signal.SIGINT, lambda number, frame: None)
with open(int(sys.argv[1].rpartition(",")[2]), "rb", closefd=False) as payload:
    sys.path[:] = pickle.load(payload)
    from uvicorn.cli import work
    work(sys.argv[1], payload)
"""


class Multiprocess:
    """Runs `target(sockets=sockets)` in each of `config.workers` processes.

    The default `target` is `Server(config).run`. `target` must be picklable. Without `sockets`, `run` opens the
    configured sockets.
    """

    what = "workers"
    #: The longest grace period.
    most_graceful_seconds = math.inf

    def __init__(self, config: Config, target: Any = None, sockets: Sequence[socket] | None = None) -> None:
        if sockets is None and isinstance(target, (list, tuple)):
            # The public release has dropped `target` here.
            target, sockets = None, target
        self.config = config
        self.target = target
        self.sockets = sockets
        #: The exit code, after `run`.
        self.status = 0

    def run(self) -> None:
        """Serve until a stop signal or a failure of the workers, then set `status`. Raises ConfigError."""
        config = self.config
        target = None if _is_run_of(self.target, config) else self.target
        if target is None and not isinstance(config.app, str):
            raise ConfigError(
                f"{self.what}: expected the application as 'module:attribute', because workers import it; "
                f"got {type(config.app).__name__} {config.app!r:.100}"
            )
        # Report certificate errors once, before any worker starts.
        scheme = "https" if config.ssl_context() is not None else "http"
        if config.settings.graceful_seconds > self.most_graceful_seconds:
            config.timeout_graceful_shutdown = self.most_graceful_seconds
        main_script = None if target is None else _main_script()
        try:
            payload = pickle.dumps(sys.path) + pickle.dumps(main_script) + pickle.dumps((config, target))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ConfigError(f"{self.what}: the configuration cannot be pickled for workers: {error}") from None
        # Last: after an earlier error the sockets would stay open.
        sockets = config.open_sockets() if self.sockets is None else self.sockets
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        self.status = self.supervisor([sys.executable, *flags, "-c", _WORKER], payload, sockets, scheme).run()

    def supervisor(self, command: Sequence[str], payload: bytes, sockets: Sequence[socket], scheme: str) -> Supervisor:
        return Supervisor(command, payload, sockets, self.config.workers, self.config.settings, scheme)


class ChangeReload(Multiprocess):
    """Serves in one process, and restarts the process when a file changes."""

    what = "reload"
    # A developer waits for the restart after saving a file, so requests that take longer are aborted.
    most_graceful_seconds = 1.0

    def supervisor(self, command: Sequence[str], payload: bytes, sockets: Sequence[socket], scheme: str) -> Supervisor:
        config = self.config
        return Reloader(
            command,
            payload,
            sockets,
            1,
            config.settings,
            scheme,
            selection=Selection(config.reload_dirs or [Path.cwd()], config.reload_includes, config.reload_excludes),
            interval=config.reload_delay,
        )


#: The public release's base class of reloaders. Of a subclass, only `run` is called.
BaseReload = ChangeReload


def _main_script() -> dict[str, Any]:
    # Imported late: few programs need it.
    from multiprocessing.spawn import get_preparation_data

    # RuntimeError in such a worker, so that an unguarded script cannot start further workers.
    # The name that programs find there; `authkey` has a class that cannot be pickled.
    preparation = get_preparation_data("SpawnProcess-1")
    return {**preparation, "authkey": bytes(preparation["authkey"])}


def _is_run_of(target: Callable[..., object] | None, config: Config) -> bool:
    if target is None:
        return True
    from uvicorn.server.server import Server

    owner = getattr(target, "__self__", None)
    return type(owner) is Server and owner.config is config and getattr(target, "__func__", None) is Server.run
