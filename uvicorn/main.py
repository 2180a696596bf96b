"""`uvicorn.run`: in this process, or with a supervisor and workers."""

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

# What a worker runs first: it leaves Ctrl-C to its supervisor, and looks for modules where that does, before it looks
# for us.
_WORKER: Final = """
import pickle, signal, sys
signal.signal(signal.SIGINT, lambda number, frame: None)
with open(int(sys.argv[1].rpartition(",")[2]), "rb", closefd=False) as told:
    sys.path[:] = pickle.load(told)
    from uvicorn.cli import work
    work(sys.argv[1], told)
"""

# A developer who has saved a file waits for it; what takes longer is broken off.
_GRACEFUL_SECONDS_WHEN_RELOADING: Final = 1.0


def run(app: Callable[..., Any] | str, **options: Any) -> None:
    """Serve `app`, an application or 'module:attribute', until SIGINT or SIGTERM.

    The keywords are those of `Config`, such as `host='127.0.0.1', port=8000`. Raises ConfigError for what cannot be
    used, StartupError if the application's own startup fails, SystemExit if workers could not go on.
    """
    config = Config(app, **options)
    status = serve(config)
    if status and (config.workers > 1 or config.reload):
        sys.exit(status)


def serve(config: Config, process_end: ProcessEnd | None = None) -> int:
    """Serve until told to stop; the exit code, which is 1 if something was broken off. Raises as `run` does.

    `process_end` begins when the server has stopped, if the process is ours to end.
    """
    standard_streams.occupy_standard_descriptors()
    if config.reload or config.workers > 1:
        return _supervise(config)
    # Here, as a supervisor, which serves nothing itself, takes 10 MiB less without it.
    from uvicorn.server.server import Server

    process_count.count = 1
    server = Server(config)
    if process_end is not None:
        _begin_when_stopped(process_end, server)
    server.run()
    return BROKEN_OFF if server.broken_off else 0


def serve_as_worker(config: Config, descriptors: list[int], process_end: ProcessEnd) -> int:
    """The same in a worker process; its sockets are inherited, and the last of them leads to its supervisor."""
    from uvicorn.server.supervisor_watch import SupervisorWatch
    from uvicorn.server.worker_server import WorkerServer

    config.configure_logging()
    process_count.count = config.workers
    for descriptor in descriptors:
        # Nor are they for those whom the application starts.
        os.set_inheritable(descriptor, False)
    *sockets, channel = (socket(fileno=descriptor) for descriptor in descriptors)
    watch = SupervisorWatch(channel, config.settings.graceful_seconds)
    watch.start()
    server = WorkerServer(config, channel, watch)
    _begin_when_stopped(process_end, server)
    try:
        server.run(sockets)
    finally:
        # The interpreter gives handlers up before it ends, and would then be killed, which looks like a failure.
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
            f"{what}: expected the application as 'module:attribute', for workers import it themselves; "
            f"got {type(config.app).__name__} {config.app!r:.100}"
        )
    # What is wrong with the certificates is told once, and before anything is started.
    scheme = "https" if config.ssl_context() is not None else "http"
    settings = config.settings
    if config.reload:
        graceful = min(settings.graceful_seconds, _GRACEFUL_SECONDS_WHEN_RELOADING)
        config.settings = settings = replace(settings, graceful_seconds=graceful)
    try:
        payload = pickle.dumps(sys.path) + pickle.dumps(config)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ConfigError(f"{what}: the configuration cannot be handed to another process: {error}") from None
    # Last, as nobody would close them.
    sockets = config.open_sockets()
    command = [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", _WORKER]  # type: ignore[attr-defined]
    more: dict[str, Any] = {
        "scheme": scheme,
        # Whoever sits in a debugger is not stuck.
        "healthcheck_seconds": math.inf if config.reload else settings.healthcheck_seconds,
        "graceful_seconds": settings.graceful_seconds,
    }
    if not config.reload:
        return Supervisor(command, payload, sockets, config.workers, **more).run()
    selection = Selection(config.reload_dirs, config.reload_includes, config.reload_excludes)
    return Reloader(command, payload, sockets, 1, selection=selection, interval=config.reload_delay, **more).run()
