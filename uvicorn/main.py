"""`uvicorn.run`: serve in this process, or with a supervisor and workers."""

from __future__ import annotations

import math
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from socket import socket
from typing import TYPE_CHECKING, Any, Final

from uvicorn import process_count, standard_streams
from uvicorn.config import Config
from uvicorn.errors import ConfigError
from uvicorn.server.process_end import ProcessEnd
from uvicorn.server.reloader import Reloader, Selection
from uvicorn.server.supervisor import BROKEN_OFF, Supervisor

if TYPE_CHECKING:
    from uvicorn.server.server import Server

# The program of a worker process. It leaves Ctrl-C to the supervisor, and takes over the supervisor's sys.path before
# it imports uvicorn.
_WORKER: Final = """
import pickle, signal, sys
signal.signal(signal.SIGINT, lambda number, frame: None)
with open(int(sys.argv[1].rpartition(",")[2]), "rb", closefd=False) as payload:
    sys.path[:] = pickle.load(payload)
    from uvicorn.cli import work
    work(sys.argv[1], payload)
"""

# A developer waits for the restart after saving a file, so requests that take longer are aborted.
_GRACEFUL_SECONDS_WHEN_RELOADING: Final = 1.0


def run(app: Callable[..., Any] | str, **options: Any) -> None:
    """Serve `app`, an application or 'module:attribute', until SIGINT or SIGTERM.

    The keywords are those of `Config`, such as `host='127.0.0.1', port=8000`. Raises ConfigError for an invalid
    setting, StartupError if the application's own startup fails, SystemExit if the supervisor gives up.
    """
    config = Config(app, **options)
    status = serve(config)
    if status and (config.workers > 1 or config.reload):
        sys.exit(status)


def serve(config: Config, process_end: ProcessEnd | None = None) -> int:
    """Serve until a signal stops the server; return the exit code, 1 if requests were aborted. Raise as `run` does.

    With `process_end`, the process ends when the server has stopped, even if application threads still run.
    """
    standard_streams.occupy_standard_descriptors()
    if config.reload or config.workers > 1:
        return _supervise(config)
    # Imported late: a supervisor does not need it and saves 10 MiB.
    from uvicorn.server.server import Server

    process_count.count = 1
    server = Server(config)
    if process_end is not None:
        _begin_when_stopped(process_end, server)
    server.run()
    return BROKEN_OFF if server.broken_off else 0


def serve_as_worker(config: Config, descriptors: list[int], process_end: ProcessEnd) -> int:
    """Serve in a worker process on inherited sockets; the last one is the channel to the supervisor."""
    from uvicorn.server.supervisor_watch import SupervisorWatch
    from uvicorn.server.worker_server import WorkerServer

    config.configure_logging()
    process_count.count = config.workers
    for descriptor in descriptors:
        # Processes that the application starts must not inherit the sockets.
        os.set_inheritable(descriptor, False)
    *sockets, channel = (socket(fileno=descriptor) for descriptor in descriptors)
    watch = SupervisorWatch(channel, config.settings.graceful_seconds)
    watch.start()
    server = WorkerServer(config, channel, watch)
    _begin_when_stopped(process_end, server)
    try:
        server.run(sockets)
    finally:
        # The interpreter removes signal handlers before it exits; a signal would then kill it and look like a failure.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        watch.finish()
    return BROKEN_OFF if server.broken_off else 0


def _begin_when_stopped(process_end: ProcessEnd, server: Server) -> None:
    server.on_stopped = lambda seconds: process_end.begin(BROKEN_OFF if server.broken_off else 0, seconds)


def _supervise(config: Config) -> int:
    what = "reload" if config.reload else "workers"
    if not isinstance(config.app, str):
        raise ConfigError(
            f"{what}: expected the application as 'module:attribute', because workers import it; "
            f"got {type(config.app).__name__} {config.app!r:.100}"
        )
    # Report certificate errors once, before any worker starts.
    scheme = "https" if config.ssl_context() is not None else "http"
    settings = config.settings
    if config.reload:
        graceful = min(settings.graceful_seconds, _GRACEFUL_SECONDS_WHEN_RELOADING)
        config.settings = settings = replace(settings, graceful_seconds=graceful)
    try:
        payload = pickle.dumps(sys.path) + pickle.dumps(config)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(f"{what}: the configuration cannot be pickled for worker processes: {error}") from None
    # Last: after an earlier error the sockets would stay open.
    sockets = config.open_sockets()
    command = [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", _WORKER]  # type: ignore[attr-defined]
    more: dict[str, Any] = {
        "scheme": scheme,
        # A worker that a debugger has paused must not be killed.
        "healthcheck_seconds": math.inf if config.reload else settings.healthcheck_seconds,
        "graceful_seconds": settings.graceful_seconds,
    }
    if not config.reload:
        return Supervisor(command, payload, sockets, config.workers, **more).run()
    selection = Selection(config.reload_dirs, config.reload_includes, config.reload_excludes)
    return Reloader(command, payload, sockets, 1, selection=selection, interval=config.reload_delay, **more).run()
