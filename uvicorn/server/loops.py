"""Event loops: uvloop where it is installed, asyncio's own otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

from uvicorn.errors import ConfigError

LOOP_NAMES = ("auto", "uvloop", "asyncio")


def loop_factory(name: str = "auto") -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop called `name`. ConfigError if it is unknown or not installed."""
    if name not in LOOP_NAMES:
        raise ConfigError(f"loop: expected one of {', '.join(LOOP_NAMES)}, got {name!r}")
    if name == "asyncio" or (name == "auto" and find_spec("uvloop") is None):
        return asyncio.new_event_loop
    try:
        import uvloop
    except ImportError as error:
        raise ConfigError(f"loop 'uvloop' cannot be used: {error}; install uvloop, or pass --loop asyncio") from None
    return uvloop.new_event_loop


def run(main: Coroutine[Any, Any, None], name: str = "auto") -> None:
    """Run `main` to its end on a new event loop of the kind called `name`."""
    try:
        factory = loop_factory(name)
    except ConfigError:
        main.close()
        raise
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main)
