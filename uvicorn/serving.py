"""Serves a configuration in this process or in worker processes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socket import socket
from typing import TYPE_CHECKING

from uvicorn import process_count
from uvicorn.config import Config
from uvicorn.server import BROKEN_OFF
from uvicorn.server.process_end import ProcessEnd, SupervisorWatch

if TYPE_CHECKING:
    from uvicorn.server.server import Server


def serve(config: Config, process_end: ProcessEnd | None = None) -> int:
    """Serve until the server stops. Return the exit code. Raises ConfigError and StartupError."""
    occupy_standard_descriptors()
    # Imported late: a supervisor saves 10 MiB without the server, a single process 0.2 MiB without the supervisor.
    if config.reload or config.workers > 1:
        from uvicorn.supervisors import ChangeReload, Multiprocess

        supervisor = ChangeReload(config) if config.reload else Multiprocess(config)
        supervisor.run()
        return supervisor.status
    from uvicorn.server.server import Server

    process_count.count = 1
    server = Server(config)
    if process_end is not None:
        # Ends the process even if application threads still run.
        _begin_when_stopped(process_end, server)
    try:
        server.run()
    except KeyboardInterrupt:
        if not server.interrupted:
            raise
    return BROKEN_OFF if server.broken_off else 0


def occupy_standard_descriptors() -> None:
    """Open /dev/null for each closed standard stream."""
    # Otherwise a socket could get the free descriptor.
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # os.open returns the lowest free descriptor, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def serve_as_worker(
    config: Config, target: Callable[..., object] | None, descriptors: list[int], end: ProcessEnd
) -> int:
    """Run a worker process. Return the exit code."""
    from uvicorn.server.worker_server import WorkerServer

    config.configure_logging()
    process_count.count = config.workers
    for descriptor in descriptors:
        # Processes that the application starts must not inherit the sockets.
        os.set_inheritable(descriptor, False)
    # The last descriptor is the socket to the supervisor.
    *sockets, channel = (socket(fileno=descriptor) for descriptor in descriptors)
    watch = SupervisorWatch(channel, config.settings.graceful_seconds)
    watch.start()
    if target is not None:
        threading.Thread(target=_report, args=(channel,), name="uvicorn-heartbeat", daemon=True).start()
        target(sockets=sockets)
        return 0
    server = WorkerServer(config, channel, watch)
    _begin_when_stopped(end, server)
    try:
        server.run(sockets)
    finally:
        # The interpreter removes signal handlers before it exits; a signal would then kill it and look like a failure.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        watch.finish()
    return BROKEN_OFF if server.broken_off else 0


def _report(channel: socket) -> None:
    # OSError: the supervisor has died.
    with suppress(OSError):
        channel.sendall(b"ready\n")
        while True:
            time.sleep(1)
            channel.sendall(b"alive\n")


def _begin_when_stopped(process_end: ProcessEnd, server: Server) -> None:
    server.on_stopped = lambda seconds: process_end.begin(BROKEN_OFF if server.broken_off else 0, seconds)
