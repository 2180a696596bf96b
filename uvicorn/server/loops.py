"""Event loops: uvloop if it is installed, otherwise asyncio's own."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

from uvicorn import forks
from uvicorn.errors import ConfigError
from uvicorn.settings import LOOP_NAMES

logger = logging.getLogger("uvicorn.error")


def loop_factory(name: str = "auto") -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the factory of the event loop called `name`, which may be 'module:factory'.

    Raises ConfigError if it is unknown or not installed.
    """
    if ":" in name:
        return _imported(name)
    if name not in LOOP_NAMES:
        raise ConfigError(f"loop: expected one of {', '.join(LOOP_NAMES)}, or 'module:factory', got {name!r}")
    if name == "asyncio" or (name == "auto" and find_spec("uvloop") is None):
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError as error:
        raise ConfigError(f"loop 'uvloop' cannot be used: {error}; install uvloop, or pass --loop asyncio") from None
    return uvloop.new_event_loop


def _imported(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        factory: Callable[[], asyncio.AbstractEventLoop] = resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"loop {name!r} cannot be imported: {error}; expected 'module:factory'") from None
    if not callable(factory):
        raise ConfigError(f"loop {name!r}: expected a callable that returns an event loop, got {factory!r:.60}")
    return factory


def run(main: Coroutine[Any, Any, None], name: str = "auto") -> None:
    """Run `main` to completion on a new event loop of the kind called `name`.

    A SystemExit or KeyboardInterrupt in another task ends only that task.
    """
    try:
        factory = loop_factory(name)
    except ConfigError:
        main.close()
        raise
    inherited = forks.forks
    with asyncio.Runner(loop_factory=factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        while True:
            try:
                return loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                if inherited != forks.forks:
                    # A child of the application's: the loop is its parent's.
                    forks.end_fork(error)
                # A task's comes out here, and its own callbacks hear of it when the loop goes on. Unless it is the
                # task's that we run, or a Ctrl-C that nobody has taken over.
                if task.done() or (
                    isinstance(error, KeyboardInterrupt)
                    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
                ):
                    raise
                logger.warning("%.200r in a task; the event loop continues", error)
