"""The loop factory of zuvloop. `--loop zuvloop` means `--loop auto`."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable


def zuvloop_loop_factory(use_subprocess: bool = False) -> Callable[[], AbstractEventLoop]:
    """Return the event loop factory of zuvloop. Raises ImportError if zuvloop is missing."""
    import zuvloop

    factory: Callable[[], AbstractEventLoop] = zuvloop.new_event_loop
    return factory
