"""`get_subprocess`, for programs that start worker processes themselves."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import SpawnProcess
from socket import socket

from uvicorn.config import Config

spawn = multiprocessing.get_context("spawn")


def get_subprocess(config: Config, target: Callable[..., None], sockets: list[socket]) -> SpawnProcess:
    """Return an unstarted process that will call `target(sockets=sockets)`. All arguments must be picklable."""
    try:
        stdin = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        stdin = None
    return spawn.Process(target=subprocess_started, args=(config, target, sockets, stdin))


def subprocess_started(
    config: Config, target: Callable[..., None], sockets: list[socket], stdin_fileno: int | None
) -> None:
    """Set up the new process, and call `target`."""
    # Debuggers read from the parent's stdin.
    if stdin_fileno is not None:
        sys.stdin = os.fdopen(stdin_fileno, closefd=False)
    config.configure_logging()
    with suppress(KeyboardInterrupt):
        target(sockets=sockets)
