"""The loop factory of `--loop asyncio`."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable

from uvicorn.server.loops import loop_factory


def asyncio_loop_factory(use_subprocess: bool = False) -> Callable[[], AbstractEventLoop]:
    """Return the function that makes the event loop; `use_subprocess` makes no difference."""
    return loop_factory("asyncio")
