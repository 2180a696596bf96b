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
    """Return an event loop factory. `name` may be 'module:factory'. Raises ConfigError."""
    if ":" in name:
        try:
            factory: Callable[[], asyncio.AbstractEventLoop] = resolve_name(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"loop {name!r} cannot be imported: {error}; expected 'module:factory'") from None
        if not callable(factory):
            raise ConfigError(f"loop {name!r}: expected a callable that returns an event loop, got {factory!r:.60}")
        return factory
    if name not in LOOP_NAMES:
        raise ConfigError(f"loop: expected one of {', '.join(LOOP_NAMES)}, or 'module:factory', got {name!r}")
    if name == "asyncio" or (name == "auto" and find_spec("uvloop") is None):
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError as error:
        raise ConfigError(f"loop 'uvloop' cannot be used: {error}; install uvloop, or pass --loop asyncio") from None
    return uvloop.new_event_loop


def run(main: Coroutine[Any, Any, None], name: str = "auto") -> None:
    """Run `main` to completion on a new event loop."""
    if asyncio._get_running_loop() is not None:
        main.close()
        raise RuntimeError(
            "an event loop runs in this thread already; await uvicorn.Server(uvicorn.Config(app)).serve(), or start "
            "the server in another thread"
        )
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
                    # This is a forked child of the application: the event loop belongs to its parent.
                    forks.end_fork(error)
                # Only the task that has raised ends, unless it is `main`, or Python's own handler has raised at Ctrl-C.
                if task.done() or (
                    isinstance(error, KeyboardInterrupt)
                    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
                ):
                    raise
                logger.warning("a task raised %.200r; the event loop continues", error)
